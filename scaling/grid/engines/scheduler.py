"""What a grid needs of a scheduler, and what a job tells of itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Needs:
    """What one job asks for. The same on each of its nodes."""

    cpus: int
    """Cores of each node."""
    gpus: int = 0
    """Of each node."""
    nodes: int = 1
    processes: int = 1
    """Training processes of each node; more than one node means torchrun on each."""
    memory_bytes: int | None = None
    """Host memory of each node; None leaves it to the scheduler's default."""
    seconds: int | None = None
    """Time limit; None leaves it to the scheduler's default. A job that is not done then goes on as another."""


@dataclass(frozen=True, slots=True)
class Request:
    """One job: what follows `python` on its command line, and what it needs.

    Where `needs.nodes` is above 1, every node runs it under torchrun. A job that is asked to stop passes SIGTERM on to
    the command and waits for it.
    """

    name: str
    arguments: tuple[str, ...]
    needs: Needs
    after: str | None = None
    """The job that must have ended well before this one begins, where the scheduler can see to it (Slurm's afterok)."""


class Phase(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class Lack(StrEnum):
    """What a job that did not end by itself had too little of."""

    MEMORY = "memory"
    TIME = "time"
    NODE = "node"
    """Its node, or its worker there, is gone."""
    START = "start"
    """The job that it was to begin after has not ended well."""


@dataclass(frozen=True, slots=True)
class JobState:
    """One look at a job."""

    phase: Phase
    exit_code: int | None = None
    """Of the command, once it ended; 128 and the signal that killed it."""
    lack: Lack | None = None
    error: str | None = None
    """Why it ended otherwise than by its command, in one line."""
    node: str | None = None
    """Where it runs or ran, as far as known."""


@runtime_checkable
class DryRun(Protocol):
    """A scheduler that takes scripts."""

    def dry_run(self, requests: Sequence[Request]) -> str:
        """The scripts that `submit` would hand in; `after` is the name of an earlier one of these requests."""
        ...


class Scheduler(Protocol):
    """Jobs on machines that others manage: Ray or Slurm."""

    @property
    def has_gpus(self) -> bool:
        """Whether jobs can ask for GPUs there."""
        ...

    @property
    def longest_seconds(self) -> int | None:
        """Time limit of a job there; None where there is none."""
        ...

    def check(self, needs: Collection[Needs]) -> None:
        """Raise ScalingError where no node, partition or limit allows this, before anything is submitted."""
        ...

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Submit jobs, as one array where that is possible; returns their names at the scheduler, in order."""
        ...

    def look(self, jobs: Collection[str]) -> dict[str, JobState]:
        """What became of these jobs, also of those that another process submitted; unknown ones have ended."""
        ...

    def unnoted(self, noted: Collection[str]) -> dict[str, Request]:
        """Jobs of the run directory that have not ended and are none of these: of a driver that could not note them."""
        ...

    def cancel(self, jobs: Collection[str]) -> None:
        """Take queued jobs away, and ask running ones to save and stop."""
        ...

    def close(self) -> None:
        """Leave; what runs goes on where the scheduler lets it."""
        ...
