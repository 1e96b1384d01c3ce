"""The local runner: cells in processes of their own, records that survive whatever happens."""

import fcntl
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from scaling.design import Study, load_study
from scaling.errors import ScalingError, UsageError
from scaling.grid.board import Board
from scaling.grid.devices import Device, find_device
from scaling.grid.doctor import require_training
from scaling.grid.jobs import Job, check_trainable, plan_jobs, with_status
from scaling.records import FINISHED, Record, RunDirectory, Status, describe

REFRESH_SECONDS = 0.25

Observer = Callable[[Board], None]
"""Called whenever the state of the grid changed, and a few times a second."""


@dataclass(frozen=True, slots=True)
class GridResult:
    """How a run ended: its directory, the records of the selected cells, and which were run now."""

    path: Path
    records: tuple[Record, ...]
    ran: tuple[str, ...]
    interrupted: bool

    @property
    def failed(self) -> tuple[Record, ...]:
        """Cells that did not finish; running again tries them again."""
        return tuple(record for record in self.records if record.status not in FINISHED)


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    process: BaseProcess
    pipe: Connection
    slot: int


def run_grid(
    study: Study | str | Path,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    only: str | None = None,
    observer: Observer | None = None,
) -> GridResult:
    """Train every cell of a study that has no record yet; running again completes what is missing.

    In a script, call it under `if __name__ == "__main__":`, since cells run in processes that
    import the script again.

    Args:
        study: a Study, the name of a built-in one, or the path of a TOML file.
        out: run directory, runs/<name of the study> by default.
        device: 'auto', 'cpu' or 'cuda'.
        workers: cells at a time; one per core or GPU by default.
        only: pattern of design names, such as 'deit-*/8@*'.
        observer: called with the state of the grid as it changes.

    Raises:
        UsageError: for a bad argument or a cell that does not fit the device.
        ScalingError: if a record is broken, the folder is in use or cannot be written, or torch
            is missing.
    """
    study = study if isinstance(study, Study) else load_study(study)
    run = RunDirectory(out or Path("runs") / study.name)
    place = find_device(device)
    count = worker_count(workers, place, len(study.cells()))
    require_training()
    jobs = plan_jobs(study, place, count, only)
    run.check(study)
    run.create()
    with _only_runner(run.path):
        jobs = with_status(jobs, run)
        check_trainable(job for job in jobs if job.status not in FINISHED)
        run.prepare(study)
        board = Board(jobs, count)
        interrupted = _run(jobs, run, place, count, board, observer or (lambda _: None))
    ran = tuple(cell for cell, row in board.rows.items() if row.record is not None)
    return GridResult(run.path, tuple(_records(board, run)), ran, interrupted)


def _records(board: Board, run: RunDirectory) -> Iterator[Record]:
    """Records of this run and of earlier ones, in the order of the study."""
    for cell_id, row in board.rows.items():
        record = row.record or run.record(cell_id)
        if record is not None:
            yield record


def worker_count(asked: int | None, device: Device, cells: int) -> int:
    """Cells at a time: what was asked for, else one per core or GPU, never more than cells."""
    if asked is not None and asked < 1:
        raise UsageError(f"--workers {asked}: at least 1 is needed")
    return min(asked or device.count, cells)


@contextmanager
def _only_runner(path: Path) -> Iterator[None]:
    """Hold the run directory against a second runner on this machine; released however we end."""
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScalingError(f"{path}: another 'scaling run-grid' is at work there; wait or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(folder)


def _run(jobs: list[Job], run: RunDirectory, device: Device, workers: int, board: Board, observer: Observer) -> bool:
    """Run the open jobs, longest first; returns whether Ctrl-C ended it. No worker outlives this call."""
    open_jobs = [job for job in jobs if job.status not in FINISHED]
    pending = deque(sorted(open_jobs, key=lambda job: -job.training_flops))
    running: dict[str, _Running] = {}
    observer(board)
    try:
        context = _process_context()
        while pending or running:
            while pending and len(running) < workers:
                slot = min(set(range(workers)) - {entry.slot for entry in running.values()})
                job = pending.popleft()
                board.start(job.cell.id)
                running[job.cell.id] = _start(job, run, device, workers, slot, context)
            wait([entry.pipe for entry in running.values()], timeout=REFRESH_SECONDS)
            for entry in list(running.values()):
                record = _listen(entry, run, board)
                if record is not None:
                    del running[record.cell]
                    entry.process.join()
                    board.finish(record)
            observer(board)
    except KeyboardInterrupt:
        return True
    finally:
        for entry in running.values():
            entry.process.terminate()
        for entry in running.values():
            entry.process.join()
    return False


def _process_context() -> Any:
    """Processes forked from a server that imported torch once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.grid.worker"])
    resource_tracker.ensure_running()  # before, since it lifts the block
    # Ctrl-C reaches every process of the terminal; the server inherits the block, and leaves it to us.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return context


def _start(job: Job, run: RunDirectory, device: Device, workers: int, slot: int, context: Any) -> _Running:
    threads = max(1, device.count // workers) if device.kind == "cpu" else 1
    ours, theirs = context.Pipe(duplex=False)
    arguments = (
        job.cell,
        run.path,
        device.kind,
        slot % device.count,
        threads,
        job.micro_batch_size,
        job.images_per_second.estimate if job.images_per_second else None,
        time.time(),
        theirs,
    )
    process = context.Process(target=_work, args=arguments, name=job.cell.name)
    process.start()
    theirs.close()
    return _Running(job, process, ours, slot)


def _work(*arguments: Any) -> None:
    """Entry of a worker; the import happens in the worker's process, not in the runner's."""
    from scaling.grid.worker import work

    work(*arguments)


def _listen(entry: _Running, run: RunDirectory, board: Board) -> Record | None:
    """Take what a worker sent; returns the record if the cell has ended, however it ended."""
    try:
        while entry.pipe.poll():
            message = entry.pipe.recv()
            if isinstance(message, Record):
                return message
            board.progress(entry.job.cell.id, *message)
    except (EOFError, OSError):
        return _lost(entry, run)
    return None


def _lost(entry: _Running, run: RunDirectory) -> Record:
    """The record of a worker that vanished: its own if it got that far, else a failure."""
    entry.process.join()
    finished = run.record(entry.job.cell.id)
    if finished is not None:
        return finished
    cell, code = entry.job.cell, entry.process.exitcode
    reason = f"worker killed by signal {-code}" if code is not None and code < 0 else f"worker exited with {code}"
    if code == -9:
        reason += " (out of memory?)"
    record = Record(**describe(cell), status=Status.FAILED, error=reason)
    with suppress(OSError):  # a full disk: the other cells go on, and the message is shown
        run.begin(cell)
        run.fail(record, reason)
    return record
