"""A real Slurm on this machine: a controller, two nodes and accounting, in a folder of their own.

    python -m tests.engines.slurm_server scaling run-grid digits-quick --engine slurm

starts it, runs the command with SLURM_CONF set, and stops all of it. Needs root, and Debian's packages, which it gets
with apt. Nothing else is written outside of the folder, and a Slurm that the machine may have is left alone.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "mariadb-install-db", "setpriv")
START_SECONDS = 60.0
NODES = ("node1", "node2")
CPUS = 4  # of each node, more than there may be: jobs of tests mostly wait
GPUS = 2
"""Of each node, plain files that stand for devices."""
ACCOUNT = "lab"

CONFIGURATION = """
ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# Requeued jobs wait until old credentials have expired: two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/{gather}
AccountingStorageType=accounting_storage/{storage}
{accounting}
ReturnToService=2
KillWait=5
MinJobAge={remember}
MaxArraySize=1001
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
{nodes}
PartitionName=ci Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=short Nodes=ALL MaxTime=2 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""
NODE = f"NodeName={{name}} NodeAddr=127.0.0.1 Port={{port}} CPUs={CPUS} RealMemory=4000 Gres=gpu:{GPUS}"
BECOME_NODE = 'hostname "$1" && mount --bind "$0/hosts" /etc/hosts && exec slurmd -D -N "$1" -f "$0/slurm.conf"'
"""Debian's Slurm allows one slurmd per host name; so each has a host name of its own, which its jobs can look up."""
ACCOUNTING = """
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database_daemon}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
"""
DATABASE_DAEMON = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={database_daemon}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=ci
StorageLoc=slurm_acct_db
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
USERS = ("'slurm'@'127.0.0.1'", "'slurm'@'localhost'")


def missing() -> str | None:
    """Why no server can be started here, or None where it can, if need be after `install`."""
    if sys.platform != "linux" or os.geteuid():
        return "a Slurm server for tests needs root on Linux"
    asked = subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True, text=True, check=False)
    if asked.returncode:
        return (
            f"a Slurm server for tests gives its nodes names of their own, which is not allowed: {asked.stderr.strip()}"
        )
    absent = _absent()
    return f"not installed, and no apt-get: {', '.join(absent)}" if absent and not shutil.which("apt-get") else None


def _absent() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install() -> str | None:
    """Get what is missing from Debian's packages, whose services are not started; returns why that failed, if it did.

    On a machine with systemd they start when it boots again.
    """
    if not _absent():
        return None
    policy = Path("/usr/sbin/policy-rc.d")
    had_policy = policy.exists()
    if not had_policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        _apt_get("update")  # also where it fails the packages may be known
        done = _apt_get("install", "--yes", "--no-install-recommends", *PACKAGES)
    finally:
        if not had_policy:
            policy.unlink()
    if not _absent():
        return None
    said = [line for line in done.stdout.splitlines() if line.startswith("E: ")]
    return f"apt-get did not install {', '.join(_absent())}: {' '.join(said) or f'exit code {done.returncode}'}"


