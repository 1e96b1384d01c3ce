"""How a run goes about its cells, on any engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scaling.errors import UsageError
from scaling.grid.leases import DEAD_AFTER_SECONDS
from scaling.grid.tracking import check_trackers

GRACE_SECONDS = 25.0  # Slurm and Kubernetes kill 30 s after SIGTERM


@dataclass(frozen=True, slots=True)
class Conduct:
    """How often to try, when to stop, what to do first.

    Raises:
        UsageError: for a value that cannot be.
    """

    retries: int = 2
    """How often a cell is begun again after an error of input or output."""
    grace_seconds: float = GRACE_SECONDS
    """Time for running cells to save and stop, before they are killed."""
    dead_after_seconds: float = DEAD_AFTER_SECONDS
    """Without a sign of life for this long, other runners take over a cell of this one."""
    log: Sequence[str] = ()
    """Experiment trackers that are told losses and results: 'tensorboard', 'wandb', 'mlflow', 'trackio'."""
    stop_hopeless: bool = False
    """Run the cheapest cells first, and stop those that are heading for a higher loss than a design that costs no more;
    see docs/hopeless.md."""
    max_hours: float | None = None
    """Begin no cell that would bring the hours of the run directory above this, by what is foreseen: of GPUs, or
    of cores where cells run on CPUs."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Per GPU-hour, by short name of a design: the most valuable cells first, such as by
    `scaling.decisions.planning.values_of_plan`; by default those that most training waits for."""
    wait: bool = True
    """For cells that other runners hold; else the run ends once it has seen them at work on all that is left."""

    @property
    def trackers(self) -> tuple[str, ...]:
        """Those of `log`, each once."""
        return tuple(dict.fromkeys(self.log))

    def __post_init__(self) -> None:
        finite = math.isfinite(self.grace_seconds) and math.isfinite(self.dead_after_seconds)
        if self.retries < 0 or self.grace_seconds < 0 or self.dead_after_seconds <= 0 or not finite:
            raise UsageError(
                "retries and grace_seconds may not be negative, and dead_after_seconds must be positive; all finite"
            )
        if self.max_hours is not None and not self.max_hours > 0:
            raise UsageError(f"--max-gpu-hours {self.max_hours:g}: must be positive")
        if self.values and self.stop_hopeless:
            raise UsageError("--plan: --stop-hopeless runs the cheapest cells first; leave out one of the two")
        check_trackers(self.log)

    def arguments(self) -> tuple[str, ...]:
        """The same as options of `scaling run-grid` for one cell, which leaves to others when to stop or to wait."""
        found = ["--retries", str(self.retries), "--grace", f"{self.grace_seconds:g}"]
        found += ["--dead-after", f"{self.dead_after_seconds:g}", "--no-wait"]
        return (*found, *(part for name in self.trackers for part in ("--log", name)))
