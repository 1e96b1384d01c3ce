"""The local runner: cells in processes of their own, records that survive whatever happens."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.design import Study, load_study, with_processes
from scaling.errors import ScalingError, UsageError
from scaling.grid.board import Board
from scaling.grid.crew import Crew, Ended, Lost, Moved
from scaling.grid.devices import Device, find_device
from scaling.grid.doctor import require_training
from scaling.grid.errors import is_full_disk, is_transient
from scaling.grid.jobs import Job, check_same_data, check_trainable, plan_jobs, with_status
from scaling.grid.leases import DEAD_AFTER_SECONDS, Holder, Lease, file_system_time, find_holder, take_lease, utc_now
from scaling.grid.order import by_urgency, cheapest_first, check_checkpoints, not_started
from scaling.grid.status import CLOSED
from scaling.grid.stopping import Stopping
from scaling.grid.tracking import check_trackers
from scaling.records import FINISHED, Record, RunDirectory, Status
from scaling.torchrun import END, Announcements, Place, find_place, meet

if TYPE_CHECKING:
    from scaling.grid.hopeless import Judge

REFRESH_SECONDS = 0.25
LOOK_SECONDS = 2.0  # between two looks at cells that others hold
GRACE_SECONDS = 25.0  # Slurm and Kubernetes kill 30 s after SIGTERM

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
        return tuple(record for record in self.records if record.status not in (*FINISHED, Status.STOPPED))

    @property
    def stopped(self) -> tuple[Record, ...]:
        """Cells that were stopped as hopeless, now or before; a run that does not stop any continues them."""
        return tuple(record for record in self.records if record.status is Status.STOPPED)


def run_grid(
    study: Study | str | Path,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    only: str | None = None,
    observer: Observer | None = None,
    *,
    retries: int = 2,
    grace_seconds: float = GRACE_SECONDS,
    dead_after_seconds: float = DEAD_AFTER_SECONDS,
    log: Sequence[str] = (),
    stop_hopeless: bool = False,
) -> GridResult:
    """Train every cell of a study that has no record yet; running again completes what is missing.

    Several runners, on machines that share a file system, may work on one study: each takes cells that no other has.
    SIGTERM, SIGUSR1 and Ctrl-C make running cells save and stop, if this is the main thread. In a script, call it under
    `if __name__ == "__main__":`, since cells run in processes that import the script again. Processes that torchrun
    started work on one cell at a time, all of them; the result of the first has the records.

    Args:
        study: a Study, the name of a built-in one, or the path of a TOML file.
        out: run directory, runs/<name of the study> by default.
        device: 'auto', 'cpu' or 'cuda'.
        workers: cells at a time; one per core or GPU by default.
        only: pattern of design names, such as 'deit-*/8@*'.
        observer: called with the state of the grid as it changes.
        retries: how often a cell is begun again after an error of input or output.
        grace_seconds: time for running cells to save and stop, before they are killed.
        dead_after_seconds: without a sign of life for this long, other runners take over a cell of this one.
        log: experiment trackers that are told losses and results: 'tensorboard', 'wandb', 'mlflow', 'trackio'.
        stop_hopeless: run the cheapest cells first, and stop those that are heading for a higher loss than a design
            that costs no more; see docs/running.md.

    Raises:
        UsageError: for a bad argument.
        ScalingError: if a record is broken, the folder cannot be written, the disk is full, or torch is missing.
    """
    study, ranks = study if isinstance(study, Study) else load_study(study), find_place()
    run = RunDirectory(out or Path("runs") / study.name)
    place = find_device(device)
    if ranks is not None:
        study = with_processes(study, ranks.world_size)
    count = worker_count(workers, place, len(study.cells()), study.resources.processes, ranks)
    if retries < 0 or grace_seconds < 0 or dead_after_seconds <= 0:
        raise UsageError("retries and grace_seconds may not be negative, and dead_after_seconds must be positive")
    check_trackers(log)
    require_training()
    with _together(ranks) as ranks:
        if ranks is not None and ranks.rank:
            from scaling.grid.ranks import follow  # late: it imports torch

            follow(ranks, study, run, place)
            return GridResult(run.path, (), (), False)
        jobs = _prepared_jobs(study, run, plan_jobs(study, place, count, only, ranks and ranks.local_world_size))
        board = Board(jobs, count)
        crew = Crew(run, place, count, retries, tuple(dict.fromkeys(log)), ranks)
        judge = _judge(run, board) if stop_hopeless else None
        grid = _Grid(run, board, crew, observer or (lambda _: None), grace_seconds, dead_after_seconds, judge)
        closed = CLOSED if stop_hopeless else FINISHED
        interrupted = grid.work_off([job for job in jobs if job.status not in closed])
    ran = tuple(cell for cell, row in board.rows.items() if row.record is not None and row.started is not None)
    return GridResult(run.path, tuple(_records(board, run)), ran, interrupted)


@contextmanager
def _together(ranks: Place | None) -> Iterator[Place | None]:
    """A session with the processes that torchrun started, if it did; the others end with the first one's part."""
    ranks = meet(ranks) if ranks is not None else None
    try:
        yield ranks
    finally:
        if ranks is not None and ranks.rank == 0:
            with suppress(ScalingError):  # then torchrun is gone, and ends them
                Announcements(ranks).announce(END)


