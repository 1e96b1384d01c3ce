"""`scaling compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import SOURCE_HELP, TASK_HELP, Format, message, print_json, show_table, si, size

if TYPE_CHECKING:
    from scaling.decisions import Candidate, Comparison, Step

SHOWN_COSTS = {"flops": "FLOPs", "memory": "memory", "hours": "hours"}


def compare(
    source: Annotated[Path, typer.Argument(help=SOURCE_HELP, metavar="SOURCE")],
    base: Annotated[
        str | None, typer.Option("--from", help="Design to start from.", show_default="the one with most axes")
    ] = None,
    y: Annotated[
        str | None, typer.Option(help="accuracy, mean_iou, box_ap, mask_ap or test_loss.", show_default="metric")
    ] = None,
    task: Annotated[str | None, typer.Option(help=TASK_HELP, show_default="that with most results")] = None,
    seed_noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation between seeds: points of a metric, or share of a loss.",
            show_default="from repeats, else assumed",
            min=0.0,
            max=100.0,
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Where should the next GPU-hour go: a smaller patch, a larger model, or a larger input?

    Follows every axis from one design and sets them against each other at equal training FLOPs, equal memory and
    equal hours.

    [bold]Examples[/bold]

    scaling compare paper

    scaling compare paper --from deit-base/16@128

    scaling compare runs/digits-quick --y test_loss
    """
    from scaling.decisions import compare as compare_axes
    from scaling.decisions import to_json, verdict

    found = compare_axes(source, base, y, seed_noise, task)
    if output is Format.JSON:
        print_json({"source": str(source), "verdict": verdict(found)} | to_json(found))
        return
    print("\n".join(f"* {sentence}" for sentence in verdict(found)))
    print()
    _show_steps(found)
    _show_rankings(found)
    _show_differences(found)
    for cost, designs in found.frontier.items():
        print(f"frontier, {SHOWN_COSTS[cost]}: {', '.join(designs)}")
    for cost, words in found.field.cost_words.items():
        message(f"{SHOWN_COSTS[cost]}: {words}")
    for gap in found.gaps:
        message(f"not compared: {gap}")
    for note in (found.noise, *found.confounders, *found.notes):
        message(f"note: {note}")


def _show_steps(found: "Comparison") -> None:
    outcome, base = found.field.outcome, found.base
    known = [cost for cost in SHOWN_COSTS if cost in found.field.cost_words]
    columns = ["axis", "design", outcome.label, "gain [95 %]", *(SHOWN_COSTS[cost] for cost in known), "chance"]
    rows = [["base", base.design, _value(base, found), *("-" for _ in range(len(known) + 2))]]
    tried: list[Candidate] = []
    for axis in found.axes:
        for step in axis.steps:
            gain = f"{step.gain.estimate:+.3g} [{step.gain.low:.2g}, {step.gain.high:.2g}]"
            costs = [_cost(step, cost) for cost in known]
            chance = f"{step.over_previous.chance:.2f}"
            rows.append([axis.name, step.candidate.design, _value(step.candidate, found), gain, *costs, chance])
        tried += [step.candidate for step in axis.steps]
        rows += [
            [axis.name, each.design, each.status, *("-" for _ in range(len(known) + 2))]
            for each in axis.path.unfinished
        ]
    unit = "loss taken off" if outcome.is_loss else "points"
    costs = f"{si(base.costs.get('flops'))}FLOP, {size(base.costs.get('memory'))}"
    where = " on ".join(filter(None, (found.field.task, found.field.dataset)))
    show_table(f"{where}: from {base.design} ({costs}); gains in {unit}", columns, rows, left=2)
    print("in brackets: gain per doubling of the cost; last: chance of a gain over the design before")
    if any(len(each.results) > 1 for each in (base, *tried)):
        kind = "logarithms" if outcome.is_loss else "log odds"
        print(f"{outcome.label}: mean of the seeds; gains are of the mean of their {kind}, which can differ a little")
    print()


def _cost(step: "Step", cost: str) -> str:
    """The ratio to the base's, and the gain for each doubling."""
    if cost not in step.ratios:
        return "-"
    slope = f" ({step.per_doubling[cost]:+.2g})" if cost in step.per_doubling else ""
    return f"{step.ratios[cost]:.3g}x{slope}"


def _value(candidate: "Candidate", found: "Comparison") -> str:
    value = candidate.value
    if value is None:
        return candidate.status
    return f"{value:.4f}" if found.field.outcome.is_loss else f"{100 * value:.1f} %"


def _show_rankings(found: "Comparison") -> None:
    rows = [
        [
            f"{each.ratio:.3g}x {SHOWN_COSTS[each.cost]}",
            name,
            f"{gain.estimate:+.3g} [{gain.low:.2g}, {gain.high:.2g}]",
            f"{each.best[name]:.2f}",
        ]
        for each in found.rankings
        for name, gain in each.gains.items()
    ]
    if rows:
        show_table("all axes at equal cost", ("at", "axis", "gain [95 %]", "chance of being best"), rows, left=2)
    rows = [
        [
            name,
            "-"
            if known.doubt
            else f"{known.exponent.estimate:.3g} [{known.exponent.low:.2g}, {known.exponent.high:.2g}]",
            f"none: {known.doubt}" if known.doubt else known.fit.fitted.law.formula,
            str(known.designs),
        ]
        for name, known in found.elasticities().items()
    ]
    if rows:
        show_table("elasticity of the reducible loss", ("axis", "exponent [95 %]", "law", "designs"), rows)


def _show_differences(found: "Comparison") -> None:
    rows = [
        [
            f"{each.first} over {each.second}",
            f"{each.ratio:.3g}x {SHOWN_COSTS[each.cost]}",
            f"{each.gain.estimate:+.2g} [{each.gain.low:.2g}, {each.gain.high:.2g}]",
            f"{each.gain.chance:.2f}",
        ]
        for each in found.differences
        if each.at_end
    ]
    if rows:
        show_table(
            "pairs of axes at equal cost, where the shorter ends",
            ("pair", "at", "difference [95 %]", "chance"),
            rows,
            left=2,
        )
