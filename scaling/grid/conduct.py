"""How a run goes about its cells, on any engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaling.errors import UsageError
from scaling.grid.leases import DEAD_AFTER_SECONDS
from scaling.grid.tracking import check_trackers

GRACE_SECONDS = 25.0  # Slurm and Kubernetes kill 30 s after SIGTERM


@dataclass(frozen=True, slots=True)
class Conduct:
    """See `run_grid` for what each means.

    Raises:
        UsageError: for a value that cannot be.
    """

    retries: int = 2
    grace_seconds: float = GRACE_SECONDS
    dead_after_seconds: float = DEAD_AFTER_SECONDS
    log: tuple[str, ...] = ()
    stop_hopeless: bool = False
    max_hours: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.retries < 0 or self.grace_seconds < 0 or self.dead_after_seconds <= 0:
            raise UsageError("retries and grace_seconds may not be negative, and dead_after_seconds must be positive")
        if self.max_hours is not None and not self.max_hours > 0:
            raise UsageError(f"--max-gpu-hours {self.max_hours:g}: must be positive")
        if self.values and self.stop_hopeless:
            raise UsageError("--plan: --stop-hopeless runs the cheapest cells first; leave out one of the two")
        check_trackers(self.log)

    def arguments(self) -> tuple[str, ...]:
        """The same as options of `scaling run-grid` for one cell, which leaves to others when to stop."""
        found = ["--retries", str(self.retries), "--grace", f"{self.grace_seconds:g}"]
        found += ["--dead-after", f"{self.dead_after_seconds:g}"]
        return (*found, *(part for name in self.log for part in ("--log", name)))