def _apt_get(*command: str) -> subprocess.CompletedProcess[str]:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    options = ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"]
    return subprocess.run(
        ["apt-get", *options, *command],
        env=quiet,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def slurm_server(accounting: bool = True, remember_seconds: int = 3600) -> Iterator[Path]:
    """Two nodes with SLURM_CONF set to theirs, until the end.

    Args:
        accounting: whether there is sacct.
        remember_seconds: how long the controller knows jobs that have ended.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        with ExitStack() as daemons:
            _configure(folder, accounting, remember_seconds)
            key = folder / "munge.key"
            key.write_bytes(os.urandom(128))
            key.chmod(0o400)
            files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "seed"}
            options = [f"--{option}={folder / file}" for option, file in files.items()]
            _daemon(daemons, folder, "munged", "--foreground", "--force", f"--key-file={key}", *options)
            _wait_for((folder / "munge.socket").exists, "munged")
            if accounting:
                _start_accounting(daemons, folder)
            _daemon(daemons, folder, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
            (folder / "hosts").write_text("127.0.0.1 localhost " + " ".join(NODES) + "\n")
            for node in NODES:
                _daemon(daemons, folder, "unshare", "--uts", "--mount", "sh", "-c", BECOME_NODE, str(folder), node)
            idle = ["idle"] * len(NODES)
            said = folder / "unshare.out"
            _wait_for(lambda: _ask("sinfo", "-h", "-N", "-p", "ci", "-o", "%T").split() == idle, "the nodes", said)
            daemons.callback(_end_jobs)
            yield folder
    finally:
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def lose_node(folder: Path, node: str) -> None:
    """Kill all that runs on a node, for good, and tell the controller at once; by itself it notices after minutes."""
    daemon = (folder / f"slurmd.{node}.pid").read_text().strip()
    host = Path(f"/proc/{daemon}/ns/uts").readlink()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "ns" / "uts").readlink() == host:
                os.kill(int(process.name), signal.SIGKILL)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)


def _configure(folder: Path, accounting: bool, remember_seconds: int) -> None:
    ports = _free_ports(3 + len(NODES))
    host = socket.gethostname().split(".")[0]
    nodes = [NODE.format(name=name, port=port) for name, port in zip(NODES, ports[3:], strict=True)]
    values = {
        **{"folder": folder, "host": host, "nodes": "\n".join(nodes), "remember": remember_seconds},
        **{"controller": ports[0], "database_daemon": ports[1], "database": ports[2]},
        "storage": "slurmdbd" if accounting else "none",
        "gather": "linux" if accounting else "none",
        "accounting": ACCOUNTING.format(database_daemon=ports[1], folder=folder) if accounting else "",
    }
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    for number in range(GPUS):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    (folder / "state").mkdir()
    if accounting:
        secret = folder / "slurmdbd.conf"
        secret.write_text(DATABASE_DAEMON.format(**values))
        secret.chmod(0o600)
        (folder / "database.port").write_text(str(ports[2]))


def _start_accounting(daemons: ExitStack, folder: Path) -> None:
    data = folder / "database"
    data.mkdir()
    shutil.chown(data, "mysql", "mysql")
    make = ["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=socket"]
    subprocess.run([*make, "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
    here = [f"--socket={data}/s.sock", f"--pid-file={data}/m.pid", "--bind-address=127.0.0.1"]
    sizes = [f"--port={(folder / 'database.port').read_text()}", "--innodb-buffer-pool-size=64M"]
    patience = "--innodb-lock-wait-timeout=900"
    _daemon(daemons, folder, "mariadbd", "--no-defaults", f"--datadir={data}", *here, *sizes, patience, user="mysql")
    client = ["--no-defaults", "-S", f"{data}/s.sock"]
    _wait_for(lambda: "alive" in _ask("mariadb-admin", *client, "ping"), "mariadbd")
    rights = [f"create user {user} identified by 'ci'; grant all on slurm_acct_db.* to {user}" for user in USERS]
    subprocess.run(["mariadb", *client, "-e", "; ".join(["create database slurm_acct_db", *rights])], check=True)
    _daemon(daemons, folder, "slurmdbd", "-D")
    port = int(next(line[8:] for line in (folder / "slurmdbd.conf").read_text().split() if line.startswith("DbdPort=")))
    _wait_for(lambda: _listens(port), "slurmdbd")
    for what in (["cluster", "ci"], ["account", ACCOUNT], ["user", "root", f"account={ACCOUNT}"]):
        subprocess.run(["sacctmgr", "-i", "add", *what], check=True, stdout=subprocess.DEVNULL)


def _daemon(daemons: ExitStack, folder: Path, *command: str, user: str | None = None) -> None:
    """Start a program that ends with this process at the latest; one that changes its user by itself would not."""
    become = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    with (folder / f"{command[0]}.out").open("a") as output:
        process = subprocess.Popen(
            ["setpriv", *become, "--pdeathsig", "KILL", *command], stdout=output, stderr=output, start_new_session=True
        )
    daemons.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_jobs() -> None:
    subprocess.run(["scancel", "--full", "--signal=KILL", "-u", "root"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["scancel", "-u", "root"], check=False, stderr=subprocess.DEVNULL)
    _wait_for(lambda: not _ask("squeue", "-h"), "the jobs to end")


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _wait_for(condition: Callable[[], bool], what: str, said: Path | None = None) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > end:
            last = said.read_text()[-1000:] if said else ""
            raise TimeoutError(f"waited {START_SECONDS:g} s for {what}\n{last}")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main(command: list[str]) -> int:
    """Run a command beside the server."""
    if reason := missing() or install():
        print(reason, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with slurm_server():
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
