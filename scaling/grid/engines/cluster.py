"""Which cluster cells run on, as a user names it."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from scaling.errors import UsageError
from scaling.grid.engines.scheduler import Scheduler

PACKAGES = {"ray": "ray", "slurm": "submitit"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """An engine with what it must be told.

    Raises:
        UsageError: for an option of the other engine, or an engine that is not installed.
    """

    engine: Literal["ray", "slurm"]
    address: str | None = None
    """Of Ray's head; 'auto' by default, the cluster that this machine belongs to."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    seconds: int | None = None
    """Time limit of a Slurm job; by default what the estimator expects, or else the partition's limit."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """Further options of sbatch."""

    def __post_init__(self) -> None:
        of_slurm = {
            "--partition": self.partition,
            "--account": self.account,
            "--qos": self.qos,
            "--constraint": self.constraint,
            "--time": self.seconds,
            "--sbatch": self.sbatch,
        }
        unfit = [name for name, value in of_slurm.items() if value] if self.engine == "ray" else []
        unfit += ["--address"] if self.engine == "slurm" and self.address else []
        if unfit:
            other = "slurm" if self.engine == "ray" else "ray"
            raise UsageError(f"{unfit[0]} belongs to --engine {other}, not to --engine {self.engine}")
        package = PACKAGES[self.engine]
        if find_spec(package) is None:
            raise UsageError(
                f"--engine {self.engine}: {package} is not installed; run: pip install 'patch-scaling[{self.engine}]'"
            )

    @property
    def about(self) -> str:
        """What decides to which machines jobs come."""
        named = asdict(replace(self, seconds=None, sbatch=dict(self.sbatch)))
        return json.dumps(named | {"RAY_ADDRESS": os.environ.get("RAY_ADDRESS")}, sort_keys=True)

    def connect(self, folder: Path, name: str, grace_seconds: float) -> Scheduler:
        """Its scheduler.

        Args:
            folder: for files of its own, in the run directory.
            name: of the jobs.
            grace_seconds: that a job has to save when it is asked to stop.

        Raises:
            ScalingError: if it does not answer.
        """
        if self.engine == "ray":
            from scaling.grid.engines.ray import RayScheduler

            return RayScheduler(self.address or "auto", grace_seconds)
        from scaling.grid.engines.slurm import SlurmScheduler

        return SlurmScheduler(
            folder,
            name,
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            constraint=self.constraint,
            extra=self.sbatch,
            grace_seconds=grace_seconds,
        )
