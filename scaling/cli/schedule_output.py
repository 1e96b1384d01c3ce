"""How a planned patch schedule is printed."""

from typing import TYPE_CHECKING

from scaling.cli.output import Format, amount, message, print_json, show_table, si

if TYPE_CHECKING:
    from scaling.decisions import PatchLaw, PatchSchedule, ScheduledStage, Spread


def print_schedule(result: "PatchSchedule", output: Format = Format.TABLE) -> None:
    """Print a schedule as tables and sentences, or as JSON."""
    if output is Format.JSON:
        print_json(result.to_json())
        return
    print(f"* {_verdict(result)}\n")
    title = f"{result.design}: to a {result.loss} of {result.target_loss:.4g} with the fewest training FLOPs"
    columns = ("patch", "from loss", "to loss", "FLOPs", "images", "share of images")
    show_table(title, columns, [_stage(stage) for stage in result.stages])
    single = result.single_patch_size
    rows = [
        ("this schedule", f"{si(result.training_flops)}FLOP", "-"),
        (f"patch {result.stages[-1].patch_size} alone", f"{si(result.alone_flops)}FLOP", _saved(result.saved)),
        (f"best single patch, {single}", f"{si(result.single_flops)}FLOP", _saved(result.saved_over_single)),
    ]
    show_table("to the same loss", ("training", "FLOPs", "saved by the schedule [95 %]"), rows)
    laws = f"{result.loss} = E + A (C + c)^b, for C training FLOPs"
    names = ("patch", "E", "A", "c", "b", "residuals", "points", "from C", "to C")
    show_table(laws, names, [_law(law) for law in result.laws])
    for note in result.notes:
        message(f"note: {note}")


def _verdict(result: "PatchSchedule") -> str:
    *before, last = result.stages
    if not before:
        return f"No larger patch helps: patch {last.patch_size} alone reaches this loss with the fewest FLOPs."
    steps = ", then ".join(f"patch {stage.patch_size} for {stage.share:.0%} of the images" for stage in before)
    saved = f"{result.saved.estimate:.0%} [{result.saved.low:.0%}, {result.saved.high:.0%}] of the FLOPs"
    rest = f"the rest at patch {last.patch_size}"
    return f"Train {steps}, {rest}: by these laws this saves {saved} of patch {last.patch_size} alone."


def _stage(stage: "ScheduledStage") -> tuple[str, ...]:
    start = "-" if stage.from_loss is None else f"{stage.from_loss:.4g}"
    numbers = f"{si(stage.training_flops)}FLOP", f"{stage.training_images:,.0f}", f"{stage.share:.1%}"
    return (str(stage.patch_size), start, f"{stage.to_loss:.4g}", *numbers)


def _saved(spread: "Spread") -> str:
    return f"{spread.estimate:.1%} [{spread.low:.1%}, {spread.high:.1%}]"


def _law(law: "PatchLaw") -> tuple[str, ...]:
    numbers = amount(law.E), f"{law.A:.3g}", f"{law.c:.3g}", f"{law.b:.3g}"
    ends = si(law.first_flops) + "FLOP", si(law.final_flops) + "FLOP"
    return (str(law.patch_size), *numbers, f"{law.miss:.1%}", str(law.points), *ends)
