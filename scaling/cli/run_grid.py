"""`scaling run-grid`."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, duration, interval, message, print_json, show_table, si, size

if TYPE_CHECKING:
    from scaling.design import Study
    from scaling.grid import GridResult, Job
    from scaling.torchrun import Place

INTERRUPTED = 130
PROBED = (
    "memory/step is an estimate (docs/estimating.md: how wrong it was); the probe before each cell decides what fits"
)


class DeviceChoice(StrEnum):
    """Devices a grid can run on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Grace = Annotated[
    float, typer.Option(min=0, help="Seconds for running cells to save and stop when asked, before they are killed.")
]
DeadAfter = Annotated[
    float, typer.Option(min=1, help="Seconds without a sign of life after which other runners take over a cell.")
]
StopHopeless = Annotated[
    bool,
    typer.Option(
        "--stop-hopeless",
        help="Stop cells heading for a higher training loss than a design that costs no more; cheapest first.",
    ),
]


def run_grid(
    study: Annotated[str, typer.Argument(help="A built-in study, a TOML file, or a run directory.", metavar="STUDY")],
    out: Annotated[Path | None, typer.Option(help="Run directory.", show_default="runs/NAME")] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Where cells run.")] = DeviceChoice.AUTO,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time.", show_default="one per core or GPU")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run only designs that match, such as 'deit-*/8@*'.")] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a cell is begun again after an input or output error.")
    ] = 2,
    grace: Grace = 25.0,
    dead_after: DeadAfter = 60.0,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Also log to tensorboard, wandb, mlflow or trackio; may be repeated.", metavar="TRACKER"),
    ] = None,
    stop_hopeless: StopHopeless = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their cost; run nothing.")] = False,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Train every cell of a study and record loss, FLOPs and memory.

    Running the same command again completes what is missing and touches nothing that is done. Several of them, also on
    machines that share a file system, share the work. Ctrl-C, SIGTERM and SIGUSR1 save and stop.

    [bold]Examples[/bold]

    scaling run-grid digits-quick

    scaling run-grid digits-quick --dry-run

    scaling run-grid my-study.toml --out runs/mine --only 'deit-micro/*' --workers 4

    scaling run-grid my-study.toml --log tensorboard --stop-hopeless

    scaling run-grid my-study.toml --grace 110    [dim]# under: sbatch --signal=USR1@120[/dim]
    """
    from scaling.design import load_study, run_directory_of
    from scaling.grid import check_trackers
    from scaling.grid import run_grid as run
    from scaling.torchrun import find_place

    chosen = load_study(study)
    folder = out or run_directory_of(study) or Path("runs") / chosen.name
    if (place := find_place()) is not None and place.rank:  # the first process speaks for all
        if not dry_run:
            run(chosen, folder, device.value, workers)
        return
    if dry_run:
        check_trackers(log or ())
        _list_cells(chosen, folder, device, workers, only, output, place)
        return
    from scaling.cli.progress import progress

    started = time.monotonic()
    with progress() as observer:
        outcome = run(
            chosen,
            folder,
            device.value,
            workers,
            only,
            observer,
            retries=retries,
            grace_seconds=grace,
            dead_after_seconds=dead_after,
            log=log or (),
            stop_hopeless=stop_hopeless,
        )
    if output is Format.JSON:
        print_json(_as_json(outcome))
    else:
        _report(outcome, time.monotonic() - started)
    _end(outcome)


def _end(outcome: "GridResult") -> None:
    """Say which cells are not done, and exit with the code that tells it."""
    for record in outcome.failed + outcome.stopped:
        stage = f" ({record.stage})" if record.stage else ""
        told = f"{record.design} seed {record.seed}{stage}: {record.error}"
        message(f"{record.status}: {told} (see {outcome.path}/cells/{record.cell})")
    if outcome.stopped:
        message("run again without --stop-hopeless to continue what was stopped")
    if outcome.interrupted:
        message(f"stopped; run the same command again to complete {outcome.path}")
        raise typer.Exit(INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(1)


def _report(outcome: "GridResult", seconds: float) -> None:
    from scaling.cli.records import show_records
    from scaling.records import RecordError, load_records

    try:
        show_records(load_records(outcome.path, each_stage=True))
    except RecordError:
        return  # stopped before the first cell was finished
    ran = len(outcome.ran)
    message(f"{ran} cell{'s' * (ran != 1)} run in {duration(seconds)}; records in {outcome.path}")
    message(f"next: scaling fit {outcome.path}    scaling plot {outcome.path} --figure 1")


def _as_json(outcome: "GridResult") -> dict[str, Any]:
    records = [record.model_dump(mode="json") for record in outcome.records]
    return {
        "run": str(outcome.path),
        "interrupted": outcome.interrupted,
        "ran": list(outcome.ran),
        "records": records,
    }


def _list_cells(
    study: "Study",
    folder: Path,
    device: DeviceChoice,
    workers: int | None,
    only: str | None,
    output: Format,
    ranks: "Place | None",
) -> None:
    from scaling.design import with_processes
    from scaling.grid import find_device, plan_jobs, with_status, worker_count
    from scaling.records import FINISHED, RunDirectory

    place = find_device(device.value)
    study = with_processes(study, ranks.world_size) if ranks else study
    count = worker_count(workers, place, len(study.cells()), study.resources.processes, ranks)
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
    show_table(f"{study.name}: {len(jobs)} cells, {count} at a time on {place.kind}", columns, rows, left=2)
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
