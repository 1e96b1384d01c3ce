"""The processes that run cells: started, listened to, asked to stop and ended."""

import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from scaling.design import Cell
from scaling.grid.devices import Device
from scaling.grid.engine import Begun, Ended, Lost, Moved, News
from scaling.grid.jobs import Job, Memory
from scaling.grid.leases import BEATS_PER_LIFE, HELD_ELSEWHERE, Lease, LeaseLostError, utc_now
from scaling.processes import SCHEDULER_SIGNALS, fork_server
from scaling.records import Record, RunDirectory, Status, describe
from scaling.torchrun import Place

KILLED_BY = "worker killed by signal"
KILLED = f"{KILLED_BY} {signal.SIGKILL.value}"
"""How the reason of a cell begins whose worker was killed, as systems do that run out of memory."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a worker needs to know."""

    cell: Cell
    run: Path
    lease: Lease
    device: str
    device_index: int
    threads: int
    micro_batch_size: int
    memory: Memory
    """What it may take of the device."""
    estimated_images_per_second: float | None
    retries: int
    trackers: tuple[str, ...]
    started: float
    """time.time() at which the cell was handed out."""
    place: Place | None = None
    """Under torchrun: of the first process, which leads the others."""


@dataclass
class _Worker:
    task: Assignment
    slot: int
    process: BaseProcess
    pipe: Connection
    renewed: float
    speaks: bool = False
    """Whether the worker has begun, and renews its lease itself."""


@dataclass
class Crew:
    """The local engine: up to `size` workers on one device of this machine."""

    run: RunDirectory
    device: Device
    size: int
    retries: int
    trackers: tuple[str, ...] = ()
    place: Place | None = None
    workers: dict[str, _Worker] = field(default_factory=dict)
    asked_to_stop: bool = False
    _context: Any = None
    _begun: list[str] = field(default_factory=list)

    @property
    def threads(self) -> int:
        """Threads of one worker."""
        return max(1, self.device.count // self.size) if self.device.kind == "cpu" else 1

    @property
    def chains(self) -> bool:
        """Nothing waits here: what starts from another cell is submitted after its end."""
        return False

    @property
    def in_hand(self) -> Collection[str]:
        """Cells with a worker."""
        return self.workers.keys()

    @property
    def has_room(self) -> bool:
        """Whether a worker is free."""
        return len(self.workers) < self.size

    def submit(self, job: Job, lease: Lease) -> None:
        """Run a cell in a new process."""
        self._context = self._context or fork_server(["scaling.grid.worker"])
        slot = min(set(range(self.size)) - {worker.slot for worker in self.workers.values()})
        speed = job.images_per_second.estimate if job.images_per_second else None
        processes = self.place.local_world_size if self.place else job.cell.resources.processes
        task = Assignment(
            self.device.with_loaders(job.cell, self.size * processes),
            self.run.path,
            lease,
            self.device.kind,
            slot % max(1, self.device.count // job.cell.resources.processes),
            self.threads,
            job.micro_batch_size,
            job.memory,
            speed,
            self.retries,
            self.trackers,
            time.time(),
            self.place,
        )
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(task, theirs), name=job.cell.name)
        process.start()
        theirs.close()
        self.workers[job.cell.id] = _Worker(task, slot, process, ours, time.monotonic())
        self._begun.append(job.cell.id)

    def news(self, timeout: float) -> Iterator[News]:
        """What workers said, or that they are gone; waits up to `timeout` seconds for it."""
        begun, self._begun = self._begun, []
        yield from map(Begun, begun)
        wait([worker.pipe for worker in self.workers.values()], timeout) if self.workers else time.sleep(timeout)
        for cell, worker in list(self.workers.items()):
            self._renew_for(worker)
            for news in self._listen(cell, worker):
                if not isinstance(news, Moved):
                    del self.workers[cell]
                    worker.process.join()
                yield news

    def cancel(self, cell: str, why: str) -> None:
        """Ask one worker to save and stop, since its cell cannot matter."""
        with suppress(OSError):  # it has ended; `news` tells how
            self.workers[cell].pipe.send(why)

    def stop(self) -> None:
        """Ask all to save and stop."""
        self.asked_to_stop = True
        for worker in self.workers.values():
            worker.process.terminate()

    def kill(self) -> None:
        """End all at once. What they would have noted, `news` notes for them."""
        for worker in self.workers.values():
            worker.process.kill()
        for worker in self.workers.values():
            worker.process.join()
            with suppress(OSError):
                worker.task.lease.release()

    def _listen(self, cell: str, worker: _Worker) -> Iterator[Moved | Ended | Lost]:
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                worker.speaks = True
                if isinstance(message, Ended):
                    yield message
                    return
                yield Moved(cell, *message)
        except (EOFError, OSError):
            yield self._gone(worker)

    def _renew_for(self, worker: _Worker) -> None:
        """Importing torch can take minutes on a cluster; until then the runner renews the lease."""
        pause = worker.task.lease.holder.dead_after_seconds / BEATS_PER_LIFE
        if not worker.speaks and time.monotonic() - worker.renewed > pause:
            worker.renewed = time.monotonic()
            with suppress(LeaseLostError, OSError):  # the worker finds out, and ends
                worker.task.lease.renew()

    def _gone(self, worker: _Worker) -> Ended | Lost:
        """What became of a worker that vanished."""
        worker.process.join()
        cell, lease, code = worker.task.cell, worker.task.lease, worker.process.exitcode or 0
        finished = self.run.record(cell.id)
        if finished is not None:  # it was killed right after it wrote its record
            with suppress(OSError):
                lease.remove()
            return Ended(finished)
        if code == HELD_ELSEWHERE or not lease.is_held:
            return Lost(cell.id)
        preempted = self.asked_to_stop or -code in SCHEDULER_SIGNALS
        reason = f"{KILLED_BY} {-code}" if code < 0 else f"worker exited with {code}"
        if code == -signal.SIGKILL:
            reason += " before it had saved" if self.asked_to_stop else " (out of memory?)"
        status = Status.PREEMPTED if preempted else Status.FAILED
        record = Record(**describe(cell), status=status, error=reason, finished_at=utc_now())
        with suppress(OSError):  # a full disk: the other cells go on, and the message is shown
            self.run.begin(cell)
            self.run.fail(record, reason)
            lease.release()
        return Ended(record)


def _work(task: Assignment, pipe: Connection) -> None:
    """Entry of a worker; the import happens in the worker's process, not in the runner's."""
    from scaling.grid.worker import work

    work(task, pipe)
