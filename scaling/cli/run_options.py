"""Options of `scaling run-grid`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

if TYPE_CHECKING:
    from scaling.grid import Cluster


class DeviceChoice(StrEnum):
    """Devices a grid can run on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Workers = Annotated[
    int | None, typer.Option(min=1, help="Cells or jobs at a time.", show_default="one per core or GPU; 1000 jobs")
]
Retries = Annotated[int, typer.Option(min=0, help="How often a cell is begun again after an input or output error.")]
Grace = Annotated[
    float, typer.Option(min=0, help="Seconds for running cells to save and stop when asked, before they are killed.")
]
DeadAfter = Annotated[
    float, typer.Option(min=1, help="Seconds without a sign of life after which other runners take over a cell.")
]
NoWait = Annotated[
    bool,
    typer.Option("--no-wait", help="End when other runners are at work on all cells that are left (exit code 75)."),
]
StopHopeless = Annotated[
    bool,
    typer.Option(
        "--stop-hopeless",
        help="Stop cells heading for a higher training loss than a design that costs no more; cheapest first.",
    ),
]

Only = Annotated[
    str | None, typer.Option(help="Run only designs that match, such as 'deit-*/8@*', or the cell of this id.")
]
Log = Annotated[
    list[str] | None,
    typer.Option(help="Also log to tensorboard, wandb, mlflow or trackio; may be repeated.", metavar="TRACKER"),
]
MaxHours = Annotated[
    float | None,
    typer.Option(
        "--max-gpu-hours",
        help="Begin no cell that would bring the study above so many hours of GPUs, or of cores on CPUs.",
        metavar="HOURS",
        show_default="no limit",
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        help="Most valuable cells first, by what 'scaling plan --save' or '--next' with --format json wrote.",
        metavar="FILE",
    ),
]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores of this machine that cells may use.", show_default="all")]
Memory = Annotated[
    float | None,
    typer.Option(help="GiB of this machine's memory that cells on its CPU may use.", show_default="all", metavar="GIB"),
]


class EngineChoice(StrEnum):
    """Where cells run."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


CLUSTER = "Ray and Slurm"
EngineOption = Annotated[
    EngineChoice, typer.Option(help="Processes of this machine, or jobs of Ray or Slurm.", rich_help_panel=CLUSTER)
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray: HOST:PORT of the head.", show_default="the running one", rich_help_panel=CLUSTER),
]
Partition = Annotated[str | None, typer.Option(help="Slurm: partition of the jobs.", rich_help_panel=CLUSTER)]
Account = Annotated[str | None, typer.Option(help="Slurm: account that is charged.", rich_help_panel=CLUSTER)]
Qos = Annotated[str | None, typer.Option(help="Slurm: quality of service.", rich_help_panel=CLUSTER)]
Constraint = Annotated[
    str | None, typer.Option(help="Slurm: features of the nodes, such as 'a100'.", rich_help_panel=CLUSTER)
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="Slurm: time limit of a job, such as 30m or 4h; cells may take longer.",
        show_default="by the estimate",
        rich_help_panel=CLUSTER,
    ),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        help="Slurm: any other option of sbatch; may be repeated.", metavar="KEY=VALUE", rich_help_panel=CLUSTER
    ),
]
UNITS = {"m": 60, "h": 3600, "d": 86400}


def cluster_of(
    engine: EngineChoice,
    address: str | None,
    partition: str | None,
    account: str | None,
    qos: str | None,
    constraint: str | None,
    time: str | None,
    sbatch: list[str] | None,
) -> "Cluster | None":
    """The cluster that these options name; None for this machine.

    Raises:
        UsageError: for options that do not belong together, or cannot be read.
    """
    from scaling.errors import UsageError

    if engine is EngineChoice.LOCAL:
        for name, value in {"--address": address, "--partition": partition, "--account": account, "--qos": qos}.items():
            if value:
                raise UsageError(f"{name} needs --engine {'ray' if name == '--address' else 'slurm'}")
        if constraint or time or sbatch:
            raise UsageError("--constraint, --time and --sbatch need --engine slurm")
        return None
    from scaling.grid import Cluster

    pairs = [each.partition("=") for each in sbatch or ()]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UsageError(f"--sbatch {key}{equals}{value}: give KEY=VALUE, such as --sbatch reservation=monday")
    further = {key.lstrip("-"): value for key, _, value in pairs}
    seconds = _seconds(time) if time is not None else None
    return Cluster(engine.value, address, partition, account, qos, constraint, seconds, further)


class Part(TypedDict):
    """What of this machine may be used; None for all of it."""

    cores: int | None
    memory_bytes: int | None


def part_of(cores: int | None, memory: float | None, cluster: "Cluster | None") -> Part:
    """What `--cores` and `--memory`, in GiB, allow.

    Raises:
        UsageError: for what is no size, and for the jobs of a cluster.
    """
    from scaling.errors import UsageError

    if cluster is not None and (cores is not None or memory is not None):
        raise UsageError("--cores and --memory are of this machine; jobs ask for what [resources] of the study says")
    if memory is not None and not 0 < memory < float("inf"):
        raise UsageError(f"--memory {memory:g}: give GiB above 0")
    return Part(cores=cores, memory_bytes=round(memory * 2**30) if memory is not None else None)


def _seconds(time: str) -> int:
    """Of '30m', '4h' or '2d'."""
    from scaling.errors import UsageError

    number, unit = time[:-1], time[-1:]
    if unit not in UNITS or not number.isdigit() or not int(number):
        raise UsageError(f"--time {time}: give minutes, hours or days, such as 30m, 4h or 2d")
    return int(number) * UNITS[unit]
