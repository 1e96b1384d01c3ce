"""Cells as jobs of a scheduler. A job is `scaling run-grid` for one cell, on a machine that sees the run directory."""

import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from scaling.errors import ScalingError
from scaling.grid.crew import KILLED
from scaling.grid.devices import Device
from scaling.grid.engine import Begun, Ended, Lost, Moved, News
from scaling.grid.engines.asking import Asking
from scaling.grid.engines.journal import Journal, Submitted
from scaling.grid.engines.needs import memory_of_cell
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request, Scheduler
from scaling.grid.jobs import Job
from scaling.grid.leases import HELD_ELSEWHERE, Lease, file_system_time, find_holder, utc_now
from scaling.grid.status import last_logged
from scaling.records import FINISHED, Record, RunDirectory, Status, describe

LOOK_SECONDS = 2.0  # between two looks at the jobs
FOLLOWED = 200  # running cells whose progress is read at each look
FULL_SECONDS = 60.0  # after which a scheduler that took no more is asked again
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
class Remote:
    """An engine of jobs, at most `size` at a time."""

    run: RunDirectory
    scheduler: Scheduler
    journal: Journal
    device: Device
    """That each job has."""
    size: int
    asking: Asking
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
    _look_at: float = 0.0
    _full_until: float = 0.0
    _turn: int = 0

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
        return len(self._flights) + len(self._waiting) < self.size and time.monotonic() >= self._full_until

    def adopt(self, jobs: Collection[Job]) -> None:
        """Take the jobs in hand that earlier drivers submitted for open cells, and learn from finished ones."""
        last = self.journal.last()
        known = [(job, last[job.cell.id]) for job in jobs if job.cell.id in last and job.status not in FINISHED]
        for job, submitted in known:
            if submitted.grown:
                self.asking.recall(job, submitted.needs)
        unseen = [(job, submitted) for job, submitted in known if not submitted.ended]
        states = self.scheduler.look([submitted.job for _, submitted in unseen])
        for job, submitted in unseen:
            state, failure = states[submitted.job], self.run.failure(job.cell.id)
            if state.phase is not Phase.ENDED:
                self._flights[job.cell.id] = _Flight(job, submitted, failure)
            elif (state := _with_lack(state, failure)).lack is not None:
                self.asking.again(job, submitted.needs, state, self._step(job))
        self._adopt_unnoted({job.cell.id: job for job in jobs if job.status not in FINISHED}, last.values())
        for job in jobs:
            if job.status is Status.DONE and not self.asking.knows(job.cell):
                record = self.run.record(job.cell.id)
                assert record is not None
                self.asking.finished(record)

    def _adopt_unnoted(self, open_jobs: Mapping[str, Job], noted: Iterable[Submitted]) -> None:
        """Take the jobs in hand that a driver was killed before noting; a cell needs only one of them."""
        for name, request in self.scheduler.unnoted({each.job for each in noted}).items():
            cell = next((part for part in request.arguments if part in open_jobs), None)
            if cell in self._flights:
                self.scheduler.cancel([name])
            elif cell is not None:
                submitted = Submitted(cell, name, request.needs)
                self.journal.add([submitted])
                self._flights[cell] = _Flight(open_jobs[cell], submitted, self.run.failure(cell))

    def submit(self, job: Job, lease: Lease) -> None:
        """Queue a cell; its job takes a lease of its own."""
        lease.release()
        self._waiting.append(job)

    def news(self, timeout: float) -> Iterator[News]:
        """Submit what waits, and tell what became of the jobs."""
        yield from self._submit_waiting()
        if time.monotonic() < self._look_at:
            time.sleep(timeout)
            return
        self._look_at = time.monotonic() + LOOK_SECONDS  # also where this look fails
        states = self.scheduler.look([flight.submitted.job for flight in self._flights.values()])
        yield from self._starts(states)
        for flight in self._some_that_run():
            yield from self._progress(flight)
        for cell, flight in list(self._flights.items()):
            state = states[flight.submitted.job]
            if state.phase is not Phase.ENDED or self._depends(flight):
                continue
            news = self._end(flight, state)
            if isinstance(news, Lost) or news.record.status not in FINISHED:
                self._note_end(flight)
            del self._flights[cell]
            if not flight.begun and isinstance(news, Ended):  # it was quicker than we look
                yield Begun(cell, state.node)
            yield news

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
            self.tell(
                f"jobs go on at {self.journal.folder.name} ({len(self._flights)}); the same command watches them again"
            )
            self._flights.clear()
        else:
            self.scheduler.cancel([flight.submitted.job for flight in self._flights.values()])

    def kill(self) -> None:
        """End the connection, and with it the jobs that do not outlive this process."""
        self._waiting.clear()
        self._flights.clear()
        self.scheduler.close()
        self.journal.close()

    def _submit_waiting(self) -> Iterator[Lost]:
        """One array for those of equal needs, noted at once; what the scheduler does not take goes back."""
        while self._waiting:
            waiting = {job.cell.id for job in self._waiting}
            free = [job for job in self._waiting if job.cell.after is None or job.cell.after.id not in waiting]
            arrays: dict[tuple[Needs, str | None], list[tuple[Job, Request]]] = {}
            for job in free:
                request = self._request(job)
                arrays.setdefault((request.needs, request.after), []).append((job, request))
            if not all(map(self._submit_array, arrays.values())):
                left, self._waiting = self._waiting, []
                yield from (Lost(job.cell.id, "its scheduler takes no more now") for job in left)

    def _submit_array(self, array: list[tuple[Job, Request]]) -> bool:
        """Submit as many as the scheduler takes, and whether those are all.

        Raises:
            ScalingError: where it takes none and has none of ours.
        """
        wanted, names = len(array), None
        while names is None:
            try:
                names = self.scheduler.submit([request for _, request in array])
            except ScalingError as error:
                if len(array) == 1:
                    if not self._flights:
                        raise
                    self._full_until = time.monotonic() + FULL_SECONDS
                    self.tell(f"{error}; going on with {len(self._flights)} jobs for now")
                    return False
                array = array[: len(array) // 2]
        flights = [
            _Flight(job, self._submitted(job, name, request.needs), self.run.failure(job.cell.id))
            for (job, request), name in zip(array, names, strict=True)
        ]
        self._flights |= {flight.job.cell.id: flight for flight in flights}
        self._waiting = [job for job in self._waiting if job.cell.id not in self._flights]
        self.journal.add(flight.submitted for flight in flights)
        return len(array) == wanted

    def _submitted(self, job: Job, name: str, needs: Needs) -> Submitted:
        return Submitted(job.cell.id, name, needs, grown=self.asking.has_grown(job))

    def _note_end(self, flight: _Flight) -> None:
        """Write down that a job is no more, for who looks on and for the next driver."""
        ended = self._submitted(flight.job, flight.submitted.job, self.asking.needs(flight.job))
        with suppress(OSError):  # then the next driver finds out by itself
            self.journal.add([replace(ended, ended=True)])

    def _request(self, job: Job) -> Request:
        needs = self.asking.needs(job)
        before = self._flights.get(job.cell.after.id) if job.cell.after else None
        after = before.submitted.job if before else None
        return Request(f"{job.cell.study}-{job.cell.id}", self.arguments_of(job, needs), needs, after)

    def _starts(self, states: dict[str, JobState]) -> Iterator[Begun]:
        """Which jobs have begun, by their scheduler or, since Ray does not tell, by the leases of the next ones."""
        queued = [flight for flight in self._flights.values() if not flight.begun]
        now = file_system_time(self.run.path) if queued else 0.0
        for place, flight in enumerate(queued):
            state, cell = states[flight.submitted.job], flight.job.cell.id
            holder = None
            if state.phase is Phase.QUEUED and place < FOLLOWED:
                holder = find_holder(self.run.cell_folder(cell), now)
            if state.phase is Phase.RUNNING or (holder and holder.lives):
                flight.begun = True
                yield Begun(cell, state.node or (holder and holder.holder and holder.holder.host))

    def _some_that_run(self) -> list[_Flight]:
        """Those whose progress is read at this look; all in turn."""
        running = [flight for flight in self._flights.values() if flight.begun]
        self._turn = (self._turn + FOLLOWED) % len(running) if len(running) > FOLLOWED else 0
        return (running[self._turn :] + running[: self._turn])[:FOLLOWED]

    def _depends(self, flight: _Flight) -> bool:
        """Whether a cell's end is to be judged only once it is known how the one before it ended."""
        before = flight.job.cell.after
        return before is not None and before.id in self._flights and self.run.record(flight.job.cell.id) is None

    def _progress(self, flight: _Flight) -> Iterator[Moved]:
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
        job, cell = flight.job, flight.job.cell.id
        finished = self.run.record(cell)
        if finished is not None:
            self.asking.finished(finished)
            return Ended(finished)
        failure = self.run.failure(cell)
        failure = failure if failure != flight.failure else None
        if state.exit_code == HELD_ELSEWHERE and failure is None:
            return Lost(cell)
        if flight.why is not None:
            return Ended(self._note(flight, Status.STOPPED, flight.why, failure))
        if self.asked_to_stop:
            return Ended(failure or self._note(flight, Status.PREEMPTED, state.error or "asked to stop"))
        before = job.cell.after  # whose job was lost, or left it to another runner, and this one's went with it
        if failure is None and before and (state.lack is Lack.START or self.run.record(before.id) is None):
            return Lost(cell, f"the job of {before.name} did not finish it")
        state = _with_lack(state, failure)
        held = find_holder(self.run.cell_folder(cell), file_system_time(self.run.path)).lives
        if state.lack is None and state.exit_code != STOPPED_CODE and failure is None and held:
            state = replace(state, lack=Lack.NODE)  # what is left of this job holds the cell, or another runner does
        if state.lack is None and state.exit_code != STOPPED_CODE:
            told = f": {state.error}" if state.error else ""
            error = f"its job ended with exit code {state.exit_code}{told}" if state.exit_code else state.error
            return Ended(failure or self._note(flight, Status.FAILED, error or "its job ended without a record"))
        why = state.error or (f"out of {state.lack}" if state.lack else "asked to stop")
        if (given_up := self.asking.again(job, flight.submitted.needs, state, self._step(job))) is not None:
            error = f"{why}; given up: {given_up}"
            return Lost(cell) if held else Ended(self._note(flight, Status.FAILED, error, failure))
        if failure is not None and failure.status is Status.FAILED and not held:  # so that nobody takes it for the end
            self._note(flight, Status.PREEMPTED, why, failure)
        return Lost(cell, why)

    def _step(self, job: Job) -> int:
        """To which a cell has got."""
        return last_logged(self.run.cell_folder(job.cell.id))[0] or 0

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
        killed = failure.status is Status.FAILED and (failure.error or "").startswith(KILLED)
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
