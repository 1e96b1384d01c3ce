"""Hours that a run directory has used, and whether another cell may begin."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from scaling.grid.jobs import Job
from scaling.records import Record


def hours_of(record: Record) -> float:
    """GPU-hours of a cell's training over all its tries, or core hours of one on a CPU; 0 where it has not trained."""
    if record.gpu_hours is not None or record.training_seconds is None:
        return record.gpu_hours or 0.0
    threads = (record.threads or 1) * (record.resources or {}).get("processes", 1)
    return record.training_seconds / 3600 * threads


@dataclass
class Budget:
    """No cell begins that would bring the hours of a run directory above a limit, as far as that can be foreseen.

    What a cell will take is foreseen by the estimator, where it knows the device, else from the hours per FLOP of the
    cells that have ended, else not at all. Running cells are never stopped, so the limit can be passed by what they
    take beyond what was foreseen.
    """

    hours: float
    used: dict[str, float] = field(default_factory=dict)
    """By cells that have ended."""
    expected: dict[str, float] = field(default_factory=dict)
    """Of cells in hand, altogether."""
    spent: float = 0.0
    """Hours used, with all that cells in hand are expected to take."""
    _flops: float = 0.0

    @classmethod
    def of(cls, hours: float, records: Iterable[Record], jobs: Iterable[Job]) -> "Budget":
        """With what a run directory has used before."""
        budget, by_cell = cls(hours), {job.cell.id: job for job in jobs}
        for record in records:
            budget.end(record, by_cell.get(record.cell))
        return budget

    def allows(self, job: Job) -> bool:
        """Whether a cell may begin."""
        if self.spent >= self.hours:
            return False
        return self.spent - self.used.get(job.cell.id, 0.0) + self._foreseen(job) <= self.hours

    def begin(self, job: Job) -> None:
        """The cell is in hand."""
        cell = job.cell.id
        self.expected[cell] = max(self._foreseen(job), self.used.get(cell, 0.0))
        self.spent += self.expected[cell] - self.used.pop(cell, 0.0)

    def end(self, record: Record, job: Job | None) -> None:
        """The cell is no longer in hand."""
        hours = hours_of(record)
        self.spent += hours - self.expected.pop(record.cell, 0.0) - self.used.get(record.cell, 0.0)
        if hours and job is not None and record.images_seen:
            self._flops += job.training_flops * min(1.0, record.images_seen / job.cost.images)
        self.used[record.cell] = hours

    def _foreseen(self, job: Job) -> float:
        """Hours of a cell's training; 0 where nothing is known."""
        if job.device_hours is not None:
            return job.device_hours.estimate
        return job.training_flops * sum(self.used.values()) / self._flops if self._flops else 0.0
