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

START_METHOD = "forkserver"  # CUDA does not survive a fork
POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0


def run_on_processes(
    run: Callable[..., Record],
    arguments: tuple[Any, ...],
    report: Callable[[int, int, float | None], None],
    stop: Callable[[], bool],
) -> Record:
    """Run a cell in as many processes as its study says.

    Args:
        run: takes `arguments`, then `report` and `stop`; the first argument is the cell.
        arguments: can be pickled, as `run` can.
        report: called here with what the first process reports.
        stop: asked here; the processes then stop together.

    Returns:
        The record of the first process, or of one that ran out of memory.

    Raises:
        ScalingError: if a process dies or fails; the others are ended.
        OSError: if the storage failed one of them.
    """
    count: int = arguments[0].resources.processes
    context = fork_server(["scaling.training"])
    stopped = context.RawValue(c_bool, False)
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    threads = max(1, torch.get_num_threads() // count)
    shared = (run, arguments, count, _free_port(), threads, [pipe[1] for pipe in pipes], stopped)
    processes = start_processes(_rank, shared, nprocs=count, join=False, start_method=START_METHOD)
    assert isinstance(processes, ProcessContext)
    for _, theirs in pipes:
        theirs.close()
    try:
        return _follow(processes, [ours for ours, _ in pipes], report, lambda: _pass_on(stop, stopped))
    finally:
        for process in filter(None, processes.processes):
            process.kill()
            process.join()


def _follow(
    processes: ProcessContext,
    pipes: Sequence[Connection],
    report: Callable[[int, int, float | None], None],
    check_stop: Callable[[], None],
) -> Record:
    """Pass on what the first process reports, until all have ended or one cannot go on."""
    record, running = None, True
    while running:
        check_stop()
        wait([pipe for pipe in pipes if not pipe.closed] or processes.sentinels, timeout=POLL_SECONDS)
        for rank, pipe in enumerate(pipes):
            for message in _messages(pipe):
                if isinstance(message, OSError):
                    raise message  # as in one process, so that the runner may try again
                if not isinstance(message, Record):
                    report(*message)
                elif message.status is Status.OOM:
                    return message
                elif rank == 0:
                    record = message
        running = not _join(processes)
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


def _join(processes: ProcessContext) -> bool:
    """Whether all have ended well."""
    count = len(processes.processes)
    try:
        return processes.join(timeout=0, grace_period=GRACE_SECONDS)
    except ProcessRaisedException as error:
        reason = str(error).strip().splitlines()[-1]
        raise ScalingError(f"process {error.error_index} of {count} failed: {reason}") from error
    except ProcessExitedException as error:
        code = error.exit_code
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        raise ScalingError(f"process {error.error_index} of {count} {how}") from error


def _pass_on(stop: Callable[[], bool], stopped: Any) -> None:
    if stop():
        stopped.value = True


def _rank(
    rank: int,
    run: Callable[..., Record],
    arguments: tuple[Any, ...],
    count: int,
    port: int,
    threads: int,
    pipes: Sequence[Connection],
    stopped: Any,
) -> None:
    """One process of a cell; signals go to the process that started it, which asks us to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)
    pipe = pipes[rank]
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


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
