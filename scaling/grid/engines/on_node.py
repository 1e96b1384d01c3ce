"""What Ray's workers do: run a command under a supervisor.

Only the standard library, since it is sent to nodes by value: nothing of this package need be importable in a worker.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LOOK_SECONDS = 0.5  # between two looks whether to stop
SAID_BYTES = 4096


class Surroundings(NamedTuple):
    """What is the same for all commands of a driver."""

    supervisor: str
    """The text of supervisor.py."""
    folder: str
    """Where commands begin, if the node has it."""
    python_path: str | None
    grace_seconds: float
    """Between SIGTERM and SIGKILL."""


class Order(NamedTuple):
    """A command: what follows `python`, with how many threads in each process, and for how long."""

    arguments: tuple[str, ...]
    threads: int
    seconds: int | None


class Part(NamedTuple):
    """One node of a job that needs several."""

    rank: int
    nodes: int
    processes: int
    job: str


class Outcome(NamedTuple):
    """How a command ended."""

    exit_code: int
    node: str
    last_line: str | None
    """Of what it wrote to stderr."""
    out_of_time: bool


def run_command(around: Surroundings, order: Order) -> Outcome:
    """Run a command to its end, in the environment that Ray gave to this worker.

    A cancellation by Ray, and the end of the order's time, are passed on as SIGTERM.
    """
    stops: list[int] = []
    # Ray cancels as Ctrl-C would. Listening begins before the command does, so that it cannot be left alone.
    before = signal.signal(signal.SIGINT, lambda number, _frame: stops.append(number))
    try:
        with tempfile.TemporaryFile() as said:
            supervisor = _start(around, order, said.fileno())
            out_of_time = _wait(supervisor, stops, time.monotonic() + (order.seconds or float("inf")))
            said.seek(max(0, said.seek(0, os.SEEK_END) - SAID_BYTES))
            lines = said.read().decode(errors="replace").split("\n")
    finally:
        signal.signal(signal.SIGINT, before)
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    code = supervisor.returncode if supervisor.returncode >= 0 else 128 - supervisor.returncode
    return Outcome(code, socket.gethostname(), last, out_of_time)


def run_part(around: Surroundings, order: Order, part: Part, meeting: str) -> Outcome:
    """Run one node's processes of a command under torchrun; `meeting` is host:port on the first node."""
    return run_command(around, order._replace(arguments=torchrun(part, meeting, order.arguments)))


def find_meeting() -> str:
    """An address on this node where the processes of a job can meet."""
    from ray.util import get_node_ip_address

    with socket.socket() as free:
        free.bind(("", 0))
        return f"{get_node_ip_address()}:{free.getsockname()[1]}"


def torchrun(part: Part, meeting: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """What follows `python` to run a node's part of a command."""
    return (
        *("-m", "torch.distributed.run"),
        *("--nnodes", str(part.nodes), "--nproc-per-node", str(part.processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", part.job),
        *("--rdzv-conf", f"is_host={part.rank == 0}".lower()),
        *arguments,
    )


def _start(around: Surroundings, order: Order, stderr: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": str(order.threads)}
    environment.pop("PYTHONPATH", None)
    if around.python_path is not None:
        environment["PYTHONPATH"] = around.python_path
    supervisor = subprocess.Popen(
        [sys.executable, "-IS", "-", str(os.getpid()), str(around.grace_seconds), sys.executable, *order.arguments],
        stdin=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        cwd=around.folder if Path(around.folder).is_dir() else None,
        start_new_session=True,  # away from the signals of a terminal
    )
    assert supervisor.stdin is not None
    with supervisor.stdin as text:
        text.write(around.supervisor.encode())
    return supervisor


def _wait(supervisor: "subprocess.Popen[bytes]", stops: list[int], deadline: float) -> bool:
    """Wait for the end, and ask for it when that is due; returns whether the time was up."""
    asked = out_of_time = False
    while True:
        try:
            supervisor.wait(LOOK_SECONDS)
            return out_of_time
        except subprocess.TimeoutExpired:
            out_of_time = out_of_time or (not asked and time.monotonic() > deadline)
            if (stops or out_of_time) and not asked:
                asked = True
                supervisor.terminate()
