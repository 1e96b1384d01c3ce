"""What the run directory says of drivers that submit jobs of it, from anywhere."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.grid.engines.journal import last_jobs
from scaling.grid.leases import find_holder


@dataclass(frozen=True, slots=True)
class Driver:
    """The last one of an engine."""

    engine: str
    host: str | None
    runner: int | None
    """Its process."""
    lives: bool
    """Whether it is at work; jobs of Slurm go on without it, those of Ray do not."""
    waiting: int
    """Cells that were submitted, and have not begun."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_drivers(run: Path, waiting: Collection[str], now: float) -> tuple[Driver, ...]:
    """The drivers of a run directory.

    Args:
        run: its path.
        waiting: cells that have not begun.
        now: the file system's time.
    """
    found = []
    for folder in sorted((run / "engines").glob("*")):
        last = find_holder(folder, now)
        holder, submitted = last.holder, last_jobs(folder)
        gone = folder.name == "ray" and not last.lives  # and its jobs with it
        count = 0 if gone else sum(cell in submitted and not submitted[cell].ended for cell in waiting)
        found.append(Driver(folder.name, holder and holder.host, holder and holder.runner, last.lives, count))
    return tuple(found)
