"""Which jobs were submitted for which cells, in a file with one writer at a time."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scaling.errors import ScalingError
from scaling.grid.engines.scheduler import Needs
from scaling.grid.leases import Heartbeat, Holder, Lease, file_system_time, find_holder, take_lease

FILE = "jobs.jsonl"


@dataclass(frozen=True, slots=True)
class Submitted:
    """One job of a cell; the last one counts."""

    cell: str
    job: str
    """Its name at the scheduler."""
    needs: Needs
    time: float = field(default_factory=time.time)
    """Of submission, by the clock of the driver's machine."""
    grown: bool = False
    """Whether its needs are more than the cell's own, since a job before it had too little."""
    ended: bool = False
    """Whether a driver saw it end without the cell; `needs` are then those of the next one."""


class Journal:
    """The jobs that the drivers of one engine submitted, in `engines/NAME/` of the run directory.

    Args:
        folder: there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._heartbeat: Heartbeat | None = None
        self._lease: Lease | None = None

    def open(self, dead_after_seconds: float) -> None:
        """Become its only writer.

        Raises:
            ScalingError: if another driver is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        now = file_system_time(self.folder)
        self._lease = take_lease(self.folder, Holder.here(self.folder.name, 1, dead_after_seconds), now)
        if self._lease is None:
            holder = find_holder(self.folder, now).holder
            who = f"process {holder.runner} on {holder.host}" if holder else "another process"
            raise ScalingError(
                f"{who} submits jobs of {self.folder.parent.parent} to {self.folder.name} already;\n"
                "watch it with 'scaling status', or stop it first"
            )
        self._heartbeat = Heartbeat(self._lease)
        self._heartbeat.start()

    def close(self) -> None:
        """Leave it to the next driver."""
        if self._lease is not None and self._heartbeat is not None:
            self._heartbeat.stop()
            with suppress(OSError):  # then it is taken for dead after a while
                self._lease.release()

    def add(self, submitted: Iterable[Submitted]) -> None:
        """Note jobs, at once after they were submitted."""
        with (self.folder / FILE).open("a", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a crash may have cut off
            file.writelines(json.dumps(asdict(each)) + "\n" for each in submitted)

    def last(self) -> dict[str, Submitted]:
        """The last job of each cell that ever had one."""
        return last_jobs(self.folder)


def last_jobs(folder: Path) -> dict[str, Submitted]:
    """The last job of each cell by the journal of a folder; a line that was cut off is left out."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, Submitted] = {}
    for line in filter(None, lines):
        try:
            values = json.loads(line)
            found[values["cell"]] = Submitted(**values | {"needs": Needs(**values["needs"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found
