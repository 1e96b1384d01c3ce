"""Hours that a run directory has used, and whether another cell may begin."""

from collections.abc import Iterable, Mapping
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
    spent: float = 0.0
    """Hours used, with all that cells in hand are expected to take."""
    _of_cell: dict[str, float] = field(default_factory=dict)
    """What `spent` has of each cell."""
    _known: dict[str, float] = field(default_factory=dict)
    """The most that is known of what each cell has taken, in hand or not."""
    _timed: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Hours and training FLOPs of the cells that have ended, over all their tries."""
    _timed_hours: float = 0.0
    _timed_flops: int = 0

    @classmethod
    def of(cls, hours: float, records: Iterable[Record], seen: Mapping[str, float] | None = None) -> "Budget":
        """With what a run directory has used before, by its records and by what its checkpoints tell of each cell."""
        budget = cls(hours)
        for record in records:
            budget.end(record)
        for cell, taken in (seen or {}).items():
            budget.used(cell, taken)
        return budget

    def allows(self, job: Job) -> bool:
        """Whether a cell may begin."""
        own = self._of_cell.get(job.cell.id, 0.0)
        return self.spent < self.hours and self.spent - own + max(own, self._foreseen(job)) <= self.hours

    def begin(self, job: Job) -> None:
        """The cell is in hand."""
        self._count(job.cell.id, max(self._of_cell.get(job.cell.id, 0.0), self._foreseen(job)))

    def lose(self, cell: str) -> None:
        """The cell is no longer in hand, and goes back to those to hand out; what it took meanwhile is not known."""
        self.used(cell, 0.0)

    def end(self, record: Record) -> None:
        """The cell is no longer in hand."""
        hours, flops = hours_of(record), (record.training_flops_per_image or 0) * (record.images_seen or 0)
        self.used(record.cell, hours)
        if hours and flops:
            before_hours, before_flops = self._timed.get(record.cell, (0.0, 0))
            self._timed[record.cell] = hours, flops
            self._timed_hours += hours - before_hours
            self._timed_flops += flops - before_flops

    def used(self, cell: str, hours: float) -> None:
        """A cell that is not in hand has taken so many hours, or more by what was known before."""
        self._known[cell] = max(hours, self._known.get(cell, 0.0))
        self._count(cell, self._known[cell])

    def _count(self, cell: str, hours: float) -> None:
        self.spent += hours - self._of_cell.get(cell, 0.0)
        self._of_cell[cell] = hours

    def _foreseen(self, job: Job) -> float:
        """Hours of a cell's training; 0 where nothing is known."""
        if job.device_hours is not None:
            return job.device_hours.estimate
        return job.training_flops * self._timed_hours / self._timed_flops if self._timed_flops else 0.0
