"""From a cluster to an engine: connect, see by a probe what jobs have there, and check what cells ask for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from scaling.design import Study
from scaling.errors import UsageError
from scaling.grid.conduct import Conduct
from scaling.grid.devices import DEVICE_CHOICES, Device
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.journal import Journal
from scaling.grid.engines.needs import needs_of
from scaling.grid.engines.probe import check_clock, probe
from scaling.grid.engines.remote import Remote, cell_arguments
from scaling.grid.engines.scheduler import Needs, Scheduler
from scaling.grid.jobs import Job, plan_jobs
from scaling.records import FINISHED, RunDirectory
from scaling.torchrun import find_place

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
    if find_place() is not None:
        raise UsageError(f"--engine {cluster.engine}: start it without torchrun, which the jobs start themselves")
    if device not in DEVICE_CHOICES:
        raise UsageError(f"unknown device '{device}'")
    run.check(study)
    run.create()
    journal = Journal(run.path / "engines" / cluster.engine)
    journal.open(conduct.dead_after_seconds)
    scheduler = None
    try:
        scheduler = cluster.connect(journal.folder, study.name, conduct.grace_seconds)
        found = _device(cluster, scheduler, journal, device, conduct, tell)
        per_node = study.resources.processes // study.resources.nodes
        jobs = plan_jobs(study, replace(found, count=max(found.count, per_node)), 1, only, per_node)
        needs = partial(_needs, device=found, cluster=cluster, scheduler=scheduler)
        scheduler.check({needs(job) for job in jobs if run.status(job.cell.id) not in FINISHED and not job.misfit})
        arguments = partial(cell_arguments, run, found, conduct.arguments())
        count = min(workers or JOBS_AT_ONCE, len(jobs))
        yield Remote(run, scheduler, journal, found, count, needs, arguments, cluster.engine == "slurm"), jobs
    finally:
        if scheduler is not None:
            scheduler.close()
        journal.close()


def _device(
    cluster: Cluster, scheduler: Scheduler, journal: Journal, device: str, conduct: Conduct, tell: Callable[[str], None]
) -> Device:
    """What a job has; a GPU wherever jobs can have one, unless the user says otherwise."""
    kind = device if device != "auto" else "cuda" if scheduler.has_gpus else "cpu"
    needs = Needs(cpus=1, gpus=int(kind == "cuda"))
    scheduler.check([needs])
    answer = probe(scheduler, journal.folder, needs, kind, cluster.about, tell)
    check_clock(answer, conduct.dead_after_seconds)
    tell(f"jobs run as on {answer.host}: {answer.device.name or answer.device.kind}")
    return answer.device


def _needs(job: Job, device: Device, cluster: Cluster, scheduler: Scheduler) -> Needs:
    """What a cell asks for, within the limits of the cluster."""
    needs = needs_of(job, device)
    return replace(needs, seconds=cluster.seconds) if cluster.seconds is not None else needs
