"""`scaling plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import TASK_HELP, Format, message

if TYPE_CHECKING:
    from scaling.decisions.planning import Plan

SPEND, RUN, LOOK, TRUST, MORE, SHOWN = (
    "What can be spent",
    "Hardware and training",
    "Where to look",
    "What is known",
    "Further questions",
    "Output",
)

BudgetOption = Annotated[
    str | None, typer.Option(help="'5000 gpu-hours', '1e21 flops' or '$20000', of one training.", rich_help_panel=SPEND)
]
DeadlineOption = Annotated[str | None, typer.Option(help="'14 days', on --gpus.", rich_help_panel=SPEND)]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="Cheapest design to reach it: '84%' or 0.84, or with --y test_loss a loss.", rich_help_panel=SPEND
    ),
]
InferenceOption = Annotated[
    str | None, typer.Option(help="Of one image: '20 gflops' or '3 ms'.", rich_help_panel=SPEND)
]
PriceOption = Annotated[float | None, typer.Option(help="Dollars per GPU-hour.", rich_help_panel=SPEND)]
HardwareOption = Annotated[
    str | None, typer.Option(help="Device such as h100.", show_default="a100-80gb", rich_help_panel=RUN)
]
GpusOption = Annotated[
    int | None,
    typer.Option(help="That one training runs on.", show_default="nodes that hold its batch", rich_help_panel=RUN),
]
NodesOption = Annotated[int | None, typer.Option(help="Instead of --gpus.", rich_help_panel=RUN)]
MemoryOption = Annotated[str | None, typer.Option(help="'40 GiB', instead of the device's.", rich_help_panel=RUN)]
PrecisionOption = Annotated[
    str | None, typer.Option(help="fp32, bf16 or fp16.", show_default="the device's best", rich_help_panel=RUN)
]
CheckpointingOption = Annotated[
    bool | None,
    typer.Option(
        "--checkpointing/--no-checkpointing", help="Keep only block inputs for backward.", rich_help_panel=RUN
    ),
]
ScanOption = Annotated[str | None, typer.Option(help="fused (mamba-ssm) or recomputed (torch).", rich_help_panel=RUN)]
ShardingOption = Annotated[str | None, typer.Option(help="ddp or fsdp.", rich_help_panel=RUN)]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Global batch.", show_default="the records', or 1024", rich_help_panel=RUN)
]
EpochsOption = Annotated[
    float | None, typer.Option(help="Of --train-images.", show_default="as the records", rich_help_panel=RUN)
]
RecipeOption = Annotated[
    str | None, typer.Option(help="Count all stages of a recipe: deit, adventurer.", rich_help_panel=RUN)
]
TrainImagesOption = Annotated[
    int | None, typer.Option(help="In one epoch.", show_default="1281167, ImageNet-1k's", rich_help_panel=RUN)
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Measured speeds: run directory, CSV or Parquet.", rich_help_panel=RUN)
]
ArchitecturesOption = Annotated[
    str | None, typer.Option(help="Such as deit,adventurer.", show_default="the records'", rich_help_panel=LOOK)
]
SizesOption = Annotated[
    str | None,
    typer.Option(help="Such as base,large,640x12.", show_default="all named ones", rich_help_panel=LOOK),
]
FreeSizesOption = Annotated[
    bool | None,
    typer.Option(
        "--free-sizes/--named-sizes", help="Every width and depth between the named ones too.", rich_help_panel=LOOK
    ),
]
InputSizesOption = Annotated[
    str | None, typer.Option(help="Such as 128,224.", show_default="the records'", rich_help_panel=LOOK)
]
PatchSizesOption = Annotated[
    str | None, typer.Option(help="Such as 16,8,4.", show_default="all that divide the input", rich_help_panel=LOOK)
]
OnlyOption = Annotated[list[str] | None, typer.Option(help="Pattern such as 'deit-*/{8,4}@224'.", rich_help_panel=LOOK)]
WithoutOption = Annotated[list[str] | None, typer.Option(help="Pattern to leave out.", rich_help_panel=LOOK)]
StudyOption = Annotated[
    str | None,
    typer.Option(
        help="Records that laws come from: run directory, CSV or Parquet.", show_default="paper", rich_help_panel=TRUST
    ),
]
OutcomeOption = Annotated[
    str | None,
    typer.Option("--y", help="accuracy, mean_iou, test_loss, ...", show_default="metric", rich_help_panel=TRUST),
]
TaskOption = Annotated[
    str | None, typer.Option(help=TASK_HELP, show_default="that with most results", rich_help_panel=TRUST)
]
ExtrapolateOption = Annotated[
    float | None,
    typer.Option(help="Factor beyond the records, on any scale.", show_default="2", rich_help_panel=TRUST),
]
SeedNoiseOption = Annotated[
    float | None,
    typer.Option(
        help="Between seeds: points of a metric, share of a loss.", show_default="from repeats", rich_help_panel=TRUST
    ),
]
HoldOutOption = Annotated[
    str | None, typer.Option(help="Hide records, such as 'patch_size < 4', and predict them.", rich_help_panel=TRUST)
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        help="Saved plan: ask it again with the options given here (none drops a limit), and show what changes.",
        rich_help_panel=MORE,
    ),
]
PathOption = Annotated[
    bool,
    typer.Option("--path", help="Best patch, model and input over a range of budgets.", rich_help_panel=MORE),
]
NextOption = Annotated[
    int | None,
    typer.Option("--next", help="Runs that would most improve the choice.", min=1, max=100, rich_help_panel=MORE),
]
PilotBudgetOption = Annotated[str | None, typer.Option(help="Of all of them: '200 gpu-hours'.", rich_help_panel=MORE)]
SimulateOption = Annotated[
    str | None, typer.Option(help="Study, before it is run: what would its cells tell?", rich_help_panel=MORE)
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(help="Design: with which larger patches to start its training.", rich_help_panel=MORE),
]
FigureOption = Annotated[
    Path | None, typer.Option(help="Draw the plan, or the path: .pdf, .png or .svg.", rich_help_panel=SHOWN)
]
WriteOption = Annotated[
    Path | None, typer.Option(help="Study file of --next or --schedule, for run-grid.", rich_help_panel=SHOWN)
]
TopOption = Annotated[int, typer.Option(help="Designs shown.", min=1, max=1000, rich_help_panel=SHOWN)]
SaveOption = Annotated[Path | None, typer.Option(help="Write the plan as JSON too.", rich_help_panel=SHOWN)]
OutputOption = Annotated[Format, typer.Option("--format", help="Output format.", rich_help_panel=SHOWN)]


def plan(
    context: typer.Context,
    budget: BudgetOption = None,
    deadline: DeadlineOption = None,
    target: TargetOption = None,
    inference_budget: InferenceOption = None,
    price: PriceOption = None,
    hardware: HardwareOption = None,
    gpus: GpusOption = None,
    nodes: NodesOption = None,
    memory_per_gpu: MemoryOption = None,
    precision: PrecisionOption = None,
    checkpointing: CheckpointingOption = None,
    scan: ScanOption = None,
    sharding: ShardingOption = None,
    batch_size: BatchSizeOption = None,
    epochs: EpochsOption = None,
    recipe: RecipeOption = None,
    train_images: TrainImagesOption = None,
    calibration: CalibrationOption = None,
    architectures: ArchitecturesOption = None,
    sizes: SizesOption = None,
    free_sizes: FreeSizesOption = None,
    input_sizes: InputSizesOption = None,
    patch_sizes: PatchSizesOption = None,
    only: OnlyOption = None,
    without: WithoutOption = None,
    study: StudyOption = None,
    y: OutcomeOption = None,
    task: TaskOption = None,
    extrapolate: ExtrapolateOption = None,
    seed_noise: SeedNoiseOption = None,
    hold_out: HoldOutOption = None,
    against: AgainstOption = None,
    path: PathOption = False,
    next_pilots: NextOption = None,
    pilot_budget: PilotBudgetOption = None,
    simulate: SimulateOption = None,
    schedule: ScheduleOption = None,
    figure: FigureOption = None,
    write: WriteOption = None,
    top: TopOption = 10,
    save: SaveOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Spend a compute budget: which design to train, what it will reach, and how sure that is.

    Laws are fitted to records, by default the paper's; costs are estimates for your hardware.

    [bold]Examples[/bold]

    scaling plan --budget '5000 gpu-hours' --gpus 64 --deadline '14 days'

    scaling plan --budget '$20000' --price 2 --hardware h100 --architectures deit

    scaling plan --target 82% --inference-budget '60 gflops'

    scaling plan --study runs/digits-quick --budget '1e15 flops' --hardware cpu

    scaling plan --budget '1e21 flops' --next 5 --pilot-budget '200 gpu-hours'

    scaling plan --budget '1e22 flops' --epochs 300 --path --figure path.pdf
    """
    from scaling.cli.plan_options import check_modes
    from scaling.cli.typed import typed_options

    check_modes(context.params, typed_options(context))
    if schedule is not None:
        _show_schedule(study, schedule, write, output)
    else:
        _answer(context.params, output)


