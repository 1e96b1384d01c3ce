"""What Slurm tells of jobs and nodes, as text, and what that means for us."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scaling.grid.engines.scheduler import JobState, Lack, Phase

QUEUE_FORMAT = "%i|%T|%r|%N"  # of squeue, read by read_queue
ACCOUNT_FORMAT = "JobID,State,NodeList"  # of sacct, read by read_accounts
NODE_FORMAT = "%P|%c|%m|%G|%l"  # of sinfo, read by read_nodes

WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ACTIVE = {"RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
LACKS = {
    "TIMEOUT": Lack.TIME,
    "OUT_OF_MEMORY": Lack.MEMORY,
    "NODE_FAIL": Lack.NODE,
    "BOOT_FAIL": Lack.NODE,
    "PREEMPTED": Lack.NODE,
}
NEVER = "DependencyNeverSatisfied"


@dataclass(frozen=True, slots=True)
class Seen:
    """A job in Slurm's words."""

    state: str
    """In capitals, such as PENDING."""
    reason: str | None = None
    """Why it waits or was ended, such as Resources."""
    node: str | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the queue and does not run."""
        return self.state in WAITING

    @property
    def phase(self) -> Phase:
        """How far it is; what is unknown has ended."""
        if self.waits:
            return Phase.ENDED if self.reason == NEVER else Phase.QUEUED
        return Phase.RUNNING if self.state in ACTIVE else Phase.ENDED

    @property
    def told_by_command(self) -> bool:
        """Whether it ended so that its command must have left an exit code, unless it was killed."""
        return self.state in ("FAILED", GONE.state)


GONE = Seen("GONE")
"""Neither in the queue nor in the accounts."""


def read_queue(text: str) -> dict[str, Seen]:
    """Jobs by id, arrays element by element."""
    rows = [line.split("|") for line in text.splitlines()]
    return {
        job: Seen(state, _known(reason), _known(node)) for jobs, state, reason, node in rows for job in elements(jobs)
    }


def read_accounts(text: str) -> dict[str, Seen]:
    """The same from accounting, where a state can be 'CANCELLED by 1000'."""
    rows = [line.split("|") for line in text.splitlines()]
    return {
        job: Seen(state.split()[0], None, _known(node)) for jobs, state, node in rows if state for job in elements(jobs)
    }


def elements(jobs: str) -> list[str]:
    """Ids of the jobs that Slurm writes as one, such as 7_[0-2,5%2]: elements of an array that never began."""
    array, bracket, ranges = jobs.partition("_[")
    if not bracket:
        return [jobs]
    found: list[str] = []
    for part in re.sub(r"(%\d+)?\]$", "", ranges).split(","):
        first, _, last = part.partition("-")
        found += [f"{array}_{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def find(job: str, queue: Mapping[str, Seen], accounts: Mapping[str, Seen]) -> Seen:
    """A job. What accounting takes for alive is alive only where the queue has it.

    Of an array that was taken away whole, Slurm knows only the array; else its id may stand for one of its jobs.
    """
    if job in queue:
        return queue[job]
    if job in accounts and accounts[job].phase is Phase.ENDED:
        return accounts[job]
    array = job.split("_")[0]
    whole = [jobs[array] for jobs in (queue, accounts) if array in jobs and jobs[array].state == "CANCELLED"]
    return whole[0] if whole else GONE


def _known(text: str) -> str | None:
    return None if text in ("", "None", "None assigned", "(null)") else text


def judge(seen: Seen, left: int | str | None) -> JobState:
    """What became of a job.

    Args:
        seen: what Slurm says.
        left: by the job itself: the command's exit code, or the error that kept it from running; None without.
    """
    phase, node = seen.phase, seen.node
    if phase is not Phase.ENDED:
        return JobState(phase, error=seen.reason, node=node)
    if seen.state == "COMPLETED" or left == 0:
        return JobState(phase, exit_code=0, node=node)
    if isinstance(left, str):
        return JobState(phase, error=left, node=node)
    if left is not None and left < 0 and seen.told_by_command:
        return JobState(phase, exit_code=128 - left, error=f"killed by signal {-left}", node=node)
    if seen.told_by_command and left is not None:
        return JobState(phase, exit_code=left, node=node)
    stale = seen.state == "CANCELLED" and seen.reason != NEVER  # why it waited before
    lack = Lack.START if seen.reason == NEVER else LACKS.get(seen.state)
    reason = f" ({seen.reason})" if seen.reason and not stale else ""
    return JobState(phase, lack=lack, error=f"Slurm: {seen.state}{reason}", node=node)


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of a partition that are alike."""

    partition: str
    is_default: bool
    cpus: int
    memory_bytes: int
    gpus: int
    longest_seconds: int | None
    """A job there may take; None without a limit."""


def read_nodes(text: str) -> list[NodeKind]:
    """The kinds of nodes of all partitions."""
    rows = [line.split("|") for line in text.splitlines()]
    return [
        NodeKind(
            name.rstrip("*"),
            name.endswith("*"),
            int(cpus.rstrip("+")),
            int(memory.rstrip("+")) * 2**20,
            sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres)),
            read_time(limit),
        )
        for name, cpus, memory, gres, limit in rows
    ]


def read_time(text: str) -> int | None:
    """Seconds of Slurm's days-hours:minutes:seconds; None for infinite."""
    if not text[:1].isdigit():
        return None
    days, _, clock = text.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def show_time(seconds: int) -> str:
    """As Slurm writes it."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"
