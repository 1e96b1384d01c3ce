"""What of the Ray engine can be tried without a cluster; most of it also without Ray."""

import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from scaling.errors import ScalingError, UsageError
from scaling.grid.engines import supervisor
from scaling.grid.engines.on_node import Order, Outcome, Part, Surroundings, find_meeting, run_command, torchrun
from scaling.grid.engines.ray import RayScheduler, what_lacks
from scaling.grid.engines.scheduler import Needs

NODES = [{"memory": 8 * 2**30}, {"CPU": 8, "memory": 8 * 2**30}, {"CPU": 4, "GPU": 2, "memory": 4 * 2**30}]
LARGEST = "its largest node has 4 CPUs, 2 GPUs, 4.0 GiB of memory"
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def around(folder: Path, python_path: str | None = None, grace_seconds: float = 60) -> Surroundings:
    return Surroundings(inspect.getsource(supervisor), str(folder), python_path, grace_seconds)


def order(code: str, *arguments: object, seconds: int | None = None) -> Order:
    return Order(("-c", code, *map(str, arguments)), 3, seconds)


@pytest.mark.parametrize(
    ("needs", "lack"),
    [
        (Needs(8), None),
        (Needs(4, gpus=2, memory_bytes=4 * 2**30), None),
        (Needs(4, nodes=2), None),
        (Needs(8, gpus=1), f"no node has 8 CPUs, 1 GPU;\n{LARGEST}"),
        (Needs(8, nodes=2), f"2 nodes are needed, and 1 of 3 have 8 CPUs, 0 GPUs;\n{LARGEST}"),
        (
            Needs(1, memory_bytes=9 * 2**30),
            f"no node has 1 CPU, 0 GPUs, 9.0 GiB of memory;\n{LARGEST}",
        ),
    ],
)
def test_what_no_node_has_is_named_beside_the_largest(needs: Needs, lack: str | None) -> None:
    assert what_lacks(needs, NODES) == lack


def test_a_cluster_without_nodes_has_nothing() -> None:
    nodes: list[Mapping[str, float]] = []
    assert what_lacks(Needs(1), nodes) == "no node has 1 CPU, 0 GPUs;\nits largest node has 0 CPUs, 0 GPUs"


def test_a_command_runs_in_its_folder_with_its_threads_and_path(tmp_path: Path) -> None:
    code = "import os, sys; sys.exit('|'.join([os.getcwd(), *map(os.environ.get, ('OMP_NUM_THREADS', 'PYTHONPATH'))]))"
    outcome = run_command(around(tmp_path, "a:b"), order(code))
    assert outcome == Outcome(1, socket.gethostname(), f"{tmp_path}|3|a:b", False)
    elsewhere = run_command(around(tmp_path / "missing", "a:b"), order(code))
    assert elsewhere.last_line == f"{Path.cwd()}|3|a:b"


def test_a_command_that_was_killed_says_by_what(tmp_path: Path) -> None:
    outcome = run_command(around(tmp_path), order("import os; os.kill(os.getpid(), 9)"))
    assert (outcome.exit_code, outcome.last_line) == (137, "killed by SIGKILL")


def test_nothing_is_left_of_a_command_that_ended(tmp_path: Path) -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
sys.exit(str(child.pid))
"""
    outcome = run_command(around(tmp_path), order(code))
    assert outcome.last_line is not None
    assert not psutil.pid_exists(int(outcome.last_line))


def test_a_command_that_does_not_stop_in_its_grace_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    outcome = run_command(around(tmp_path, grace_seconds=1), order(code, seconds=2))
    assert (outcome.exit_code, outcome.out_of_time) == (137, True)


def test_what_ray_takes_for_ctrl_c_reaches_the_command_as_sigterm(tmp_path: Path) -> None:
    code = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
Path(sys.argv[1]).touch()
time.sleep(600)
"""

    def interrupt() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGINT)
    assert run_command(around(tmp_path), order(code, tmp_path / "began")).exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


@needs_ray
def test_the_first_node_of_several_is_where_they_meet() -> None:
    host, port = find_meeting().split(":")
    with socket.create_server((host, int(port))):
        pass
    commands = [torchrun(Part(rank, 2, 4, "name"), f"{host}:{port}", ("-m", "scaling")) for rank in range(2)]
    for command, is_host in zip(commands, ("true", "false"), strict=True):
        assert f"--nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint {host}:{port}" in " ".join(command)
        assert command[-4:] == ("--rdzv-conf", f"is_host={is_host}", "-m", "scaling")


@needs_ray
@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:", ":6379"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=f"--address {address}: give host:port"):
        RayScheduler(address)


@needs_ray
def test_where_nobody_listens_is_no_cluster() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ScalingError, match=f"no Ray cluster at {address}: .*refused; is its head running"):
        RayScheduler(address)


def test_a_missing_extra_is_named() -> None:
    code = """
import importlib.machinery, sys
class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "ray" else super().find_spec(name, path, target)
sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder] + [Hidden]
from scaling.errors import UsageError
from scaling.grid import Cluster
try:
    Cluster("ray", address="head:6379")
except UsageError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert said == "--engine ray: ray is not installed; run: pip install 'patch-scaling[ray]'\n"