def _answer(options: dict[str, Any], output: Format) -> None:
    """Make the plan, and print it or the further question about it."""
    from scaling.cli.plan_options import ask
    from scaling.cli.plan_output import show_plan
    from scaling.decisions.planning import check_held_out, decide, learn, question_of, read_plan, save_plan

    against, save, figure = options["against"], options["save"], options["figure"]
    saved = None if against is None else read_plan(against)
    question = ask(options, None if saved is None else question_of(saved))
    known = learn(question)
    found = decide(question, known, options["top"])
    held_out = None if question.hold_out is None else check_held_out(found.evidence, known.table, question.hold_out)
    if save is not None:
        save_plan(found, save)
        message(f"wrote {save}")
    further = options["path"] or options["next_pilots"] is not None or options["simulate"] is not None
    if further and output is Format.TABLE:
        for warning in found.warnings:
            message(f"note: {warning}")
    if options["path"]:
        _show_path(found, figure, output)
    elif options["next_pilots"] is not None:
        _show_pilots(found, options["next_pilots"], options["pilot_budget"], options["write"], output)
    elif options["simulate"] is not None:
        _show_simulation(found, options["simulate"], output)
    else:
        show_plan(found, saved, held_out, output)
        _draw_plan(found, figure)


def _draw_plan(found: "Plan", figure: Path | None) -> None:
    if figure is not None:
        from scaling.figures.plans import write_plan_figure

        write_plan_figure(found, figure)
        message(f"wrote {figure}")