def _prepared_jobs(study: Study, run: RunDirectory, jobs: list[Job]) -> list[Job]:
    """The jobs with what their run directory knows of them; nothing is written before all is checked."""
    run.check(study)
    run.create()
    jobs = with_status(jobs, run)
    check_trainable(job for job in jobs if job.status not in FINISHED)
    check_checkpoints(jobs, run)
    check_same_data(jobs, run)
    run.prepare(study)
    return jobs


def _records(board: Board, run: RunDirectory) -> Iterator[Record]:
    """Records of this run and of earlier ones, in the order of the study."""
    for cell_id, row in board.rows.items():
        record = row.record or run.record(cell_id)
        if record is None and row.status is Status.STOPPED:  # in an earlier run
            record = run.failure(cell_id)
        if record is not None:
            yield record


def _judge(run: RunDirectory, board: Board) -> "Judge":
    from scaling.grid.hopeless import Judge  # late: few runs need numpy here

    return Judge(run, board)


def worker_count(asked: int | None, device: Device, cells: int, processes: int = 1, ranks: Place | None = None) -> int:
    """Cells at a time: what was asked for, else one per core or GPU or so many of them, never more than cells."""
    if asked is not None and asked < 1:
        raise UsageError(f"--workers {asked}: at least 1 is needed")
    if ranks is not None:
        if asked is not None and asked > 1:
            raise UsageError(f"--workers {asked}: under torchrun, all processes work on one cell at a time")
        return 1
    return min(asked or max(1, device.count // processes), cells)


@dataclass
class _Grid:
    """Works off the cells of a run, together with whoever else does."""

    run: RunDirectory
    board: Board
    crew: Crew
    observer: Observer
    grace_seconds: float
    dead_after_seconds: float
    judge: "Judge | None" = None
    """Finds cells to stop, where that is wanted."""
    disk_is_full: bool = False
    todo: list[Job] = field(default_factory=list)
    failures: dict[str, Record | None] = field(default_factory=dict)
    """What was noted of the cells before this run."""

    def work_off(self, jobs: list[Job]) -> bool:
        """Run the open jobs in order; returns whether it was stopped. No worker outlives this call."""
        self.todo = cheapest_first(jobs) if self.judge else by_urgency(jobs)
        self.failures = {job.cell.id: self.run.failure(job.cell.id) for job in jobs}
        self.observer(self.board)
        stopping = Stopping()
        try:
            with stopping:
                self._loop(stopping)
        except OSError as error:
            if not is_full_disk(error, self.run.path):
                raise ScalingError(f"{self.run.path}: {error}") from None
            self.disk_is_full = True
        finally:
            self.crew.kill()
        if self.disk_is_full:
            raise ScalingError(
                f"{self.run.path}: no space left on its file system; stopped, finished records are intact;\n"
                "free some space and run the same command again"
            )
        return stopping.asked is not None

    def _loop(self, stopping: Stopping) -> None:
        killed_at, look_at = float("inf"), 0.0
        while self.crew.workers or (self.todo and not stopping.asked and not self.disk_is_full):
            if (stopping.asked or self.disk_is_full) and not self.crew.asked_to_stop:
                self.crew.stop()
                self.board.stopping_seconds = self.grace_seconds
                killed_at = time.monotonic() + self.grace_seconds
            if stopping.insisted or time.monotonic() > killed_at:
                self.crew.kill()
            if not self.crew.asked_to_stop and time.monotonic() >= look_at and self._has_room:
                self._hand_out()
                look_at = time.monotonic() + LOOK_SECONDS
            for news in self.crew.news(REFRESH_SECONDS):
                look_at = look_at if isinstance(news, Moved) else 0.0
                self._take(news)
            judge = None if self.crew.asked_to_stop else self.judge
            if judge is not None and (found := judge.find(self.crew.workers)):
                self.crew.stop_cell(*found)
            self.observer(self.board)

    @property
    def _has_room(self) -> bool:
        return len(self.crew.workers) < self.crew.size

    def _take(self, news: Moved | Ended | Lost) -> None:
        if isinstance(news, Moved):
            self.board.progress(news.cell, news.step, news.steps, news.loss)
        elif isinstance(news, Ended):
            self.board.finish(news.record)
            self.disk_is_full = self.disk_is_full or news.disk_is_full
        else:
            row = self.board.rows[news.cell]
            self.board.leave(news.cell, "another runner")
            self.todo.append(row.job)

    def _hand_out(self) -> None:
        """Start free cells while there is room, and see what became of those that others hold."""
        try:
            now = file_system_time(self.run.path)
            for job in list(self.todo):
                if self._has_room and self._settle(job, now):
                    self.todo.remove(job)
        except OSError as error:
            if not is_transient(error, self.run.path):
                raise
            # The file system is out of order; the next look may find it well again.

    def _settle(self, job: Job, now: float) -> bool:
        """Start a cell, or learn how it ended; False while it waits for another, or another runner has it."""
        cell, folder = job.cell.id, self.run.cell_folder(job.cell.id)
        if self._has_ended(cell):
            return True
        before = self._before(job)
        if job.cell.after is not None and before is None:
            return False
        misfit = not_started(job.cell, before) if before and before.status is not Status.DONE else job.misfit
        if misfit is not None and misfit.status is Status.PREEMPTED:
            self.board.finish(misfit)  # nothing to note: it goes on with the cell before
            return True
        folder.mkdir(parents=True, exist_ok=True)
        lease = take_lease(folder, Holder.here(self.crew.device.kind, self.crew.threads, self.dead_after_seconds), now)
        if lease is None:
            holder = find_holder(folder, now).holder
            self.board.leave(cell, f"{holder.host}, process {holder.runner}" if holder else "another runner")
            return False
        if self._has_ended(cell):  # between our looking and our taking
            lease.remove()
        elif misfit is not None:
            self._note(misfit, job, lease)
        else:
            self.board.start(cell)
            self.crew.start(job, lease)
        return True

    def _before(self, job: Job) -> Record | None:
        """How the cell that this one starts from has ended, if there is one and it has."""
        if job.cell.after is None:
            return None
        return self.board.rows[job.cell.after.id].record or self.run.record(job.cell.after.id)

    def _has_ended(self, cell: str) -> bool:
        """Whether the cell is finished, or another runner tried it since we began and failed."""
        ended = self.run.record(cell)
        if ended is None:
            failure = self.run.failure(cell)
            ended = failure if failure != self.failures[cell] else None
        if ended is None or ended.status is Status.PREEMPTED:
            return False
        if ended.status is Status.STOPPED and self.judge is None:  # by another runner; we continue it
            return False
        self.board.finish(ended)
        return True

    def _note(self, misfit: Record, job: Job, lease: Lease) -> None:
        """Record a cell that need not be begun."""
        misfit = misfit.model_copy(update={"finished_at": utc_now()})
        self.run.begin(job.cell)
        self.board.start(misfit.cell)
        if misfit.status in FINISHED:
            self.run.finish(misfit)
            lease.remove()
        else:
            self.run.fail(misfit, misfit.error or "")
            with suppress(OSError):
                lease.release()
        self.board.finish(misfit)
