"""What the next job of a cell asks for: by the study, what was measured, what jobs before it lacked, and the limits."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from scaling.design import Cell
from scaling.errors import ScalingError
from scaling.grid.devices import Device
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.needs import corrected, grown, needs_of
from scaling.grid.engines.scheduler import JobState, Lack, Needs
from scaling.grid.jobs import Job
from scaling.records import Record

LOSSES = 5  # of a cell's jobs in a row that came to nothing, before it counts as failed


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the time of a job on a cluster."""

    cluster: Cluster
    longest_seconds: int | None = None
    """That any job may take there."""

    def within(self, needs: Needs, job: Job) -> Needs:
        """The same with a time that may be asked for; a cell that takes longer goes on in another job."""
        if self.cluster.engine == "ray" and job.cell.resources.hours is None:
            return replace(needs, seconds=None)  # nobody asks for limits there
        limits = [seconds for seconds in (self.cluster.seconds or needs.seconds, self.longest_seconds) if seconds]
        return replace(needs, seconds=min(limits, default=None))


@dataclass
class _Past:
    """What became of a cell's jobs."""

    losses: int = 0
    step: int = 0
    grown: int = 0
    memory_bytes: int = 0
    seconds: int = 0
    """What the next one asks for at least, where the last one had too little."""


@dataclass
class Asking:
    """Of all cells of a run."""

    device: Device
    """That each job has."""
    limits: Limits
    check: Callable[[Collection[Needs]], None]
    """Raises ScalingError where the cluster has no such thing."""
    _past: dict[str, _Past] = field(default_factory=dict)
    _done: dict[tuple[str, str | None], list[Record]] = field(default_factory=dict)
    """Finished cells of each design and stage."""
    _there: set[Needs] = field(default_factory=set)

    def needs(self, job: Job) -> Needs:
        """What the next job of a cell asks for."""
        first = self.limits.within(needs_of(job, self.device), job)
        measured = self.limits.within(corrected(first, job, self._done.get(_kind(job.cell), ())), job)
        if measured != first and not self._is_there(measured):
            measured = first
        past = self._past.get(job.cell.id, _Past())
        return replace(
            measured,
            memory_bytes=measured.memory_bytes and max(measured.memory_bytes, past.memory_bytes),
            seconds=measured.seconds and max(measured.seconds, past.seconds),
        )

    def finished(self, record: Record) -> None:
        """Later cells of its design ask for what it took."""
        self._done.setdefault((record.design, record.stage), []).append(record)

    def knows(self, cell: Cell) -> bool:
        """Whether a cell of the same design and stage has finished."""
        return _kind(cell) in self._done

    def again(self, job: Job, needs: Needs, state: JobState, step: int) -> str | None:
        """Learn from a job that was cut short at a step of the training; why there is to be no other one, or None."""
        past = self._past.setdefault(job.cell.id, _Past())
        past.losses = 0 if step > past.step else past.losses + 1
        past.step = max(step, past.step)
        more = needs
        if state.lack is Lack.MEMORY or (state.lack is Lack.TIME and past.losses):
            more = self.limits.within(grown(needs, state.lack), job)
        if more == needs or past.losses == 0:
            return None if past.losses < LOSSES else f"{past.losses} jobs in a row came to nothing"
        if past.grown == job.cell.resources.growth:
            return f"asked {past.grown} times for more (resources.growth)"
        if not self._is_there(more):
            return "the cluster has no more for one job"
        past.grown += 1
        past.memory_bytes, past.seconds = more.memory_bytes or 0, more.seconds or 0
        return None

    def has_grown(self, job: Job) -> bool:
        """Whether a cell asks for more, since a job of it had too little."""
        past = self._past.get(job.cell.id, _Past())
        return past.memory_bytes + past.seconds > 0

    def recall(self, job: Job, needs: Needs) -> None:
        """Ask at least for what an earlier driver found that a cell needs, if the cluster still has it."""
        needs = self.limits.within(needs, job)
        if self._is_there(needs):
            past = self._past.setdefault(job.cell.id, _Past())
            past.memory_bytes, past.seconds = needs.memory_bytes or 0, needs.seconds or 0

    def _is_there(self, needs: Needs) -> bool:
        """Whether the cluster has so much."""
        if needs not in self._there:
            try:
                self.check([needs])
            except ScalingError:
                return False
            self._there.add(needs)
        return True


def _kind(cell: Cell) -> tuple[str, str | None]:
    return str(cell.design), cell.stage
