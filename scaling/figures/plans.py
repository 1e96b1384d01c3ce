"""A plan as a figure: what every design is expected to reach for what it costs, the frontier and the choice."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.amounts import UNIT_NAMES, Budget, BudgetUnit
from scaling.decisions.planning.outlook import point_predictions
from scaling.design import known_architectures
from scaling.figures import check_file, write_figure
from scaling.figures.labels import Label, add_labels
from scaling.figures.layout import ARCHITECTURES, OTHERS
from scaling.figures.style import LAW_SIZE, MARKERS, PANEL_WIDTH, log_axis, nice_log_ticks, styled
from scaling.figures.words import add_caption, words, written

if TYPE_CHECKING:
    from scaling.decisions.planning.plan import Plan

SIZE = (2 * PANEL_WIDTH, 4.3)
LABELLED = 5  # designs of the frontier beside the chosen one
ALONG = 60  # places on the frontier that labels keep off
ROOM = 0.12  # of the axis
MANY = 1000  # designs from which marks are drawn as pixels
INK = "0.15"
SCALES = {"parameters": "model size", "input": "input size", "data": "images seen", "patch": "patch size"}
LINE: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 2}


def write_plan_figure(plan: "Plan", file: Path) -> None:
    """Draw a plan to a file in the format of its suffix: .pdf, .png or .svg.

    Raises:
        UsageError: for another suffix.
        OutputError: if the file cannot be written.
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
        _draw_limits(axis, plan)
        low, high = axis.get_ylim()
        axis.set_ylim(low / (high / low) ** ROOM, high)  # for labels beneath the frontier
        cost_axis(axis, plan.cost_unit)
        log_axis(axis.yaxis, nice_log_ticks(*axis.get_ylim()))
        figure.legend(loc="outside upper center", ncols=3)
        add_caption(figure, _caption(plan), 2)
        _label(figure, axis, plan)
    return figure


def cost_label(unit: BudgetUnit) -> str:
    """Of an axis of costs."""
    return {"flops": "Training FLOPs", "dollars": "Cost of the training (dollars)"}.get(unit, UNIT_NAMES[unit])


def cost_axis(axis: Axes, unit: BudgetUnit) -> None:
    """Round ticks on a logarithmic axis of costs; FLOPs in powers of ten, whose exponents can be read."""
    if unit == "flops":
        axis.tick_params(axis="x", labelsize=LAW_SIZE)
    else:
        log_axis(axis.xaxis, nice_log_ticks(*axis.get_xlim()))


def outcome_label(outcome: Outcome) -> str:
    """Of an axis on which lower is better: a loss, or what a rate lacks of 100 %."""
    return "Test loss" if outcome.is_loss else f"Error (%): 100 − {outcome.label}"


def shown(outcome: Outcome, values: Any) -> Any:
    """Outcomes as the axis shows them."""
    return values if outcome.is_loss else 100 * (1 - np.asarray(values))


def mark_of(architecture: str) -> dict[str, Any]:
    """Colour and mark of an architecture, the same in every figure; the marks differ in print without colour."""
    known = list(known_architectures())
    place = known.index(architecture) if architecture in known else len(known)
    return {"color": ARCHITECTURES.get(architecture, OTHERS), "marker": MARKERS[place % len(MARKERS)]}


def _costs(plan: "Plan") -> Array:
    return plan.state.costs.in_unit(plan.cost_unit, plan.question.price)


def _known(plan: "Plan") -> list[str]:
    return list(dict.fromkeys(model.architecture for model in plan.state.space.models))


def _expected(plan: "Plan") -> Array:
    """Cost and what the axis shows of every design within all limits but the budget, (M, 2)."""
    within, outcome = np.flatnonzero(plan.state.limits.but("budget")), plan.evidence.outcome
    found = outcome.outer(point_predictions(plan.evidence, plan.state.places.chosen(within)))
    return np.stack([_costs(plan)[within], shown(outcome, found)], axis=1)


