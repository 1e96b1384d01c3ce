"""Handing cells out: each to one engine, once, after the cell that it starts from, together with other runners."""

import time
from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scaling.design import Cell, with_earlier_stages
from scaling.errors import ScalingError
from scaling.grid.board import Board
from scaling.grid.budget import Budget
from scaling.grid.engine import Begun, Ended, Engine, Moved, News
from scaling.grid.errors import is_full_disk, is_transient, plainly
from scaling.grid.jobs import Job
from scaling.grid.leases import Holder, Lease, file_system_time, find_holder, take_lease, utc_now
from scaling.grid.order import by_value, cheapest_first, not_started
from scaling.grid.stopping import Stopping
from scaling.records import FINISHED, Record, RecordError, RunDirectory, Status

if TYPE_CHECKING:
    from scaling.grid.hopeless import Judge

REFRESH_SECONDS = 0.25
PATIENCE_SECONDS = 300.0  # with a file system that is out of order
LOOK_SECONDS = 2.0  # between two looks at cells that others hold

Observer = Callable[[Board], None]
"""Called whenever the state of the grid changed, and a few times a second."""


@dataclass
class Dispatcher:
    """Works off the cells of a run on an engine, together with whoever else does."""

    run: RunDirectory
    board: Board
    engine: Engine
    observer: Observer
    grace_seconds: float
    dead_after_seconds: float
    judge: "Judge | None" = None
    """Finds cells to stop, where that is wanted."""
    budget: Budget | None = None
    """Says when no further cell may begin."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Of designs, see `by_value`."""
    waits: bool = True
    """Whether to go on while only cells are left that other runners are at work on."""
    disk_is_full: bool = False
    todo: list[Job] = field(default_factory=list)
    rank: dict[str, int] = field(default_factory=dict)
    """Of each cell, in the order in which they are handed out."""
    failing: dict[str, float] = field(default_factory=dict)
    """Since when the file system is out of order, for those who look at it."""
    failures: dict[str, Record | None] = field(default_factory=dict)
    """What was noted of the cells before this run."""
    elsewhere: set[str] = field(default_factory=set)
    """Cells whose holder gave a sign of life since we began to look."""
    began: float = float("inf")
    """To look, by the time of the file system."""

    def work_off(self, jobs: list[Job]) -> bool:
        """Run the open jobs in order; returns whether it was stopped. No worker outlives this call."""
        ordered = cheapest_first(jobs) if self.judge else by_value(jobs, self.values)
        self.rank = {job.cell.id: place for place, job in enumerate(ordered)}
        in_hand = self.engine.in_hand  # of an earlier driver
        self.todo = [job for job in ordered if job.cell.id not in in_hand]
        if self.budget is not None:
            for cell in in_hand:
                self.budget.begin(self.board.rows[cell].job)
        self.failures = {job.cell.id: self.run.failure(job.cell.id) for job in jobs}
        self.observer(self.board)
        stopping = Stopping()
        try:
            with stopping:
                self._loop(stopping)
        except OSError as error:
            if not is_full_disk(error, self.run.path):
                raise plainly(error, self.run.path) from None
            self.disk_is_full = True
        finally:
            self.engine.kill()
        if self.disk_is_full:
            raise ScalingError(
                f"{self.run.path}: no space left on its file system; stopped, finished records are intact;\n"
                "free some space and run the same command again"
            )
        return stopping.asked is not None

    def _loop(self, stopping: Stopping) -> None:
        killed_at, look_at = float("inf"), 0.0
        while self.engine.in_hand or self._goes_on(stopping):
            if (stopping.asked or self.disk_is_full) and not self.engine.asked_to_stop:
                self.engine.stop()
                self.board.stopping_seconds = self.grace_seconds if self.engine.in_hand else None
                killed_at = time.monotonic() + self.grace_seconds
            if stopping.insisted or time.monotonic() > killed_at:
                self.engine.kill()
            if not self.engine.asked_to_stop and time.monotonic() >= look_at and self.engine.has_room:
                self._hand_out()
                look_at = time.monotonic() + LOOK_SECONDS
            if self._listen():
                look_at = 0.0
            judge = None if self.engine.asked_to_stop else self.judge
            if judge is not None and (found := judge.find(self.engine.in_hand)):
                self.engine.cancel(*found)
            self.observer(self.board)

    def _goes_on(self, stopping: Stopping) -> bool:
        """Whether there are cells to hand out."""
        if not self.todo or stopping.asked or self.disk_is_full:
            return False
        return any(self.waits or not self._is_elsewhere(job) for job in self._allowed())

    def _is_elsewhere(self, job: Job) -> bool:
        """Whether another runner is at work on the cell, or on one before it."""
        return any(cell.id in self.elsewhere for cell in with_earlier_stages([job.cell]))

    def _allowed(self) -> list[Job]:
        """The cells to hand out that the budget allows, with all those before them."""
        if self.budget is None:
            return list(self.todo)
        allowed = {job.cell.id: self.budget.allows(job) for job in self.todo}
        return [job for job in self.todo if all(allowed.get(cell.id, True) for cell in with_earlier_stages([job.cell]))]

    def _listen(self) -> bool:
        """Take the news of the cells in hand; returns whether there is something to hand out or to look at."""
        turned = False
        with self._patience("engine"):
            for news in self.engine.news(REFRESH_SECONDS):
                turned = turned or not isinstance(news, Moved)
                self._take(news)
        return turned

    @contextmanager
    def _patience(self, who: str) -> Iterator[None]:
        """Bear with a file system that is out of order for a while; the next look may find it well again."""
        try:
            yield
        except (OSError, RecordError) as error:
            since = self.failing.setdefault(who, time.monotonic())
            if not is_transient(error, self.run.path) or time.monotonic() - since > PATIENCE_SECONDS:
                raise
            time.sleep(REFRESH_SECONDS)
        else:
            self.failing.pop(who, None)

    def _take(self, news: News) -> None:
        if isinstance(news, Begun):
            self.board.start(news.cell, news.where)
        elif isinstance(news, Moved):
            self.board.progress(news.cell, news.step, news.steps, news.loss)
        elif isinstance(news, Ended):
            self._finish(news.record)
            self.disk_is_full = self.disk_is_full or news.disk_is_full
        else:
            self.board.requeue(news.cell, news.why) if news.why else self.board.leave(news.cell, "another runner")
            insort(self.todo, self.board.rows[news.cell].job, key=self._place)
            if self.budget is not None:
                self.budget.lose(news.cell)

    def _place(self, job: Job) -> int:
        return self.rank.get(job.cell.id, len(self.rank))

    def _finish(self, record: Record) -> None:
        self.board.finish(record)
        if self.budget is not None:
            self.budget.end(record)

    def _hand_out(self) -> None:
        """Start free cells while there is room, and see what became of those that others hold."""
        with self._patience("cells"):
            now = file_system_time(self.run.path)
            self.began = min(self.began, now)
            for job in self._allowed():
                if not self.engine.has_room:
                    break
                if (self.budget is None or self.budget.allows(job)) and self._settle(job, now):
                    self.todo.remove(job)

    def _settle(self, job: Job, now: float) -> bool:
        """Start a cell, or learn how it ended; False while it waits for another, or another runner has it."""
        cell, folder = job.cell.id, self.run.cell_folder(job.cell.id)
        if self._has_ended(cell):
            return True
        before = self._before(job)
        if job.cell.after is not None and before is None and not self._follows(job.cell.after):
            return False
        misfit = not_started(job.cell, before) if before and before.status is not Status.DONE else job.misfit
        if misfit is not None and misfit.status is Status.PREEMPTED:
            self.board.finish(misfit)  # nothing to note: it goes on with the cell before
            return True
        folder.mkdir(parents=True, exist_ok=True)
        lease = take_lease(
            folder, Holder.here(self.engine.device.kind, self.engine.threads, self.dead_after_seconds), now
        )
        if lease is None:
            found = find_holder(folder, now)
            holder = found.holder
            self.board.leave(cell, f"{holder.host}, process {holder.runner}" if holder else "another runner")
            if found.renewed_within(now - self.began):
                self.elsewhere.add(cell)
            return False
        self.elsewhere.discard(cell)
        if self._has_ended(cell):  # between our looking and our taking
            lease.remove()
        elif misfit is not None:
            self._note(misfit, job, lease)
        else:
            self.engine.submit(job, lease)
            if self.budget is not None:
                self.budget.begin(job)
        return True

    def _follows(self, cell: Cell) -> bool:
        """Whether one that starts from this cell may be submitted behind it."""
        return self.engine.chains and cell.id in self.engine.in_hand

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
            ended = failure if failure != self.failures.get(cell) else None
        if ended is None or ended.status is Status.PREEMPTED:
            return False
        if ended.status is Status.STOPPED and self.judge is None:  # by another runner; we continue it
            return False
        self._finish(ended)
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
