"""Cells as jobs of a scheduler. A job is `scaling run-grid` for one cell, on a machine that sees the run directory."""

import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from scaling.grid.crew import KILLED
from scaling.grid.devices import Device
from scaling.grid.engine import Begun, Ended, Lost, Moved, News
from scaling.grid.engines.journal import Journal, Submitted
from scaling.grid.engines.needs import corrected, grown, memory_of_cell
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request, Scheduler
from scaling.grid.jobs import Job
from scaling.grid.leases import Lease, file_system_time, find_holder, utc_now
from scaling.grid.status import last_logged
from scaling.records import FINISHED, Record, RunDirectory, Status, describe

LOOK_SECONDS = 2.0  # between two looks at the jobs
FOLLOWED = 200  # running cells whose progress is read at each look
LOSSES = 5  # of a cell's jobs in a row that came to nothing, before it counts as failed
STOPPED_CODE = 130  # of a job that was asked to stop, and saved
KILLED_CODE = 128 + signal.SIGKILL  # of one whose command was killed


@dataclass
class _Flight:
    """A cell in hand."""

    job: Job
    submitted: Submitted
    failure: Record | None
    """What its folder said when it was submitted."""
    begun: bool = False
    step: int = 0
    why: str | None = None
    """It was cancelled, since it cannot matter."""


@dataclass
class _Past:
    """What became of a cell's earlier jobs."""

    losses: int = 0
    step: int = 0
    grown: int = 0
    needs: Needs | None = None
    """What the next one asks for, where the last one had too little."""


