"""From a cluster to an engine: connect, see by a probe what jobs have there, and check what cells ask for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from scaling.design import Study, with_earlier_stages
from scaling.errors import ScalingError, UsageError, nearest
from scaling.grid.conduct import Conduct
from scaling.grid.devices import DEVICE_CHOICES, Device
from scaling.grid.engines.asking import Asking, Limits
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.journal import Journal
from scaling.grid.engines.needs import needs_of
from scaling.grid.engines.probe import check_clock, last_answer, probe
from scaling.grid.engines.remote import Remote, cell_arguments
from scaling.grid.engines.scheduler import DryRun, Needs, Request, Scheduler
from scaling.grid.errors import plainly
from scaling.grid.jobs import Job, plan_jobs, with_status
from scaling.records import FINISHED, RunDirectory
from scaling.torchrun import find_place

STAND_IN_BYTES = 80 << 30
"""Of a device that nobody has looked at yet."""
JOBS_AT_ONCE = 1000  # the least that Slurm sites commonly allow a user to have queued


@contextmanager
def open_remote(
    cluster: Cluster,
    study: Study,
    run: RunDirectory,
    device: str,
    workers: int | None,
    only: str | None,
    conduct: Conduct,
    tell: Callable[[str], None],
) -> Iterator[tuple[Remote, list[Job]]]:
    """An engine for the cells of a study, and the jobs as they will be on its machines.

    Args:
        cluster: to run on.
        study: whose cells.
        run: its run directory, on a file system that the cluster's machines share.
        device: of the cells: 'auto', 'cpu' or 'cuda'.
        workers: most jobs at once, queued ones included.
        only: which cells.
        conduct: of the jobs.
        tell: called with a line of news.

    Raises:
        UsageError: for a bad argument.
        ScalingError: if the cluster does not answer or cannot give what a cell needs, the run directory is not seen
            there, or another driver is at work.
    """
    _check(cluster, device, workers)
    run.check(study)
    journal = Journal(run.path / "engines" / cluster.engine)
    scheduler = cluster.connect(journal.folder, study.name, conduct.grace_seconds)
    try:
        kind = _kind(device, scheduler)
        one = Needs(cpus=1, gpus=int(kind == "cuda"))
        scheduler.check([one])
        run.create()
        journal.open(conduct.dead_after_seconds)
        answer = probe(scheduler, journal.folder, one, kind, cluster.about, tell)
        check_clock(answer, conduct.dead_after_seconds)
        found = answer.device
        tell(f"jobs run as on {answer.host}: {found.name or found.kind}")
        jobs = _jobs_there(study, found, only)
        asking = Asking(found, Limits(cluster, scheduler.longest_seconds), scheduler.check)
        left = [job for job in with_status(jobs, run) if job.status not in FINISHED and not job.misfit]
        scheduler.check({asking.needs(job) for job in left})
        arguments = partial(cell_arguments, run, found, conduct.arguments())
        count = min(workers or JOBS_AT_ONCE, len(jobs))
        yield Remote(run, scheduler, journal, found, count, asking, arguments, cluster.engine == "slurm", tell), jobs
    except OSError as error:
        raise plainly(error, run.path) from None
    finally:
        scheduler.close()
        journal.close()


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would be submitted."""

    jobs: list[Job]
    needs: list[Needs]
    """Of each job."""
    script: str | None
    """For sbatch, of the jobs that have no record yet; None on Ray."""
    probed: bool
    """Whether an earlier run has seen what jobs have there; else memory is taken as `STAND_IN_BYTES`."""


def foresee(
    cluster: Cluster, study: Study, run: RunDirectory, device: str, only: str | None, conduct: Conduct
) -> Foreseen:
    """What `open_remote` would submit; submits and writes nothing. Raises as it does."""
    _check(cluster, device)
    run.check(study)
    folder = run.path / "engines" / cluster.engine
    scheduler = cluster.connect(folder, study.name, conduct.grace_seconds)
    try:
        kind = _kind(device, scheduler)
        answer = last_answer(folder, cluster.about, kind)
        found = answer.device if answer else Device(kind, 1, STAND_IN_BYTES)
        jobs = with_status(_jobs_there(study, found, only), run)
        limit = None
        with suppress(ScalingError):  # scripts can be shown without a server
            limit = scheduler.longest_seconds
        limits = Limits(cluster, limit)
        needs = [limits.within(needs_of(job, found), job) for job in jobs]
        arguments = partial(cell_arguments, run, found, conduct.arguments())
        script = None
        if isinstance(scheduler, DryRun):
            script = scheduler.dry_run(_requests(jobs, needs, arguments))
        return Foreseen(jobs, needs, script, answer is not None)
    finally:
        scheduler.close()


def _requests(jobs: list[Job], needs: list[Needs], arguments: Callable[[Job, Needs], tuple[str, ...]]) -> list[Request]:
    """Those of open jobs that fit, and start from none that does not; named and after one another by their cells."""
    open_jobs = {job.cell.id: job for job in jobs if job.status not in FINISHED}
    misfits = {cell for cell, job in open_jobs.items() if job.misfit}
    found = []
    for job, need in zip(jobs, needs, strict=True):
        chain = {cell.id for cell in with_earlier_stages([job.cell])}
        if job.cell.id in open_jobs and chain.isdisjoint(misfits):
            after = job.cell.after.id if job.cell.after and job.cell.after.id in open_jobs else None
            found.append(Request(job.cell.id, arguments(job, need), need, after))
    return found


def _check(cluster: Cluster, device: str, workers: int | None = None) -> None:
    if find_place() is not None:
        raise UsageError(f"--engine {cluster.engine}: start it without torchrun, which the jobs start themselves")
    if device not in DEVICE_CHOICES:
        raise UsageError(f"unknown device '{device}': {nearest(device, DEVICE_CHOICES)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least 1 is needed")


def _kind(device: str, scheduler: Scheduler) -> str:
    """A GPU wherever jobs can have one, unless the user says otherwise."""
    return device if device != "auto" else "cuda" if scheduler.has_gpus else "cpu"


def _jobs_there(study: Study, device: Device, only: str | None) -> list[Job]:
    per_node = study.resources.processes // study.resources.nodes
    return plan_jobs(study, replace(device, count=max(device.count, per_node)), 1, only, per_node)
