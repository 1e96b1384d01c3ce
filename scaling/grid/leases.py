"""Who runs which cell: lease files in the cells' folders, without a lock server.

The holder of a cell is who made the lease file of the highest number, `lease-N.json`. A name can be made only once, on
network file systems too, so of many that want to follow a dead holder N exactly one makes N + 1. A holder renews the
time of its file; whoever looks compares it with the time of a file just made on the same file system, so clocks of
machines need not agree. A released lease has the time 0, which also works on a full disk.
"""

import json
import os
import socket
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from scaling.records import write_whole

DEAD_AFTER_SECONDS = 60.0
BEATS_PER_LIFE = 6  # renewals in the time after which a holder counts as dead
HELD_ELSEWHERE = os.EX_TEMPFAIL
"""Exit code of a process whose cell another one has."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, for people and for other runners."""

    host: str
    machine: str | None
    """Boot and process namespace, within which a process id means the same; None where that is not known."""
    runner: int
    worker: int | None
    started: str
    """UTC, ISO 8601, by the clock of the host."""
    device: str
    cores: int
    """Threads of the cell on a CPU, 1 on a GPU."""
    dead_after_seconds: float = DEAD_AFTER_SECONDS
    """Without renewal for this long, others may take the cell."""

    @classmethod
    def here(cls, device: str, cores: int, dead_after_seconds: float) -> "Holder":
        """This process, now."""
        return cls(socket.gethostname(), _machine(), os.getpid(), None, utc_now(), device, cores, dead_after_seconds)

    @property
    def is_gone(self) -> bool:
        """Whether its processes are surely dead; False where that cannot be seen from here."""
        processes = [process for process in (self.runner, self.worker) if process]
        return self.machine is not None and self.machine == _machine() and not any(map(_exists, processes))


class LeaseLostError(Exception):
    """Another runner took the cell, since this one gave no sign of life."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a cell, as long as no lease of a higher number is there."""

    folder: Path
    number: int
    holder: Holder

    @property
    def path(self) -> Path:
        """Its file."""
        return _file(self.folder, self.number)

    @property
    def is_held(self) -> bool:
        """Whether no one has followed."""
        return _highest(self.folder) == self.number

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            LeaseLostError: if another has taken the cell.
        """
        if not self.is_held:
            raise LeaseLostError(f"{self.path}: taken over")
        os.utime(self.path)

    def hand_to(self, worker: int) -> "Lease":
        """Write down the process that runs the cell; raises LeaseLostError as `renew` does."""
        self.renew()
        mine = replace(self, holder=replace(self.holder, worker=worker))
        write_whole(self.path, json.dumps(asdict(mine.holder), indent=2) + "\n")
        return mine

    def release(self) -> None:
        """Leave the cell to whoever wants it; who held it last can still be read."""
        if self.is_held:
            os.utime(self.path, (0, 0))

    def remove(self) -> None:
        """Remove this lease and those before it: the cell has its record and needs none."""
        for number in _numbers(self.folder):
            if number <= self.number:
                _file(self.folder, number).unlink(missing_ok=True)


def take_lease(folder: Path, holder: Holder, now: float) -> Lease | None:
    """The lease of a cell whose folder exists, or None where another holds it and lives.

    Args:
        folder: of the cell.
        holder: who asks.
        now: the file system's time, see `file_system_time`.
    """
    number = _highest(folder)
    if number and find_holder(folder, now).lives:
        return None
    lease = Lease(folder, number + 1, holder)
    try:
        descriptor = os.open(lease.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(holder), indent=2) + "\n")
    except OSError:
        lease.path.unlink(missing_ok=True)
        raise
    if not lease.is_held:  # several have followed each other since we looked
        lease.path.unlink(missing_ok=True)
        return None
    for earlier in _numbers(folder):
        if earlier < lease.number:
            _file(folder, earlier).unlink(missing_ok=True)
    return lease


@dataclass(frozen=True, slots=True)
class Found:
    """The last lease of a cell as seen from outside."""

    holder: Holder | None
    """None without a lease, or with one that is being written."""
    silent_seconds: float | None
    """Since its last sign of life; None without a lease, or with a released one."""

    @property
    def lives(self) -> bool:
        """Whether someone is at work on the cell."""
        if self.silent_seconds is None or (self.holder and self.holder.is_gone):
            return False
        return self.silent_seconds <= (self.holder.dead_after_seconds if self.holder else DEAD_AFTER_SECONDS)

    def renewed_within(self, seconds: float) -> bool:
        """Whether there was a sign of life so lately."""
        return self.silent_seconds is not None and self.silent_seconds < seconds


def find_holder(folder: Path, now: float) -> Found:
    """Who holds or held a cell; `now` is the file system's time."""
    try:
        # Opened, since network file systems look afresh then.
        with _file(folder, _highest(folder)).open(encoding="utf-8") as file:
            renewed, text = os.fstat(file.fileno()).st_mtime, file.read()
    except FileNotFoundError:
        return Found(None, None)
    try:
        holder = Holder(**json.loads(text))
    except (ValueError, TypeError):
        holder = None
    return Found(holder, now - renewed if renewed else None)


def file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps files in this folder; raises OSError where we may not write."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.") as file:
        return os.fstat(file.fileno()).st_mtime


class Heartbeat(threading.Thread):
    """Renews a lease until the process ends, and ends the process at once when the lease is lost.

    A holder that was paused for too long must write nothing more, so there is no tidying up.
    """

    def __init__(self, lease: Lease) -> None:
        super().__init__(daemon=True)
        self._lease = lease
        self._pause = lease.holder.dead_after_seconds / BEATS_PER_LIFE
        self._renewed = time.monotonic()
        self._over = threading.Event()

    def run(self) -> None:
        """Renew, again and again."""
        while not self._over.wait(self._pause):
            self.beat()

    def stop(self) -> None:
        """Renew no more; the lease is the caller's to release."""
        self._over.set()
        self.join()

    def beat(self) -> None:
        """Renew now."""
        try:
            self._lease.renew()
            self._renewed = time.monotonic()
        except (LeaseLostError, FileNotFoundError):
            silent = f"gave no sign of life for {self._lease.holder.dead_after_seconds:g} s (--dead-after)"
            told = f"error: another process has taken over {self._lease.folder}, since this one {silent}; it ends\n"
            os.write(2, told.encode())
            os._exit(HELD_ELSEWHERE)
        except OSError:
            pass  # the next beat tries again

    def check(self) -> None:
        """Make sure that the lease is still ours if it was not renewed for a while."""
        if time.monotonic() - self._renewed > 2 * self._pause:
            self.beat()


def utc_now() -> str:
    """The time as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _file(folder: Path, number: int) -> Path:
    return folder / f"lease-{number}.json"


def _numbers(folder: Path) -> list[int]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    middles = [name[6:-5] for name in names if name.startswith("lease-") and name.endswith(".json")]
    return [int(middle) for middle in middles if middle.isdigit()]


def _highest(folder: Path) -> int:
    return max(_numbers(folder), default=0)


@cache
def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
