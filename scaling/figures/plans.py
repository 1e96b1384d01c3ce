"""A plan as a figure: what every design is expected to reach for what it costs, the frontier and the choice."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.amounts import unit_name
from scaling.decisions.planning.outlook import point_predictions
from scaling.design import Design, DesignError
from scaling.figures import check_file, write_figure
from scaling.figures.labels import Label, add_labels
from scaling.figures.layout import ARCHITECTURES, OTHERS
from scaling.figures.style import MARKERS, log_axis, nice_log_ticks, styled
from scaling.figures.words import add_caption, words, written

if TYPE_CHECKING:
    from scaling.decisions.planning.plan import Plan

SIZE = (5.1, 3.9)
LABELLED = 5  # designs of the frontier beside the chosen one
MANY = 1000  # designs from which marks are drawn as pixels
INK = "0.15"


def write_plan_figure(plan: "Plan", file: Path) -> None:
    """Draw a plan to a file in the format of its suffix: .pdf, .png or .svg.

    Raises:
        UsageError: for another suffix.
        RecordError: if the file cannot be written.
    """
    check_file(file)  # before anything is drawn
    write_figure(draw_plan(plan), file)


def draw_plan(plan: "Plan") -> Figure:
    """Draw expected outcome against cost: all designs that keep within all limits but the budget, and the best."""
    with styled():
        figure = Figure(figsize=SIZE, layout="constrained")
        axis = figure.subplots()
        found = words({"task": plan.evidence.task or None, "dataset": plan.evidence.dataset or None})[0]
        axis.set_title(", ".join([*found, plan.training.words]))
        _draw_designs(axis, plan)
        _draw_frontier(axis, plan)
        _draw_measured(axis, plan)
        _draw_choice(axis, plan)
        axis.set(
            xscale="log", yscale="log", xlabel=cost_label(plan.cost_unit), ylabel=outcome_label(plan.evidence.outcome)
        )
        if np.ptp(np.log10(axis.get_xlim())) < 3:
            log_axis(axis.xaxis, nice_log_ticks(*axis.get_xlim()))
        log_axis(axis.yaxis, nice_log_ticks(*axis.get_ylim()))
        _draw_limits(axis, plan)
        figure.legend(loc="outside upper center", ncols=3)
        add_caption(figure, _caption(plan), 2)
        _label(figure, axis, plan)
    return figure


def cost_label(unit: str) -> str:
    """Of an axis of costs."""
    return {"flops": "Training FLOPs", "dollars": "Cost of the training (dollars)"}.get(unit, unit_name(unit))


def outcome_label(outcome: Outcome) -> str:
    """Of an axis on which lower is better: a loss, or what a rate lacks of 100 %."""
    return "Test loss" if outcome.is_loss else f"Error (%): 100 − {outcome.label}"


def shown(outcome: Outcome, values: Any) -> Any:
    """Outcomes as the axis shows them."""
    return values if outcome.is_loss else 100 * (1 - np.asarray(values))


def mark_of(architecture: str, known: list[str]) -> dict[str, Any]:
    """Colour and mark of an architecture; the marks differ in print without colour."""
    return {
        "color": ARCHITECTURES.get(architecture, OTHERS),
        "marker": MARKERS[known.index(architecture) % len(MARKERS)],
    }


def _costs(plan: "Plan") -> Array:
    return plan.state.costs.in_unit(plan.cost_unit, plan.question.price)


def _known(plan: "Plan") -> list[str]:
    return list(dict.fromkeys(model.architecture for model in plan.state.space.models))


def _draw_designs(axis: Axes, plan: "Plan") -> None:
    within = np.flatnonzero(plan.state.limits.but("budget"))
    outcome = plan.evidence.outcome
    means = shown(outcome, outcome.outer(point_predictions(plan.evidence, plan.state.places.chosen(within))))
    costs, names = _costs(plan)[within], plan.state.space.architectures[within]
    many = len(within) > MANY
    for name in _known(plan):
        mine = names == name
        look = mark_of(name, _known(plan))
        axis.plot(
            costs[mine],
            means[mine],
            linestyle="",
            marker=look["marker"],
            color=look["color"],
            markersize=1.6 if many else 3.2,
            alpha=0.25 if many else 0.55,
            markeredgewidth=0,
            rasterized=many,
        )
        if mine.any():
            axis.plot([], [], linestyle="", markersize=4, label=f"{written(name)}, expected", markeredgewidth=0, **look)


def _draw_frontier(axis: Axes, plan: "Plan") -> None:
    cost = [point.cost for point in plan.frontier]
    values = [[getattr(each.prediction, end) for each in plan.frontier] for end in ("estimate", "low", "high")]
    middle, low, high = shown(plan.evidence.outcome, np.array(values))
    axis.fill_between(cost, low, high, color=INK, alpha=0.13, lw=0, label="95 % of one new training")
    axis.plot(cost, middle, color=INK, linewidth=1.1, label="frontier")


def _draw_measured(axis: Axes, plan: "Plan") -> None:
    """Records of designs that the plan looked at, at the costs of the plan."""
    at, outcome = _measured(plan), plan.evidence.outcome
    if at:
        x, y = zip(*at, strict=True)
        look = {"markersize": 4.5, "markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 0.8}
        axis.plot(x, shown(outcome, np.array(y)), linestyle="", marker="o", label="measured", zorder=3, **look)


def _measured(plan: "Plan") -> list[tuple[float, float]]:
    """Cost and outcome of the records' designs that keep within all limits but the budget."""
    space, costs, kept = plan.state.space, _costs(plan), plan.state.limits.but("budget")
    models = {(model.architecture, model.size, model.head): place for place, model in enumerate(space.models)}
    found = []
    for name, value in zip(plan.evidence.designs, plan.evidence.values, strict=True):
        try:
            design = Design.parse(name)
        except DesignError:
            continue
        model = models.get((design.architecture, design.size, design.head), -1)
        same = (
            (space.model == model) & (space.patch_size == design.patch_size) & (space.input_size == design.input_size)
        )
        found += [(float(costs[place]), float(value)) for place in np.flatnonzero(same & kept)]
    return found


