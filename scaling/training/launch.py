"""Several processes for one cell on this machine, as torchrun would start them; none outlives the call."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from ctypes import c_bool
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from scaling.errors import ScalingError
from scaling.processes import die_with_parent, fork_server
from scaling.records import Record, Status
from scaling.training.loop import Progress, Stop

START_METHOD = "forkserver"  # CUDA does not survive a fork
POLL_SECONDS = 0.1
EXIT_SECONDS = 1.0
LOCAL = "127.0.0.1"


def run_on_processes(run: Callable[..., Record], arguments: tuple[Any, ...], report: Progress, stop: Stop) -> Record:
    """Run a cell in as many processes of this machine as its study says; `run_ranks` tells more."""
    count, port = arguments[0].resources.processes, free_port()
    return run_ranks(run, arguments, report, stop, [environment(r, count, r, count, LOCAL, port) for r in range(count)])


def environment(
    rank: int, world_size: int, local_rank: int, local_world_size: int, address: str, port: int
) -> dict[str, str]:
    """What PyTorch and accelerate read of the place of a process; all processes of a cell meet at one port."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_world_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # where torchrun started us, its store is not the cell's
    }


def nowhere() -> Record | None:
    """No process of the cell runs anywhere else."""
    return None


def run_ranks(
    run: Callable[..., Record],
    arguments: tuple[Any, ...],
    report: Progress,
    stop: Stop,
    environments: Sequence[dict[str, str]],
    elsewhere: Callable[[], Record | None] = nowhere,
) -> Record:
    """Run those processes of a cell that are this machine's, or this caller's.

    Args:
        run: takes `arguments`, then `report` and `stop`; the first argument is the cell.
        arguments: can be pickled, as `run` can.
        report: called here with what the first of them reports.
        stop: asked here; the processes then stop together.
        environments: of each process, see `environment`.
        elsewhere: looks after the cell's other processes; gives a record that ends the cell, or raises.

    Returns:
        The record of the first of them, or of one that ran out of memory.

    Raises:
        ScalingError: if a process dies or fails; the others are ended.
        OSError: if the storage failed one of them.
    """
    count = len(environments)
    context = fork_server(["scaling.training"])
    stopped = context.RawValue(c_bool, False)
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    shared = (run, arguments, environments, torch.get_num_threads(), [pipe[1] for pipe in pipes], stopped)
    processes = start_processes(_rank, shared, nprocs=count, join=False, start_method=START_METHOD)
    assert isinstance(processes, ProcessContext)
    for _, theirs in pipes:
        theirs.close()
    try:
        ours = [pipe for pipe, _ in pipes]
        return _follow(processes, environments, ours, report, lambda: _pass_on(stop, stopped), elsewhere)
    finally:
        for process in filter(None, processes.processes):
            process.kill()
            process.join()


def _follow(
    processes: ProcessContext,
    environments: Sequence[dict[str, str]],
    pipes: Sequence[Connection],
    report: Progress,
    check_stop: Callable[[], None],
    elsewhere: Callable[[], Record | None],
) -> Record:
    """Pass on what the first process reports, until all have ended or one cannot go on."""
    record, running = None, True
    while running:
        check_stop()
        if (ended := elsewhere()) is not None:
            return ended
        wait([pipe for pipe in pipes if not pipe.closed] or processes.sentinels, timeout=POLL_SECONDS)
        for index, pipe in enumerate(pipes):
            for message in _messages(pipe):
                if isinstance(message, OSError):
                    raise message  # as in one process, so that the runner may try again
                if not isinstance(message, Record):
                    report(*message)
                elif message.status is Status.OOM:
                    return message
                elif index == 0:
                    record = message
        running = not _join(processes, environments)
    if record is None:
        raise ScalingError("the first process of the cell ended without a record")
    return record


def _messages(pipe: Connection) -> list[Any]:
    found = []
    try:
        while not pipe.closed and pipe.poll():
            found.append(pipe.recv())
    except (EOFError, OSError):
        pipe.close()
    return found


def _join(processes: ProcessContext, environments: Sequence[dict[str, str]]) -> bool:
    """Whether all have ended well."""
    try:
        return processes.join(timeout=0, grace_period=EXIT_SECONDS)
    except ProcessRaisedException as error:
        reason = str(error).strip().splitlines()[-1]
        raise ScalingError(f"{_name(environments[error.error_index])} failed: {reason}") from error
    except ProcessExitedException as error:
        code = error.exit_code
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        raise ScalingError(f"{_name(environments[error.error_index])} {how}") from error


def _name(place: dict[str, str]) -> str:
    return f"process {place['RANK']} of {place['WORLD_SIZE']}"


def _pass_on(stop: Callable[[], bool], stopped: Any) -> None:
    if stop():
        stopped.value = True


def _rank(
    index: int,
    run: Callable[..., Record],
    arguments: tuple[Any, ...],
    environments: Sequence[dict[str, str]],
    threads: int,
    pipes: Sequence[Connection],
    stopped: Any,
) -> None:
    """One process of a cell; signals go to the process that started it, which asks us to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ |= environments[index]
    torch.set_num_threads(max(1, threads // int(os.environ["LOCAL_WORLD_SIZE"])))
    pipe = pipes[index]
    for other in pipes:
        if other is not pipe:
            other.close()

    def report(step: int, steps: int, loss: float | None) -> None:
        pipe.send((step, steps, loss))

    try:
        pipe.send(run(*arguments, report, lambda: bool(stopped.value)))
    except OSError as error:
        pipe.send(OSError(error.errno, error.strerror or str(error), error.filename))
        raise


def free_port() -> int:
    """A port that nobody on this machine listens to."""
    with socket.socket() as server:
        server.bind(("", 0))
        return server.getsockname()[1]
