"""Which job is next: every cell after the one it starts from, and what others wait for first."""

from collections.abc import Iterable, Mapping

from scaling.design import Cell
from scaling.errors import UsageError
from scaling.grid.jobs import Job
from scaling.records import FINISHED, Record, RunDirectory, Status, describe


def by_urgency(jobs: Iterable[Job]) -> list[Job]:
    """Jobs by the FLOPs from their start to the end of the longest chain that waits for them, most first.

    Args:
        jobs: each after the one it starts from.
    """
    jobs = list(jobs)
    ahead: dict[str, int] = {}
    for job in reversed(jobs):
        ahead[job.cell.id] = ahead.get(job.cell.id, 0) + job.training_flops
        if job.cell.after is not None:
            before = job.cell.after.id
            ahead[before] = max(ahead.get(before, 0), ahead[job.cell.id])
    return sorted(jobs, key=lambda job: -ahead[job.cell.id])


def by_value(jobs: Iterable[Job], values: Mapping[str, float]) -> list[Job]:
    """Jobs by the value of their design, most first, each after the one it starts from, which has the most of theirs.

    Where values are equal, and of designs without one, whose value is 0, jobs come as in `by_urgency`.

    Args:
        jobs: each after the one it starts from.
        values: per GPU-hour, by short name of the design; of designs of the study itself, not of its pretrainings.
    """
    jobs = list(jobs)
    worth: dict[str, float] = {}
    for job in reversed(jobs):
        own = values.get(str(job.cell.design), 0.0) if job.cell.stage is None else 0.0
        worth[job.cell.id] = max(worth.get(job.cell.id, 0.0), own)
        if job.cell.after is not None:
            before = job.cell.after.id
            worth[before] = max(worth.get(before, 0.0), worth[job.cell.id])
    return sorted(by_urgency(jobs), key=lambda job: -worth[job.cell.id])


def cheapest_first(jobs: Iterable[Job]) -> list[Job]:
    """Jobs by the FLOPs of their training and of all stages before it: whom a cell must beat is finished before it."""
    return sorted(jobs, key=lambda job: job.training_flops_of_all_stages)


def not_started(cell: Cell, before: Record) -> Record:
    """The record of a cell that cannot begin, since the one it starts from gives no checkpoint; it is tried again."""
    assert cell.after is not None
    why = f"not started: {cell.after.name} is {before.status}" + (f" ({before.error})" if before.error else "")
    status = Status.PREEMPTED if before.status is Status.PREEMPTED else Status.FAILED
    return Record(**describe(cell), status=status, error=why)


def check_checkpoints(jobs: Iterable[Job], run: RunDirectory) -> None:
    """Raise UsageError for an open job that starts from a finished cell whose checkpoint is gone."""
    for job in jobs:
        before = job.cell.after
        if job.status in FINISHED or before is None or run.status(before.id) is not Status.DONE:
            continue
        checkpoint = run.checkpoint(before.id)
        if not checkpoint.is_file():
            raise UsageError(
                f"{job.cell.name} starts from {checkpoint}, which is gone;\n"
                f"move {run.cell_folder(before.id)} away, and {before.name} is trained again"
            )