@dataclass
class Remote:
    """An engine of jobs, at most `size` at a time."""

    run: RunDirectory
    scheduler: Scheduler
    journal: Journal
    device: Device
    """That each job has."""
    size: int
    needs_of: Callable[[Job], Needs]
    arguments_of: Callable[[Job, Needs], tuple[str, ...]]
    """What follows `python` in the job of a cell."""
    outlives_driver: bool
    """Whether jobs go on without this process."""
    tell: Callable[[str], None] = print
    """Called with a line of news that belongs to no cell."""
    asked_to_stop: bool = False
    threads: int = 1
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _waiting: list[Job] = field(default_factory=list)
    _past: dict[str, _Past] = field(default_factory=dict)
    _done: dict[str, list[Record]] = field(default_factory=dict)
    """Finished cells of each design."""
    _look_at: float = 0.0

    @property
    def chains(self) -> bool:
        """Whether the scheduler sees to the order of jobs."""
        return self.outlives_driver

    @property
    def in_hand(self) -> Collection[str]:
        """Cells submitted, or about to be."""
        return {*self._flights, *(job.cell.id for job in self._waiting)}

    @property
    def has_room(self) -> bool:
        """Whether another job may be submitted."""
        return len(self._flights) + len(self._waiting) < self.size

    def adopt(self, jobs: Collection[Job]) -> None:
        """Take the jobs in hand that an earlier driver submitted for open cells, and learn from finished ones."""
        last = self.journal.last()
        known = [(job, last[job.cell.id]) for job in jobs if job.cell.id in last and job.status not in FINISHED]
        states = self.scheduler.look([submitted.job for _, submitted in known])
        for job, submitted in known:
            state = states[submitted.job]
            if state.phase is Phase.ENDED:
                self._learn(job, submitted.needs, state)
            else:
                self._flights[job.cell.id] = _Flight(job, submitted, self.run.failure(job.cell.id))
        for job in jobs:  # one of each design
            design = str(job.cell.design)
            if job.status is Status.DONE and design not in self._done:
                self._done[design] = [record for record in [self.run.record(job.cell.id)] if record is not None]

    def submit(self, job: Job, lease: Lease) -> None:
        """Queue a cell; its job takes a lease of its own."""
        lease.release()
        self._waiting.append(job)

    def news(self, timeout: float) -> Iterator[News]:
        """Submit what waits, and tell what became of the jobs."""
        self._submit_waiting()
        if time.monotonic() < self._look_at:
            time.sleep(timeout)
            return
        states = self.scheduler.look([flight.submitted.job for flight in self._flights.values()])
        queued = not all(flight.begun for flight in self._flights.values())
        start = partial(self._start, now=file_system_time(self.run.path) if queued else 0.0)
        for begun, follow in ((True, self._progress), (False, start)):
            for flight in list(islice((each for each in self._flights.values() if each.begun is begun), FOLLOWED)):
                yield from follow(flight, states[flight.submitted.job])
        for cell, flight in list(self._flights.items()):
            if (state := states[flight.submitted.job]).phase is Phase.ENDED:
                del self._flights[cell]
                yield self._end(flight, state)
        self._look_at = time.monotonic() + LOOK_SECONDS

    def cancel(self, cell: str, why: str) -> None:
        """Ask a cell's job to save and stop."""
        if cell in self._flights:
            self._flights[cell].why = why
            self.scheduler.cancel([self._flights[cell].submitted.job])

    def stop(self) -> None:
        """Leave the jobs to the scheduler where they outlive this process, else ask them to save and stop."""
        self.asked_to_stop = True
        self._waiting.clear()
        if self.outlives_driver:
            name = self.journal.folder.name
            self.tell(f"{len(self._flights)} jobs go on at {name}; the same command watches them again")
            self._flights.clear()
        else:
            self.scheduler.cancel([flight.submitted.job for flight in self._flights.values()])

    def kill(self) -> None:
        """End the connection, and with it the jobs that do not outlive this process."""
        self._waiting.clear()
        self._flights.clear()
        self.scheduler.close()
        self.journal.close()

    def _submit_waiting(self) -> None:
        """As few arrays as the order of stages allows."""
        while self._waiting:
            waiting = {job.cell.id for job in self._waiting}
            free = [job for job in self._waiting if job.cell.after is None or job.cell.after.id not in waiting]
            self._waiting = [job for job in self._waiting if job.cell.after and job.cell.after.id in waiting]
            requests = [self._request(job) for job in free]
            names = self.scheduler.submit(requests)
            submitted = [
                Submitted(job.cell.id, name, request.needs)
                for job, name, request in zip(free, names, requests, strict=True)
            ]
            self.journal.add(submitted)
            for job, each in zip(free, submitted, strict=True):
                self._flights[job.cell.id] = _Flight(job, each, self.run.failure(job.cell.id))

    def _request(self, job: Job) -> Request:
        past = self._past.get(job.cell.id)
        needs = past.needs if past and past.needs else corrected(self.needs_of(job), job, self._measured(job))
        before = self._flights.get(job.cell.after.id) if job.cell.after else None
        after = before.submitted.job if before else None
        return Request(f"{job.cell.study}-{job.cell.id}", self.arguments_of(job, needs), needs, after)

    def _start(self, flight: _Flight, state: JobState, now: float) -> Iterator[Begun]:
        """Whether a job has begun, by its scheduler or, since Ray does not tell, by the lease of its cell."""
        folder = self.run.cell_folder(flight.job.cell.id)
        holder = find_holder(folder, now) if state.phase is Phase.QUEUED else None
        if state.phase is Phase.RUNNING or (holder and holder.lives):
            flight.begun = True
            yield Begun(flight.job.cell.id, state.node or (holder and holder.holder and holder.holder.host))

    def _measured(self, job: Job) -> list[Record]:
        return self._done.get(str(job.cell.design), [])

    def _progress(self, flight: _Flight, _state: JobState) -> Iterator[Moved]:
        cell = flight.job.cell
        step, loss = last_logged(self.run.cell_folder(cell.id))
        if step is not None and step != flight.step:
            steps = cell.recipe.training_steps(cell.data.epoch_images)
            if not flight.step:
                yield Moved(cell.id, step, steps, None)  # from here on its speed is known
            flight.step = step
            yield Moved(cell.id, step, steps, loss)

    def _end(self, flight: _Flight, state: JobState) -> Ended | Lost:
        """What became of a cell whose job has ended."""
        cell = flight.job.cell.id
        finished = self.run.record(cell)
        if finished is not None:
            self._done.setdefault(finished.design, []).append(finished)
            return Ended(finished)
        failure = self.run.failure(cell)
        failure = failure if failure != flight.failure else None
        if flight.why is not None:
            return Ended(self._note(flight, Status.STOPPED, flight.why, failure))
        if self.asked_to_stop:
            return Ended(failure or self._note(flight, Status.PREEMPTED, state.error or "asked to stop"))
        state = _with_lack(state, failure)
        if state.lack is None and state.exit_code != STOPPED_CODE:
            told = f": {state.error}" if state.error else ""
            error = f"its job ended with exit code {state.exit_code}{told}" if state.exit_code else state.error
            return Ended(failure or self._note(flight, Status.FAILED, error or "its job ended without a record"))
        why = state.error or (f"out of {state.lack}" if state.lack else "asked to stop")
        if not self._learn(flight.job, flight.submitted.needs, state):
            return Ended(self._note(flight, Status.FAILED, f"{why}; given up", failure))
        if failure is not None and failure.status is Status.FAILED:  # of this try, so that nobody takes it for the end
            self._note(flight, Status.PREEMPTED, why, failure)
        return Lost(cell, why)

    def _learn(self, job: Job, needs: Needs, state: JobState) -> bool:
        """What the next job of a cell asks for; False where there is none to be."""
        past = self._past.setdefault(job.cell.id, _Past())
        step = last_logged(self.run.cell_folder(job.cell.id))[0] or 0
        past.losses = 0 if step > past.step else past.losses + 1
        past.step = max(step, past.step)
        if state.lack is Lack.MEMORY or (state.lack is Lack.TIME and past.losses):
            if past.grown == job.cell.resources.growth:
                return past.losses == 0
            past.grown += 1
            past.needs = grown(needs, state.lack)
            return True
        return past.losses < LOSSES

    def _note(self, flight: _Flight, status: Status, error: str, failure: Record | None = None) -> Record:
        """Write down why a cell's job did not finish it."""
        known = failure or Record(**describe(flight.job.cell), status=status, finished_at=utc_now())
        record = known.model_copy(update={"status": status, "error": error})
        with suppress(OSError):  # a full disk: the other cells go on, and the message is shown
            self.run.begin(flight.job.cell)
            self.run.fail(record, f"job {flight.submitted.job}: {error}")
        return record


def _with_lack(state: JobState, failure: Record | None) -> JobState:
    """What a job told, with what its cell says: what is killed by nobody that we know had too little memory."""
    if state.lack is None and failure is not None:
        killed = (failure.error or "").startswith(KILLED)
        if killed or failure.memory_needed_bytes is not None:
            return replace(state, lack=Lack.MEMORY, error=failure.error)
    if state.lack is None and state.exit_code == KILLED_CODE:
        return replace(state, lack=Lack.MEMORY, error="killed by signal 9 (out of memory?)")
    return state


def cell_arguments(
    run: RunDirectory, device: Device, options: tuple[str, ...], job: Job, needs: Needs
) -> tuple[str, ...]:
    """What follows `python` in the job of a cell."""
    arguments = ["-m", "scaling", "run-grid", str(run.path.resolve()), "--only", job.cell.id, "--workers", "1"]
    arguments += ["--device", device.kind, "--cores", str(needs.cpus)]
    if (memory := memory_of_cell(job, needs)) is not None and device.kind == "cpu":
        arguments += ["--memory", f"{memory / 2**30:.3f}"]
    return (*arguments, "--format", "json", *options)  # a table would be of all records of the run directory
