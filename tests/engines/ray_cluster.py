"""A Ray cluster on this host: a head without CPUs, and nodes that can be added and killed."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_SECONDS = 120  # of one `ray start`, 5 to 10 on two idle cores; with a wrong token it would wait for ever
STARTS = 3  # Ray itself gives up after 30 s, which a machine that is busy may need
STORE_BYTES = 100_000_000


class RayCluster:
    """What `ray start` made, by process id; each node's processes carry its mark in their environment."""

    MARK = "SCALING_TEST_NODE"

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self._folder = folder
        self._names: list[str] = []
        self._sessions: dict[str, int] = {}
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(secrets.token_hex(32))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        """With which drivers may connect."""

    def start_head(self) -> None:
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        self._start(
            "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self._folder}"
        )
        self.address = f"127.0.0.1:{port}"

    def add_node(self, cpus: int = 1, gpus: int = 0, environment: Mapping[str, str] | None = None) -> str:
        """Add a node; returns the name by which it can be killed."""
        return self._start(
            f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}", environment=environment
        )

    def kill_node(self, name: str) -> None:
        """As a loss of power: all processes of the node at once, also those that its workers started."""
        _kill(self._sessions.pop(name), name)

    def stop(self) -> None:
        """Leave nothing of it."""
        for name in list(self._sessions):
            self.kill_node(name)

    def _start(self, *options: str, environment: Mapping[str, str] | None = None) -> str:
        name = f"{self._folder}/{len(self._names)}"
        self._names.append(name)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        said = ""
        for _ in range(STARTS):
            start = subprocess.Popen(
                [*command, "--disable-usage-stats", f"--object-store-memory={STORE_BYTES}"],
                env={**os.environ, **self.environment, **(environment or {}), self.MARK: name},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._sessions[name] = start.pid
            said, _ = start.communicate(timeout=START_SECONDS)
            if start.returncode == 0:
                return name
            self.kill_node(name)
        raise AssertionError(said)


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[RayCluster]:
    """A head and so many nodes of one CPU; nothing is left of them afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short, since sockets' paths may not be long
    cluster = RayCluster(folder)
    try:
        cluster.start_head()
        for _ in range(nodes):
            cluster.add_node()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _kill(session: int, mark: str) -> None:
    """SIGKILL to all of a node, until none is left: some may be starting others."""

    def belongs(process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):  # Ray's own processes change their titles and lose their environment
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and (os.getsid(process.pid) == session or process.environ().get(RayCluster.MARK) == mark)
        return False

    while processes := [process for process in psutil.process_iter() if belongs(process)]:
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5)
