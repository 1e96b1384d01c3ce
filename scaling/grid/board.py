"""The state of a grid while it runs: one row per cell, and the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from scaling.grid.jobs import Job
from scaling.records import FINISHED, Record, Status


@dataclass
class Row:
    """What is known of one cell right now."""

    job: Job
    status: Status
    step: int = 0
    steps: int = 0
    loss: float | None = None
    first_step: int = 0
    """At which this try began; above 0 for one that continues."""
    began: float | None = None
    """When the training of this try began, after building and measuring the model."""
    started: float | None = None
    seconds: float | None = None
    record: Record | None = None
    elsewhere: str | None = None
    """Host that runs the cell, where that is not this machine; its other runner; or why it waits again."""

    @property
    def share_done(self) -> float:
        """Share of the training that is done, 0 to 1."""
        if self.status in FINISHED:
            return 1.0
        return self.step / self.steps if self.steps else 0.0

    @property
    def share_of_try(self) -> float:
        """Share of the training that this try has done."""
        return self.share_done - self.first_step / self.steps if self.steps else self.share_done


class Board:
    """Rows by cell id, and what the rows together say."""

    def __init__(self, jobs: list[Job], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = {job.cell.id: Row(job, job.status) for job in jobs}
        self.workers = workers
        self.stopping_seconds: float | None = None
        """Time that running cells have to save and stop, once that was asked for."""
        self._clock = clock

    def start(self, cell_id: str, where: str | None = None) -> None:
        """A worker took the cell, on a host that is named where it is not this machine."""
        row = self.rows[cell_id]
        row.status, row.started, row.began, row.elsewhere = Status.RUNNING, self._clock(), None, where
        row.step = row.first_step = 0

    def leave(self, cell_id: str, elsewhere: str) -> None:
        """Another runner has the cell."""
        row = self.rows[cell_id]
        row.status, row.started, row.elsewhere = Status.RUNNING, None, elsewhere

    def requeue(self, cell_id: str, why: str) -> None:
        """The cell's job ended before the cell did; there will be another."""
        row = self.rows[cell_id]
        row.status, row.started, row.elsewhere = Status.PLANNED, None, why

    def progress(self, cell_id: str, step: int, steps: int, loss: float | None) -> None:
        """The cell's training moved on; with a loss of None it begins at this step, again after a rollback."""
        row = self.rows[cell_id]
        row.step, row.steps, row.loss = step, steps, row.loss if loss is None else loss
        if loss is None:
            row.first_step, row.began = step, self._clock()

    def finish(self, record: Record) -> None:
        """The cell has a record, or failed."""
        row = self.rows[record.cell]
        row.status, row.record = record.status, record
        row.seconds = self._clock() - row.started if row.started is not None else None

    def elapsed(self, row: Row) -> float | None:
        """Seconds since the cell was started, or that it took."""
        if row.seconds is not None or row.started is None:
            return row.seconds
        return self._clock() - row.started

    def seconds_left_of(self, row: Row) -> float | None:
        """Expected time to the end of a running cell's training; None before its first progress."""
        if row.status is not Status.RUNNING or row.began is None or row.step == row.first_step:
            return None
        return (self._clock() - row.began) * (row.steps - row.step) / (row.step - row.first_step)

    def count(self, *statuses: Status) -> int:
        """Number of cells with one of these statuses."""
        return sum(row.status in statuses for row in self.rows.values())

    def seconds_left(self) -> float | None:
        """Expected time to the end, from the FLOPs done per second so far; None at the start."""
        tried = [(row, self.elapsed(row)) for row in self.rows.values()]
        seconds = sum(elapsed for _, elapsed in tried if elapsed is not None)
        done = sum(row.share_of_try * row.job.training_flops for row, elapsed in tried if elapsed is not None)
        if not done:
            return None
        open_rows = [row for row in self.rows.values() if row.status in (Status.PLANNED, Status.RUNNING)]
        left = [(1 - row.share_done) * row.job.training_flops * seconds / done for row in open_rows]
        # No cell is split between workers, so the longest one bounds the whole from below.
        at_work = min(self.workers, max(1, self.count(Status.RUNNING)))  # others wait in a queue
        return max(sum(left) / at_work, max(left, default=0.0))
