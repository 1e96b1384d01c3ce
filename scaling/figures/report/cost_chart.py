"""The comparison: what designs reach along every axis, over each cost."""

import altair as alt

from scaling.decisions import COSTS, AxisResult, Candidate, Comparison
from scaling.decisions.verdict import COST_NAMES
from scaling.figures.paths import MIB, NAMES, changed_words, cost_label, value_label
from scaling.figures.report.charts import Chart, Key, Row, colour, log_ticks, rounded, specification, tooltip
from scaling.figures.report.words import capital

MARKS = {
    "patch": "circle",
    "parameters": "square",
    "input": "triangle-up",
    "input at fixed length": "triangle-down",
    "extension": "diamond",
    "decoder": "cross",
}
PLACES = {name: place for place, name in enumerate(MARKS)}
FORMATS = {"flops": "~s", "memory": ",.6~g", "hours": ",.6~g"}


def cost_chart(comparisons: tuple[Comparison, ...]) -> Chart | None:
    """The chart; None if no cost of a comparison is known."""
    rows = [
        {"panel": panel} | row
        for panel, comparison in enumerate(comparisons)
        for axis in comparison.axes
        for cost in comparison.base.costs
        for row in _rows(comparison, axis, cost)
    ]
    costs = [cost for cost in COSTS if any(row["cost"] == cost for row in rows)]
    if not costs:
        return None
    outcome = comparisons[0].field.outcome
    legend = (
        Key(panel, NAMES[axis.name], colour(PLACES[axis.name]), MARKS[axis.name])
        for panel, comparison in enumerate(comparisons)
        for axis in comparison.axes
        if axis.steps
    )
    return Chart(
        name="cost",
        title=f"{capital(outcome.label)} for the same cost, axis by axis",
        caption="Every line starts at the same design (the star) and grows along one axis; the higher at the same "
        "cost, the better the axis." + (" Of a loss, the lower." if outcome.is_loss else "") + " Bars are 95 % "
        f"intervals; {comparisons[0].noise}.",
        panel_question="Start from",
        panels=tuple(comparison.base.design for comparison in comparisons),
        view_question="Cost",
        views={
            COST_NAMES[cost]: _view(cost, _title(comparisons, cost), comparisons[0], _of(cost, rows)) for cost in costs
        },
        data={"steps": rows},
        legend=tuple(legend),
    )


def _of(cost: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["cost"] == cost]


def _title(comparisons: tuple[Comparison, ...], cost: str) -> str:
    known = (each.field.cost_words[cost] for each in comparisons if cost in each.field.cost_words)
    return " or ".join(dict.fromkeys(cost_label(cost, words) for words in known))


def _rows(comparison: Comparison, axis: AxisResult, cost: str) -> list[Row]:
    """The base and the steps of one axis; none if a step's cost is not known."""
    if not axis.steps or any(cost not in step.candidate.costs for step in axis.steps):
        return []
    shared = {"axis": NAMES[axis.name], "cost": cost, "colour": colour(PLACES[axis.name]), "mark": MARKS[axis.name]}
    base = shared | _place(comparison, comparison.base, cost)
    steps = [
        shared
        | _place(comparison, step.candidate, cost)
        | {
            "changed": changed_words(axis.name, step.candidate),
            "times": f"{step.ratios[cost]:.3g}×",
            "gain": f"{step.gain.estimate:+.3g} [{step.gain.low:.2g}, {step.gain.high:.2g}]",
        }
        for step in axis.steps
    ]
    return [base | {"changed": "", "times": "1×", "gain": "–"}, *steps]


def _place(comparison: Comparison, candidate: Candidate, cost: str) -> Row:
    spread, is_loss = comparison.values[candidate.design], comparison.field.outcome.is_loss
    factor, unit = (1, "") if is_loss else (100, " %")
    ends = {"value": spread.estimate, "low": spread.low, "high": spread.high}
    return {
        "x": rounded(candidate.costs[cost] / (MIB if cost == "memory" else 1)),
        **{name: rounded(factor * value) for name, value in ends.items()},
        "design": candidate.design,
        "shown": f"{factor * spread.estimate:.4g}{unit} [{factor * spread.low:.4g}, {factor * spread.high:.4g}]",
        "is_base": candidate is comparison.base,
    }


def _view(cost: str, title: str, comparison: Comparison, data: list[Row]) -> Row:
    outcome = comparison.field.outcome
    scale = alt.Scale(type="log", nice=False, padding=24)
    horizontal = alt.X(
        "x:Q",
        title=title,
        scale=scale,
        axis=alt.Axis(format=FORMATS[cost], values=log_ticks("steps", data, "x"), grid=False, labelOverlap="greedy"),
    )
    heights = log_ticks("steps", data, "value", "low", "high")
    vertical = alt.Y(
        "value:Q",
        title=value_label(outcome),
        scale=alt.Scale(type="log" if outcome.is_loss else "linear", zero=False, nice=False, padding=16),
        axis=alt.Axis(format=".6~g", tickCount=6, values=heights if outcome.is_loss else alt.Undefined),
    )
    shade, mark = alt.Color("colour:N", scale=None), alt.Shape("mark:N", scale=None)
    rows = alt.Chart(alt.NamedData(name="steps")).transform_filter(f"datum.cost == '{cost}'").encode(x=horizontal)
    hover = tooltip(design="design", axis="axis", shown=outcome.label, times="cost", gain="gain over the start [95 %]")
    steps, start = rows.transform_filter("!datum.is_base"), rows.transform_filter("datum.is_base")
    words = steps.encode(y=vertical, text="changed:N", color=shade)
    return specification(
        [
            rows.mark_line(strokeWidth=2, tooltip=False).encode(y=vertical, color=shade, detail="axis:N"),
            rows.mark_rule(opacity=0.6, tooltip=False).encode(
                y=alt.Y("low:Q", title=value_label(outcome)), y2="high:Q", color=shade
            ),
            steps.mark_point(filled=True, size=80, opacity=1).encode(
                y=vertical, color=shade, shape=mark, tooltip=hover
            ),
            words.mark_text(align="left", dx=7, dy=12, fontSize=11, tooltip=False),
            start.mark_text(text="★", fontSize=19, color="currentColor").encode(y=vertical, tooltip=hover),
        ],
        420,
    )
