"""A scheduler of processes on this machine, which tests can make fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from scaling.errors import ScalingError
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request

ROOT = Path(__file__).parents[2]


class Processes:
    """Jobs as processes, `room` of them at a time; they outlive none of the drivers of a test."""

    has_gpus = False
    longest_seconds = None

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.requests: dict[str, Request] = {}
        self.arrays: list[int] = []
        self.cancelled: list[str] = []
        self.most_bytes, self.most_jobs = 1 << 40, 1000
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lacks: dict[str, Lack] = {}

    def check(self, needs: Collection[Needs]) -> None:
        if any((each.memory_bytes or 0) > self.most_bytes for each in needs):
            raise ScalingError("no node has so much")

    def submit(self, requests: Sequence[Request]) -> list[str]:
        open_jobs = sum(self._state(job).phase is not Phase.ENDED for job in self.requests)
        if open_jobs + len(requests) > self.most_jobs:
            raise ScalingError("too many jobs")
        names = [str(len(self.requests) + place) for place in range(len(requests))]
        self.requests.update(zip(names, requests, strict=True))
        self.arrays.append(len(requests))
        return names

    def look(self, jobs: Collection[str]) -> dict[str, JobState]:
        self._start()
        return {job: self._state(job) for job in jobs}

    def unnoted(self, noted: Collection[str]) -> dict[str, Request]:
        alive = [job for job in self.requests if job not in noted and self._state(job).phase is not Phase.ENDED]
        return {job: self.requests[job] for job in alive}

    def cancel(self, jobs: Collection[str]) -> None:
        self.cancelled += jobs
        for job in jobs:
            if job in self._processes:
                self._processes[job].terminate()
            else:
                self._lacks[job] = Lack.NODE

    def close(self) -> None:
        """Jobs go on."""

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def lose(self, job: str, lack: Lack) -> None:
        """End a job as its scheduler would for want of this; at its time limit it may save."""
        self._lacks[job] = lack
        process = self._processes[job]
        process.send_signal(signal.SIGTERM if lack is Lack.TIME else signal.SIGKILL)
        process.wait()

    def _start(self) -> None:
        running = sum(process.poll() is None for process in self._processes.values())
        waiting = [job for job in self.requests if job not in self._processes and job not in self._lacks]
        free = [job for job in waiting if self._may_begin(self.requests[job].after)]
        for job in free[: self.room - running]:
            command = [sys.executable, *self.requests[job].arguments]
            self._processes[job] = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def _may_begin(self, after: str | None) -> bool:
        return after is None or (after in self._processes and self._processes[after].poll() == 0)

    def _state(self, job: str) -> JobState:
        if job not in self.requests:
            return JobState(Phase.ENDED, lack=Lack.NODE)
        if job in self._lacks:
            return JobState(Phase.ENDED, lack=self._lacks[job])
        process = self._processes.get(job)
        if process is None:
            after = self._state(before) if (before := self.requests[job].after) is not None else None
            if after is not None and after.phase is Phase.ENDED and after.exit_code != 0:
                return JobState(Phase.ENDED, lack=Lack.START, error="DependencyNeverSatisfied")
            return JobState(Phase.QUEUED)
        code = process.poll()
        return JobState(Phase.RUNNING, node="here") if code is None else JobState(Phase.ENDED, exit_code=code)
