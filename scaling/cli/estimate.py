"""`scaling estimate`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import RowFormat, message
from scaling.cli.typed import refuse_others
from scaling.errors import ScalingError, UsageError

if TYPE_CHECKING:
    from scaling.cost import Constants, Request, Row

OF_CHECK = {
    "designs",
    "study",
    "classes",
    "precision",
    "attention",
    "scan",
    "checkpointing",
    "hardware",
    "check",
    "output",
}
HOW, WHERE, SHOWN = "How it is trained", "Hardware and budget", "Output"

DesignArguments = Annotated[
    list[str] | None, typer.Argument(help="Short names, with ranges such as 'deit-*/{16,8}@224'.", metavar="DESIGN")
]
StudyOption = Annotated[str | None, typer.Option(help="Cost the grid of a study: name, file or run directory.")]
ClassesOption = Annotated[int | None, typer.Option(help="Outputs of the head; 1000 by default.", rich_help_panel=HOW)]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Global batch; 1024, or the recipe's, by default.", rich_help_panel=HOW)
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help="fp32, bf16 or fp16; by default the device's best, or the study's.", rich_help_panel=HOW),
]
AttentionOption = Annotated[str, typer.Option(help="fused or materialised.", rich_help_panel=HOW)]
ScanOption = Annotated[str, typer.Option(help="fused (mamba-ssm) or recomputed (torch).", rich_help_panel=HOW)]
CheckpointingOption = Annotated[
    bool | None, typer.Option("--checkpointing", help="Keep only block inputs for backward.", rich_help_panel=HOW)
]
EmaOption = Annotated[bool | None, typer.Option("--ema", help="Keep an average of the weights.", rich_help_panel=HOW)]
ShardingOption = Annotated[
    str | None, typer.Option(help="ddp or fsdp; ddp, or the study's, by default.", rich_help_panel=HOW)
]
TrainImagesOption = Annotated[
    int, typer.Option(help="Images in one epoch; ImageNet-1k's by default.", rich_help_panel=HOW)
]
EpochsOption = Annotated[float | None, typer.Option(help="Budget so many epochs.", rich_help_panel=WHERE)]
RecipeOption = Annotated[
    str | None, typer.Option(help="Budget all stages of a recipe: deit, adventurer.", rich_help_panel=WHERE)
]
HardwareOption = Annotated[
    str, typer.Option(help="Device such as h100 or rtx-4090, or one that the study describes.", rich_help_panel=WHERE)
]
GpusOption = Annotated[
    int | None,
    typer.Option(help="By default whole nodes that hold the batch, or a study's processes.", rich_help_panel=WHERE),
]
PriceOption = Annotated[float | None, typer.Option(help="Dollars per GPU-hour.", rich_help_panel=WHERE)]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        help="Measured speeds: run directory, CSV or Parquet with design and images_per_second.",
        rich_help_panel=WHERE,
    ),
]
BreakdownOption = Annotated[bool, typer.Option("--breakdown", help="Show every term.", rich_help_panel=SHOWN)]
CheckOption = Annotated[
    bool,
    typer.Option("--check", help="Compare with counts on the real model (needs torch).", rich_help_panel=SHOWN),
]
OutputOption = Annotated[RowFormat, typer.Option("--format", help="Output format.", rich_help_panel=SHOWN)]


def estimate(
    context: typer.Context,
    designs: DesignArguments = None,
    study: StudyOption = None,
    classes: ClassesOption = None,
    batch_size: BatchSizeOption = None,
    precision: PrecisionOption = None,
    attention: AttentionOption = "fused",
    scan: ScanOption = "fused",
    checkpointing: CheckpointingOption = None,
    ema: EmaOption = None,
    sharding: ShardingOption = None,
    train_images: TrainImagesOption = 1_281_167,
    epochs: EpochsOption = None,
    recipe: RecipeOption = None,
    hardware: HardwareOption = "a100-80gb",
    gpus: GpusOption = None,
    price: PriceOption = None,
    calibration: CalibrationOption = None,
    breakdown: BreakdownOption = False,
    check: CheckOption = False,
    output: OutputOption = RowFormat.TABLE,
) -> None:
    """Say what designs need before they are run: parameters, FLOPs, memory, GPUs and hours.

    Counts are exact; times are estimates with a 95 % interval. Needs no GPU and no torch.

    [bold]Examples[/bold]

    scaling estimate 'deit-base/{16,8,4,2,1}@224'

    scaling estimate 'adventurer-*/8@224' --hardware h100 --gpus 16 --epochs 300 --price 2.5

    scaling estimate deit-384x10/8@224x320 --breakdown

    scaling estimate --study digits-quick --hardware rtx-4090
    """
    from scaling.cost import DEFAULT_BATCH, DEFAULT_CLASSES, Execution, Head, Request, find_hardware
    from scaling.design import expand_designs, load_study

    _refuse_conflicts(designs, study, classes, batch_size, epochs, recipe)
    if check:
        refuse_others(context, "--check", OF_CHECK)
    if breakdown and output is RowFormat.CSV:
        raise UsageError("--breakdown does not fit into a CSV table; use --format json")
    grid = load_study(study) if study is not None else None
    device = find_hardware(hardware, grid.hardware if grid else None)
    asked = {"precision": precision, "checkpointing": checkpointing, "ema": ema, "sharding": sharding}
    overrides: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    request = Request(
        device,
        Execution(**{"precision": device.default_precision, "attention": attention, "scan": scan, **overrides}),
        head=Head(DEFAULT_CLASSES if classes is None else classes),
        batch_size=DEFAULT_BATCH if batch_size is None else batch_size,
        gpus=gpus,
        train_images=train_images,
        price_per_gpu_hour=price,
        overrides=overrides,
    )
    if calibration is not None:
        request = replace(request, constants=_calibrate(calibration, request))
    rows = request.study_rows(grid) if grid else request.rows(expand_designs(designs or []), epochs, recipe)
    if check:
        _check(rows, output)
        return
    from scaling.cli.estimate_output import show

    budgeted = epochs is not None or recipe is not None or grid is not None
    show(rows, request, output, breakdown, budgeted)
    misfits = [row.estimate.misfit for row in rows if row.estimate.misfit]
    if misfits:
        raise ScalingError("\n".join(misfits))


def _refuse_conflicts(
    designs: list[str] | None,
    study: str | None,
    classes: int | None,
    batch_size: int | None,
    epochs: float | None,
    recipe: str | None,
) -> None:
    """Raise UsageError where two options say the same thing, rather than ignore one."""
    if bool(designs) == (study is not None):
        raise UsageError("give either designs, such as deit-base/16@224, or --study NAME")
    if sum(value is not None for value in (epochs, recipe, study)) > 1:
        raise UsageError("--epochs, --recipe and --study each say how long to train; give one")
    if study is not None and batch_size is not None:
        raise UsageError("--batch-size: the study says its batch size; change it there")
    if recipe is not None and batch_size is not None:
        raise UsageError("--batch-size: the recipe says its batch sizes; give --epochs for one of your own")
    if study is not None and classes is not None:
        raise UsageError("--classes: the study's data say it")


def _calibrate(path: Path, request: "Request") -> "Constants":
    from scaling.cost import calibrate, read_measurements
    from scaling.records import load_records

    measured = read_measurements(
        load_records(path, each_stage=True),
        request.hardware,
        execution=request.execution,
        batch_size=request.batch_size,
        train_images=request.train_images,
        classes=request.head.classes,
    )
    return calibrate(measured, f"{path}: {len(measured)} measured")


def _check(rows: "list[Row]", output: RowFormat) -> None:
    """Count on the real models, and fail where a closed form is off."""
    from scaling.cli.estimate_output import show_agreements
    from scaling.grid import require_training

    require_training()
    from scaling.training.check import TOLERANCE, check

    found, refusals = [], []
    for row in rows:
        known = row.estimate
        message(f"counting {known.design}")
        try:
            found += check(known.design, known.head, known.execution)
        except UsageError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    show_agreements(found, output)
    for error in refusals:
        message(f"not checked: {error}")
    wrong = [f"{one.design}: {one.quantity}" for one in found if one.agrees is False]
    if wrong:
        raise ScalingError(f"off by more than {TOLERANCE:.1%}: {'; '.join(wrong)}")
