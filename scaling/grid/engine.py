"""What the grid needs of the place where cells run, and what it hears from there."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from scaling.grid.devices import Device
from scaling.grid.jobs import Job
from scaling.grid.leases import Lease
from scaling.records import Record


@dataclass(frozen=True, slots=True)
class Begun:
    """A cell left the queue."""

    cell: str
    where: str | None = None
    """Its host, where that is not this machine."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A cell's training moved on; with a loss of None it begins at this step."""

    cell: str
    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell ended with a record, finished or not."""

    record: Record
    disk_is_full: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The cell is no longer in hand, and not done: it goes back to those to hand out."""

    cell: str
    why: str | None = None
    """Why it is to be submitted again; None where another runner took it."""


News = Begun | Moved | Ended | Lost


class Engine(Protocol):
    """Runs cells: in processes of this machine, or as jobs of a cluster."""

    asked_to_stop: bool

    @property
    def device(self) -> Device:
        """That cells run on."""
        ...

    @property
    def threads(self) -> int:
        """Of one cell on a CPU."""
        ...

    @property
    def chains(self) -> bool:
        """Whether a cell may be submitted behind one in hand that it starts from."""
        ...

    @property
    def in_hand(self) -> Collection[str]:
        """Cells that were submitted and have not ended."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether it takes another cell now."""
        ...

    def submit(self, job: Job, lease: Lease) -> None:
        """Take a cell, and with it the right to run it."""
        ...

    def news(self, timeout: float) -> Iterator[News]:
        """What happened to the cells in hand; waits up to `timeout` seconds for it."""
        ...

    def cancel(self, cell: str, why: str) -> None:
        """Ask one cell to save and stop, since it cannot matter."""
        ...

    def stop(self) -> None:
        """Ask all to save and stop, or leave them to the cluster where they outlive this process."""
        ...

    def kill(self) -> None:
        """End at once whatever would not outlive this process; `news` tells what became of it."""
        ...
