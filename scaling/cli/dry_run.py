"""`scaling run-grid --dry-run`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Format, duration, interval, message, print_json, show_table, si, size
from scaling.cli.run_options import DeviceChoice

if TYPE_CHECKING:
    from scaling.design import Study
    from scaling.grid import Cluster, Device, Job
    from scaling.grid.conduct import Conduct
    from scaling.torchrun import Place

PROBED = (
    "memory/step is an estimate (docs/estimating.md: how wrong it was); the probe before each cell decides what fits"
)


def list_cells(
    study: "Study",
    folder: Path,
    place: "Device",
    workers: int | None,
    only: str | None,
    output: Format,
    ranks: "Place | None",
) -> None:
    """Cells of a study, their cost and what would not fit."""
    from scaling.design import with_processes
    from scaling.grid import plan_jobs, selected_cells, with_status, worker_count
    from scaling.records import FINISHED, RunDirectory

    study = with_processes(study, ranks.world_size) if ranks else study
    count = worker_count(workers, place, len(selected_cells(study, only)), study.resources.processes, ranks)
    run = RunDirectory(folder)
    run.check(study)
    jobs = with_status(plan_jobs(study, place, count, only, ranks and ranks.local_world_size), run)
    if output is Format.JSON:
        print_json([_job_json(job) for job in jobs])
        return
    timed = any(job.device_hours for job in jobs)
    columns = ["cell", "status", "tokens", "params", "FLOPs/img", "train FLOPs", "memory/img", "memory/step"]
    columns += ["hours [95 %]"] if timed else []
    rows = [
        [
            job.cell.name,
            job.status.value,
            f"{job.cell.design.sequence_length:,}",
            si(job.cost.parameters.total),
            si(job.cost.forward_flops_per_image),
            si(job.training_flops),
            size(job.cost.activation_bytes_per_image),
            size(job.memory_bytes),
            *([interval(job.device_hours)] if timed else []),
        ]
        for job in jobs
    ]
    cells = f"{len(jobs)} cell{'s' * (len(jobs) != 1)}"
    show_table(f"{study.name}: {cells}, {count} at a time on {place.kind}", columns, rows, left=2)
    for job in jobs:
        if job.status not in FINISHED and (misfit := job.misfit) is not None:
            message(f"would be {misfit.status}: {job.cell.name}: {misfit.error}")
    left = sum(job.training_flops for job in jobs if job.status not in FINISHED)
    to_do = f"{si(left)}FLOPs of training to do" if left else "nothing left to do"
    message(f"{to_do}; memory/step is weights, gradients, optimiser and activations")
    if place.kind == "cuda":
        message(PROBED)
    if not timed:
        message("no hours: the estimator does not know this device; see 'scaling doctor'")


def list_requests(
    cluster: "Cluster",
    study: "Study",
    folder: Path,
    device: DeviceChoice,
    only: str | None,
    conduct: "Conduct",
    output: Format,
) -> None:
    """What each cell would ask a cluster for, and Slurm's scripts."""
    from scaling.grid.engines.opening import foresee
    from scaling.records import FINISHED, RunDirectory

    found = foresee(cluster, study, RunDirectory(folder), device.value, only, conduct)
    pairs = list(zip(found.jobs, found.needs, strict=True))
    if output is Format.JSON:
        cells = [_job_json(job) | {"needs": asdict(needs)} for job, needs in pairs]
        print_json({"engine": cluster.engine, "probed": found.probed, "cells": cells, "script": found.script})
        return
    misfits = {job.cell.id: job.misfit for job in found.jobs if job.status not in FINISHED and job.misfit}
    columns = ["cell", "status", "train FLOPs", "nodes", "GPUs", "cores", "memory", "time"]
    rows = [
        [
            job.cell.name,
            job.status.value if job.cell.id not in misfits else f"would be {misfits[job.cell.id].status}",
            si(job.training_flops),
            str(needs.nodes),
            str(needs.gpus),
            str(needs.cpus),
            size(needs.memory_bytes) if needs.memory_bytes else "-",
            duration(needs.seconds),
        ]
        for job, needs in pairs
    ]
    show_table(f"{study.name}: {len(pairs)} cells as jobs of {cluster.engine}; of each node", columns, rows, left=2)
    if found.script:
        print(found.script)
    for job in found.jobs:
        if (misfit := misfits.get(job.cell.id)) is not None:
            message(f"would be {misfit.status}: {job.cell.name}: {misfit.error}")
    if not found.probed:
        message("no job has looked yet at the memory and the GPUs there; the first run does")


def _job_json(job: "Job") -> dict[str, Any]:
    from scaling.cost import interval_fields

    return {
        "cell": job.cell.id,
        "design": str(job.cell.design),
        "seed": job.cell.seed,
        "stage": job.cell.stage,
        "started_from_cell": job.cell.after.id if job.cell.after else None,
        "status": job.status.value,
        "sequence_length": job.cell.design.sequence_length,
        "parameters": job.cost.parameters.total,
        "forward_flops_per_image": job.cost.forward_flops_per_image,
        "training_flops_per_image": job.cost.training_flops_per_image,
        "training_flops": job.training_flops,
        "earlier_training_flops": job.cost.earlier_training_flops,
        "activation_bytes_per_image": job.cost.activation_bytes_per_image,
        "micro_batch_size": job.micro_batch_size,
        "memory_bytes": job.memory_bytes,
        "fits": job.misfit is None,
        **interval_fields("device_hours", job.device_hours),
    }
