"""Cells as jobs of Slurm, submitted with submitit."""

import math
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import ScalingError, UsageError, nearest
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request
from scaling.grid.engines.slurm_job import BEFORE_THE_LIMIT, FOR_GOOD, Command
from scaling.grid.engines.slurm_state import (
    ACCOUNT_FORMAT,
    GONE,
    NODE_FORMAT,
    QUEUE_FORMAT,
    NodeKind,
    Seen,
    elements,
    find,
    judge,
    read_accounts,
    read_nodes,
    read_queue,
    show_time,
)

if TYPE_CHECKING:
    from submitit.core.utils import JobPaths

OURS = ("array", "dependency", "error", "open-mode", "output", "requeue", "signal")
"""Options of sbatch that jobs here depend on."""
RESULT_SECONDS = 15.0  # until what a node wrote is seen here
PATIENCE_SECONDS = 300.0  # for a controller that is restarted
AWAY = ("Unable to contact slurm controller", "Socket timed out", "standby mode", "Connection refused")
SPARE_SECONDS = 5  # to requeue a job that took all the time it has to save
SAY_AGAIN_SECONDS = 5.0


class SlurmScheduler:
    """Jobs of Slurm; see `Scheduler`.

    Args:
        folder: for scripts, logs and results of jobs, on the file system that the nodes share.
        name: of the arrays.
        partition: several may be given as Slurm takes them, with commas; None for the default one.
        account: that pays.
        qos: quality of service.
        constraint: features that nodes must have.
        extra: further options of sbatch, such as {"exclude": "node7"}; a flag has the value "".
        grace_seconds: that a command has to save when the time limit comes.

    Raises:
        UsageError: for an option in `extra` that is ours.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        extra: Mapping[str, str] | None = None,
        grace_seconds: float = 25.0,
    ) -> None:
        self._extra = {key.lstrip("-").replace("_", "-"): value or True for key, value in (extra or {}).items()}
        for key in OURS:
            if key in self._extra:
                raise UsageError(f"--sbatch {key}: this is set by scaling itself")
        self._folder = folder.absolute()
        self._grace_seconds = math.ceil(grace_seconds) + SPARE_SECONDS
        self._partition = partition
        chosen = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self._place = {key: value for key, value in chosen.items() if value is not None}
        self._name = name
        self._without_result: dict[str, float] = {}

    @property
    def has_gpus(self) -> bool:
        """Whether some node of the partition has GPUs."""
        return any(kind.gpus for kind in self._nodes)

    @property
    def longest_seconds(self) -> int | None:
        """The time limit of the partition, the longest of several; None where there is none."""
        limits = [kind.longest_seconds for kind in self._nodes]
        return None if None in limits else max(limit for limit in limits if limit is not None)

    def check(self, needs: Collection[Needs]) -> None:
        """Raise ScalingError where no node, partition or limit allows this; asks Slurm, and submits nothing."""
        for need in set(needs):
            self._check_size(need)
            self._check_time(need)
            with _outside_of_jobs():
                asked = _run("sbatch", "--test-only", text=self._script(need, None, 1))
            if asked.returncode:
                chosen = {"nodes": need.nodes} | self._place | self._extra
                options = " ".join(f"--{key} {value}" for key, value in chosen.items())
                raise ScalingError(f"Slurm takes no such job ({options}): {_last_line(asked)}")

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Submit jobs of equal needs as arrays; returns their ids, in order.

        Raises:
            ScalingError: if Slurm refuses one; then none is left there.
        """
        jobs: dict[int, str] = {}
        for numbers in arrays(requests, self._most_in_array):
            try:
                jobs |= zip(numbers, self._submit_array([requests[number] for number in numbers]), strict=True)
            except ScalingError:
                self.cancel(jobs.values())
                raise
        return [jobs[number] for number in range(len(requests))]

    def dry_run(self, requests: Sequence[Request]) -> str:
        """The scripts that `submit` would give to sbatch; works without Slurm, and writes nothing.

        JOB1, JOB2_0 and so on stand for the ids that Slurm would give.
        """
        answers = shutil.which("scontrol") and not _run("scontrol", "ping").returncode
        most = self._most_in_array if answers else len(requests)
        scripts, ids = list[str](), dict[str | None, str]()
        for place, numbers in enumerate(arrays(requests, most), 1):
            first = requests[numbers[0]]
            scripts.append(self._script(first.needs, ids.get(first.after), len(numbers)))
            for index, number in enumerate(numbers):
                request = requests[number]
                ids[request.name] = f"JOB{place}_{index}" if len(numbers) > 1 else f"JOB{place}"
                scripts.append(f"# {ids[request.name]}: {shlex.join(['python', *request.arguments])}")
        return "\n".join(scripts)

    def look(self, jobs: Collection[str]) -> dict[str, JobState]:
        """What became of these jobs, also of another process's; those that Slurm has forgotten have ended.

        One call of squeue for all, and one of sacct for those that are no longer in the queue.

        Raises:
            ScalingError: if the controller does not answer for five minutes.
        """
        if not jobs:
            return {}
        queue = _read_queue()
        absent = sorted({job.split("_")[0] for job in jobs if job not in queue})
        accounts: dict[str, Seen] = {}
        if absent:  # without accounting this fails; what jobs left must do then
            accounts = read_accounts(
                _run("sacct", "-X", "-n", "-P", "-o", ACCOUNT_FORMAT, "-j", ",".join(absent)).stdout
            )
        return {job: self._look(job, find(job, queue, accounts)) for job in jobs}

    def unnoted(self, noted: Collection[str]) -> dict[str, Request]:
        """Jobs of this folder that have not ended and are none of these; those without a command are taken away.

        A driver that was killed between sbatch and the answer has not left a command for its jobs.
        """
        ours = [job for job in self._here() if job not in noted]
        self._take_away_without_command(ours)
        return {job: request for job in ours if (request := self._request_of(job)) is not None}

    def cancel(self, jobs: Collection[str]) -> None:
        """Take queued jobs away, and ask running ones to save and end."""
        if not jobs:
            return
        # The phases are looked up here, since scancel --state=PENDING ARRAY_1 takes all of a waiting array away.
        queue = _read_queue()
        waiting = [job for job in jobs if job in queue and queue[job].waits]
        running = [job for job in jobs if job in queue and queue[job].phase is Phase.RUNNING]
        if waiting:
            _run("scancel", *waiting)
        if running:
            _run("scancel", f"--signal={FOR_GOOD.name[3:]}", *running)

    def close(self) -> None:
        """Nothing to do: jobs go on."""

    def _look(self, job: str, seen: Seen) -> JobState:
        if seen.phase is not Phase.ENDED or seen.state == "COMPLETED":
            self._without_result.pop(job, None)
            return judge(seen, None)
        left = self._left_by(job)
        if left is None and seen.told_by_command:
            since = self._without_result.setdefault(job, time.monotonic())
            if time.monotonic() - since < RESULT_SECONDS:
                return JobState(Phase.RUNNING, node=seen.node)
            log = self._paths(job).stderr
            if seen is GONE and not log.exists():
                return JobState(Phase.ENDED, error="it left Slurm's queue before it began (cancelled?)")
            left = f"Slurm: {seen.state}, and the job left no exit code; see {log}"
            return JobState(Phase.ENDED, lack=Lack.NODE, error=left, node=seen.node)
        return judge(seen, left)

    def _here(self) -> list[str]:
        """Jobs in the queue whose script is of this folder."""
        rows = [line.partition("|") for line in _patiently("squeue", "--me", "-r", "-h", "-o", "%i|%o").splitlines()]
        folder = self._folder.resolve()
        ours = {script for script in {script for _, _, script in rows} if Path(script).parent.resolve() == folder}
        return [job for jobs, _, script in rows if script in ours for job in elements(jobs)]

    def _take_away_without_command(self, jobs: Collection[str]) -> None:
        self.cancel([job for job in jobs if not self._paths(job).submitted_pickle.exists()])

    def _request_of(self, job: str) -> Request | None:
        """What it was submitted with."""
        from submitit.core.utils import DelayedSubmission

        try:
            command = DelayedSubmission.load(self._paths(job).submitted_pickle).function
        except FileNotFoundError:
            return None
        assert isinstance(command, Command)
        return Request(job, command.arguments, command.needs)

    def _left_by(self, job: str) -> int | str | None:
        from submitit.core.utils import pickle_load

        try:
            outcome, result = pickle_load(self._paths(job).result_pickle)
        except (FileNotFoundError, EOFError, pickle.UnpicklingError):
            return None
        return result if outcome == "success" else result.strip().splitlines()[-1]

    def _paths(self, job: str) -> "JobPaths":
        from submitit.core.utils import JobPaths

        return JobPaths(self._folder, job)

    @cached_property
    def _nodes(self) -> list[NodeKind]:
        """The kinds of nodes in the chosen partitions."""
        if shutil.which("sbatch") is None:
            raise ScalingError("no Slurm here: sbatch not found; start this on a node from which jobs are submitted")
        answer = _run("sinfo", "-e", "-h", "-o", NODE_FORMAT)
        if answer.returncode:
            raise ScalingError(f"Slurm's controller does not answer: {_last_line(answer)}")
        kinds = read_nodes(answer.stdout)
        names = list(dict.fromkeys(kind.partition for kind in kinds))
        wanted = (
            self._partition.split(",") if self._partition else [kind.partition for kind in kinds if kind.is_default]
        )
        if not wanted:
            raise UsageError(f"--partition is needed, since Slurm has no default here; {nearest('', names)}")
        for name in wanted:
            if name not in names:
                raise UsageError(f"--partition {name}: Slurm has no such partition; {nearest(name, names)}")
        return [kind for kind in kinds if kind.partition in wanted]

    @cached_property
    def _most_in_array(self) -> int:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _patiently("scontrol", "show", "config"))
        return int(found[1]) if found and int(found[1]) else 1

    def _check_size(self, need: Needs) -> None:
        def holds(kind: NodeKind) -> bool:
            enough = kind.memory_bytes >= (need.memory_bytes or 0)
            return enough and kind.cpus >= need.cpus and kind.gpus >= need.gpus

        if not any(map(holds, self._nodes)):
            memory = f", {need.memory_bytes / 2**30:.3g} GiB" if need.memory_bytes else ""
            there = {f"{kind.cpus} CPUs, {kind.gpus} GPUs, {kind.memory_bytes / 2**30:.3g} GiB" for kind in self._nodes}
            asked = f"{need.cpus} CPUs, {need.gpus} GPUs{memory}"
            raise ScalingError(
                f"no node of Slurm's partition {self._nodes[0].partition} has {asked}\n"
                f"they have: {'; '.join(sorted(there))}"
            )

    def _check_time(self, need: Needs) -> None:
        if need.seconds is None:
            return
        asked, longest = 60 * math.ceil(need.seconds / 60), self.longest_seconds  # Slurm counts minutes
        if longest is not None and asked > longest:
            partition = self._nodes[0].partition
            raise ScalingError(
                f"--time {show_time(asked)}: Slurm's partition {partition} ends jobs after {show_time(longest)}"
            )
        if asked <= 2 * self._grace_seconds:
            raise ScalingError(
                f"--time {show_time(asked)} is too short: Slurm asks jobs to save {self._grace_seconds} s before it "
                "is over, and up to a minute earlier; raise it, or lower --grace"
            )

    def _parameters(self, need: Needs, after: str | None) -> dict[str, Any]:
        """Of submitit's SlurmExecutor."""
        ours: dict[str, Any] = {
            "signal": f"{BEFORE_THE_LIMIT.name[3:]}@{self._grace_seconds}",
            "requeue": True,
            "kill-on-invalid-dep": "yes",
        }
        return {
            **self._place,
            "job_name": self._name,
            "nodes": need.nodes,
            "ntasks_per_node": 1,
            "cpus_per_task": need.cpus,
            "gpus_per_node": need.gpus or None,
            "mem": None if need.memory_bytes is None else f"{math.ceil(need.memory_bytes / 2**20)}M",
            "time": None if need.seconds is None else math.ceil(need.seconds / 60),
            "dependency": None if after is None else f"afterok:{after}",
            "wckey": None,
            "additional_parameters": ours | self._extra,
            # Since 22.05 srun does not take the cores of a task from sbatch.
            "srun_args": [f"--cpus-per-task={need.cpus}", "--kill-on-bad-exit=1"],
            "setup": [f"export SUBMITIT_PREEMPT_SIGNAL={BEFORE_THE_LIMIT.name[3:]}"],
        }

    def _script(self, need: Needs, after: str | None, count: int) -> str:
        from submitit.slurm.slurm import _make_sbatch_string

        array: dict[str, Any] = {"map_count": count, "array_parallelism": count} if count > 1 else {}
        command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(self._folder))}"
        return _make_sbatch_string(command=command, folder=self._folder, **self._parameters(need, after), **array)

    def _submit_array(self, requests: Sequence[Request]) -> list[str]:
        """Submit jobs as one, again for a while where the controller does not answer."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._sbatch(requests)
            except ScalingError as error:
                if not any(words in str(error) for words in AWAY) or time.monotonic() > end:
                    raise
            time.sleep(SAY_AGAIN_SECONDS)
            self._take_away_without_command(self._here())  # what was queued although sbatch did not hear of it

    def _sbatch(self, requests: Sequence[Request]) -> list[str]:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        with _outside_of_jobs():
            first = requests[0]
            executor = SlurmExecutor(self._folder)
            parameters = self._parameters(first.needs, first.after)
            executor.update_parameters(**parameters, array_parallelism=len(requests))
            try:
                jobs = executor.submit_array([Command(request.arguments, request.needs) for request in requests])
            except (FailedSubmissionError, UncompletedJobError) as error:
                last = str(error).strip().splitlines()[-1]
                raise ScalingError(f"sbatch: {last.removeprefix('sbatch: ')}") from None
        return [job.job_id for job in jobs]


def arrays(requests: Sequence[Request], most: int) -> list[list[int]]:
    """Which requests go to Slurm together: those of equal needs after the same job, at most so many."""
    alike: dict[tuple[Needs, str | None], list[int]] = {}
    for number, request in enumerate(requests):
        alike.setdefault((request.needs, request.after), []).append(number)
    return [numbers[begin : begin + most] for numbers in alike.values() for begin in range(0, len(numbers), most)]


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """What a job sets in its environment must not reach the jobs that it submits."""
    from submitit.helpers import clean_env, environment_variables

    where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with clean_env(), environment_variables(**where):
        yield


def _read_queue() -> dict[str, Seen]:
    return read_queue(_patiently("squeue", "--me", "-r", "-h", "-t", "all", "-o", QUEUE_FORMAT))


def _run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    whole = os.environ | {"SLURM_BITSTR_LEN": "0"}  # else ids of many elements of an array are cut off
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=whole)


def _patiently(*command: str) -> str:
    """What a command prints, tried again for a while where it fails."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (done := _run(*command)).returncode:
        if time.monotonic() > end:
            raise ScalingError(f"{command[0]}: {_last_line(done)}")
        time.sleep(SAY_AGAIN_SECONDS)
    return done.stdout


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith('Try "')]
    return lines[-1] if lines else f"exit code {done.returncode}"
