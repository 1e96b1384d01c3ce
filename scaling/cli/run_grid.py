"""`scaling run-grid`."""

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.dry_run import list_cells, list_requests
from scaling.cli.output import Format, duration, message, print_json
from scaling.cli.run_options import (
    Account,
    Address,
    Constraint,
    Cores,
    DeadAfter,
    DeviceChoice,
    EngineChoice,
    EngineOption,
    Grace,
    Log,
    MaxHours,
    Memory,
    NoWait,
    Only,
    Partition,
    PlanFile,
    Qos,
    Retries,
    Sbatch,
    StopHopeless,
    Time,
    Workers,
    cluster_of,
    part_of,
)

if TYPE_CHECKING:
    from scaling.design import Study
    from scaling.grid import GridResult

INTERRUPTED = 130
SHOWN = 500  # records in the table at the end of a run


def run_grid(
    study: Annotated[str, typer.Argument(help="A built-in study, a TOML file, or a run directory.", metavar="STUDY")],
    out: Annotated[Path | None, typer.Option(help="Run directory.", show_default="runs/NAME")] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Where cells run.")] = DeviceChoice.AUTO,
    workers: Workers = None,
    only: Only = None,
    retries: Retries = 2,
    grace: Grace = 25.0,
    dead_after: DeadAfter = 60.0,
    no_wait: NoWait = False,
    log: Log = None,
    stop_hopeless: StopHopeless = False,
    max_gpu_hours: MaxHours = None,
    plan: PlanFile = None,
    cores: Cores = None,
    memory: Memory = None,
    engine: EngineOption = EngineChoice.LOCAL,
    address: Address = None,
    partition: Partition = None,
    account: Account = None,
    qos: Qos = None,
    constraint: Constraint = None,
    time_limit: Time = None,
    sbatch: Sbatch = None,
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

    scaling run-grid my-study.toml --engine slurm --partition gpu --time 4h --max-gpu-hours 200

    scaling run-grid my-study.toml --engine ray --address 10.0.0.1:6379
    """
    from scaling.cli.progress import progress
    from scaling.design import load_study, run_directory_of
    from scaling.grid import find_device
    from scaling.grid import run_grid as run
    from scaling.grid.conduct import Conduct
    from scaling.torchrun import find_place

    chosen = load_study(study)
    folder = out or run_directory_of(study) or Path("runs") / chosen.name
    if (place := find_place()) is not None and place.rank:  # the first process speaks for all
        if not dry_run:
            run(chosen, folder, device.value, workers, cores=cores)
        return
    values = _values(plan, chosen) if plan is not None else {}
    conduct = Conduct(retries, grace, dead_after, log or (), stop_hopeless, max_gpu_hours, values, not no_wait)
    cluster = cluster_of(engine, address, partition, account, qos, constraint, time_limit, sbatch)
    part = part_of(cores, memory, cluster)
    if dry_run and cluster is not None:
        list_requests(cluster, chosen, folder, device, only, conduct, output)
        return
    if dry_run:
        list_cells(chosen, folder, find_device(device.value).limited(**part), workers, only, output, place)
        return
    started = time.monotonic()
    with progress() as observer:
        where = (chosen, folder, device.value, workers, only, observer)
        outcome = run(*where, conduct=conduct, cluster=cluster, tell=message, **part)
    if output is Format.JSON:
        print_json(_as_json(outcome))
    else:
        _report(outcome, time.monotonic() - started)
    _end(outcome)


def _values(plan: Path, study: "Study") -> dict[str, float]:
    """Of the designs of a study to a plan."""
    from scaling.decisions.planning import values_of_plan
    from scaling.errors import UsageError

    values, designs = values_of_plan(plan), {str(cell.design) for cell in study.cells()}
    if designs.isdisjoint(values):
        raise UsageError(f"--plan {plan}: has no design of '{study.name}', only such as {next(iter(values), 'none')}")
    return values


def _end(outcome: "GridResult") -> None:
    """Say which cells are not done, and exit with the code that tells it."""
    for record in outcome.failed + outcome.stopped:
        stage = f" ({record.stage})" if record.stage else ""
        told = f"{record.design} seed {record.seed}{stage}: {record.error}"
        message(f"{record.status}: {told} (see {outcome.path}/cells/{record.cell})")
    if outcome.stopped:
        message("run again without --stop-hopeless to continue what was stopped")
    if outcome.held:
        count = len(outcome.held)
        cells = "1 cell was not begun, since it" if count == 1 else f"{count} cells were not begun, since they"
        message(f"--max-gpu-hours: {cells} would pass the limit")
    if outcome.interrupted:
        message(f"stopped; run the same command again to complete {outcome.path}")
        raise typer.Exit(INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(1)
    if outcome.elsewhere:
        left = len(outcome.elsewhere)
        message(f"--no-wait: {left} cell{'s' * (left != 1)} left to other runners, which are at work there")
        raise typer.Exit(os.EX_TEMPFAIL)


def _report(outcome: "GridResult", seconds: float) -> None:
    from scaling.cli.records import show_records
    from scaling.records import RecordError, Status, load_records

    try:
        if len(outcome.records) <= SHOWN:
            show_records(load_records(outcome.path, each_stage=True))
        else:
            message(f"{len(outcome.records)} records; see them with: scaling records {outcome.path}")
    except RecordError:
        return  # stopped before the first cell was finished
    ran = len(outcome.ran)
    message(f"{ran} cell{'s' * (ran != 1)} run in {duration(seconds)}; records in {outcome.path}")
    if any(record.status is Status.DONE for record in outcome.records):
        path = shlex.quote(str(outcome.path))
        message(f"next: scaling fit {path}    scaling plot {path} --figure 1")


def _as_json(outcome: "GridResult") -> dict[str, Any]:
    records = [record.model_dump(mode="json") for record in outcome.records]
    return {
        "run": str(outcome.path),
        "interrupted": outcome.interrupted,
        "held": list(outcome.held),
        "elsewhere": list(outcome.elsewhere),
        "ran": list(outcome.ran),
        "records": records,
    }