def _show_path(found: "Plan", figure: Path | None, output: Format) -> None:
    from scaling.cli.path_output import show_path
    from scaling.decisions.planning import optimal_path

    path = optimal_path(found)
    show_path(path, output)
    if figure is not None:
        from scaling.figures.growth_paths import write_path_figure

        write_path_figure(path, figure)
        message(f"wrote {figure}")


def _show_pilots(found: "Plan", count: int, budget: str, write: Path | None, output: Format) -> None:
    from scaling.cli.pilots_output import show_pilots
    from scaling.decisions.planning import next_pilots, parse_budget, pilot_study
    from scaling.design import write_new_study

    pilots = next_pilots(found, count, parse_budget(budget, "pilot-budget"))
    show_pilots(pilots, found, output)
    if write is not None and not pilots.pilots:
        message(f"{write}: not written, there is no run for it")
    elif write is not None:
        write_new_study(write, pilot_study(pilots, found, write.stem))
        message(f"wrote {write}: scaling run-grid {write}")


def _show_simulation(found: "Plan", study: str, output: Format) -> None:
    from scaling.cli.pilots_output import show_simulation
    from scaling.decisions.planning import simulate_grid

    show_simulation(simulate_grid(found, study), found, output)


def _show_schedule(study: str | None, design: str, write: Path | None, output: Format) -> None:
    from scaling.cli.schedule_output import print_schedule
    from scaling.decisions import plan_schedule, write_schedule

    found = plan_schedule(study or "paper", design)
    print_schedule(found, output)
    if write is not None:
        write_schedule(found, write)
        message(f"wrote {write}: scaling run-grid {write}")