def _draw_choice(axis: Axes, plan: "Plan") -> None:
    x, y = _choice(plan)
    look = {"markersize": 11, "color": "#b5523b", "markeredgecolor": INK, "markeredgewidth": 0.8}
    axis.plot(x, y, linestyle="", marker="*", label="chosen", zorder=5, **look)


def _choice(plan: "Plan") -> tuple[float, float]:
    chosen = plan.chosen
    amounts = {"flops": chosen.training_flops, "dollars": chosen.dollars or 0.0}
    value = next(iter(chosen.predictions.values())).estimate
    return amounts.get(plan.cost_unit, chosen.gpu_hours.estimate), float(shown(plan.evidence.outcome, value))


def _draw_limits(axis: Axes, plan: "Plan") -> None:
    """The budget as a vertical line and the target as a horizontal one, in words."""
    line = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 2}
    if plan.question.budget is not None:
        axis.axvline(plan.question.budget.amount, **line)
        place, edge = (plan.question.budget.amount, 0.985), axis.get_xaxis_transform()
        axis.annotate(
            str(plan.question.budget),
            place,
            (-3, 0),
            edge,
            "offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=6.5,
        )
    if plan.question.target is not None:
        target, outcome = plan.question.target, plan.evidence.outcome
        said = f"target {target:g}" if outcome.is_loss else f"target {100 * target:g} %"
        axis.axhline(float(shown(outcome, target)), **line)
        place, edge = (0.01, float(shown(outcome, target))), axis.get_yaxis_transform()
        axis.annotate(said, place, (0, -2), edge, "offset points", ha="left", va="top", fontsize=6.5)


def _label(figure: Figure, axis: Axes, plan: "Plan") -> None:
    """Names of the choice and of designs spread over the frontier."""
    outcome, chosen = plan.evidence.outcome, plan.chosen.design
    others = [point for point in plan.frontier if point.design != chosen]
    wanted = np.geomspace(plan.frontier[0].cost, plan.frontier[-1].cost, LABELLED)
    nearest = (
        {min(range(len(others)), key=lambda at: abs(np.log(others[at].cost / cost))) for cost in wanted}
        if others
        else set()
    )
    labels = [Label(chosen, *_choice(plan), "bold")]
    labels += [
        Label(each.design, each.cost, float(shown(outcome, each.prediction.estimate)))
        for each in (others[at] for at in sorted(nearest))
    ]
    frontier = [(each.cost, float(shown(outcome, each.prediction.estimate))) for each in plan.frontier]
    add_labels(figure, axis, labels, np.array(frontier))


def _caption(plan: "Plan") -> list[str]:
    within = int(plan.state.limits.but("budget").sum())
    setting = plan.setting
    gpus = f"{plan.question.gpus} " if plan.question.gpus else ""
    return [
        f"law of {len(plan.evidence.designs)} designs of {plan.question.study}: {plan.evidence.surface.formula}, with "
        "deviations",
        f"costs on {gpus}{setting.hardware.name}" if plan.cost_unit != "flops" else "",
        f"small marks: the {within:,} designs within all limits but the budget, of {plan.considered:,} looked at",
        "frontier: designs that no cheaper one is expected to equal",
        "measured: records at the plan's costs" if _measured(plan) else "no record is of a design looked at",
    ]