def _draw_designs(axis: Axes, plan: "Plan") -> None:
    costs, expected = _expected(plan).T
    names = plan.state.space.architectures[plan.state.limits.but("budget")]
    many = len(costs) > MANY
    for name in _known(plan):
        mine = names == name
        look = mark_of(name)
        axis.plot(
            costs[mine],
            expected[mine],
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
    axis.fill_between(cost, low, high, color=INK, alpha=0.13, lw=0, step="post", label="95 % of one new training")
    axis.plot(cost, middle, color=INK, linewidth=1.1, drawstyle="steps-post", label="frontier")


def _draw_measured(axis: Axes, plan: "Plan") -> None:
    """Records of designs that the plan looked at, at the costs of the plan."""
    found = _measured(plan)
    for name in dict.fromkeys(name for name, _, _ in found):
        x, y = np.array([(cost, value) for each, cost, value in found if each == name]).T
        axis.plot(
            x,
            shown(plan.evidence.outcome, y),
            linestyle="",
            marker=mark_of(name)["marker"],
            markersize=4.5,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=0.8,
            label=f"{written(name)}, measured",
            zorder=3,
        )


def _measured(plan: "Plan") -> list[tuple[str, float, float]]:
    """Architecture, cost and outcome of the records' designs that keep within all limits but the budget."""
    state, evidence, costs = plan.state, plan.evidence, _costs(plan)
    tried, kept = evidence.tried(state.places), state.limits.but("budget")
    return [
        (evidence.kinds[state.places.kinds[place]][0], float(costs[place]), float(evidence.values[tried[place]]))
        for place in np.flatnonzero((tried >= 0) & kept)
    ]


def _draw_choice(axis: Axes, plan: "Plan") -> None:
    x, y = _choice(plan)
    found = plan.chosen.predictions[plan.evidence.outcome.column]
    axis.vlines(x, *shown(plan.evidence.outcome, np.array([found.low, found.high])), color=INK, lw=1.1, zorder=4)
    look = {"markersize": 11, "color": "#b5523b", "markeredgecolor": INK, "markeredgewidth": 0.8}
    axis.plot(x, y, linestyle="", marker="*", label="chosen", zorder=5, **look)


def _choice(plan: "Plan") -> tuple[float, float]:
    value = plan.chosen.predictions[plan.evidence.outcome.column].estimate
    return plan.chosen.cost(plan.cost_unit), float(shown(plan.evidence.outcome, value))


def _draw_limits(axis: Axes, plan: "Plan") -> None:
    """The budget as a vertical line and the target as a horizontal one, in words."""
    if plan.question.budget is not None:
        _draw_budget(axis, plan.question.budget)
    if plan.question.target is not None:
        target, outcome = plan.question.target, plan.evidence.outcome
        said = f"target {target:g}" if outcome.is_loss else f"target {100 * target:g} %"
        axis.axhline(float(shown(outcome, target)), **LINE)
        place = (0.99, float(shown(outcome, target)))
        axis.annotate(
            said, place, (0, 2), axis.get_yaxis_transform(), "offset points", ha="right", va="bottom", fontsize=6.5
        )


def _draw_budget(axis: Axes, budget: Budget) -> None:
    """A vertical line with its words along it."""
    axis.axvline(budget.amount, **LINE)
    top = (budget.amount, 0.985)
    axis.annotate(
        str(budget),
        top,
        (-3, 0),
        axis.get_xaxis_transform(),
        "offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=6.5,
    )


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
    costs = [each.cost for each in plan.frontier]
    line = np.geomspace(costs[0], costs[-1], ALONG)
    steps = [plan.frontier[place].prediction.estimate for place in np.searchsorted(costs, line, side="right") - 1]
    measured = [(cost, float(shown(outcome, value))) for _, cost, value in _measured(plan)]
    avoided = [*zip(line, shown(outcome, steps), strict=True), *measured]
    add_labels(figure, axis, labels, np.concatenate([_expected(plan), avoided]))


def _caption(plan: "Plan") -> list[str]:
    within = int(plan.state.limits.but("budget").sum())
    setting = plan.setting
    gpus = f"{plan.question.gpus} " if plan.question.gpus else ""
    return [
        f"law over {_listed([SCALES[name] for name in plan.evidence.surface.names])}, from "
        f"{len(plan.evidence.designs)} designs of {plan.question.study}",
        f"costs on {gpus}{setting.hardware.name}" if plan.cost_unit != "flops" else "",
        f"small marks: the {within:,} designs within all limits but the budget, of {plan.considered:,} looked at",
        "frontier: designs that no cheaper one is expected to equal",
        "measured: records at the plan's costs" if _measured(plan) else "no record is of a design looked at",
    ]


def _listed(names: list[str]) -> str:
    """Such as 'model size, input size and patch size'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
