"""Loss against the scale of the fits, with laws and bands, on a logarithmic axis of the loss or of loss - E."""

from typing import Any

import altair as alt
import numpy as np

from scaling.figures.report.charts import Chart, Key, Row, colour, log_ticks, rounded, specification, tooltip
from scaling.figures.report.content import LOSS, Content, Curve
from scaling.figures.report.words import capital, in_words, metric_words, names_of
from scaling.laws import FitResult, usable

PLACES = 24  # at which a law is drawn
MOST_TICKS = 12
ROOM = 0.6  # how far below the lowest point a band goes, as a factor


def loss_chart(content: Content) -> Chart | None:
    """The chart; None if no curve has a point."""
    panels: dict[str, list[Curve]] = {}
    for curve in content.curves:
        if len(_points_of(curve, content.x)):
            panels.setdefault(_panel(curve), []).append(curve)
    data: dict[str, list[Row]] = {"points": [], "laws": []}
    legend = []
    for panel, curves in enumerate(panels.values()):
        for place, curve in enumerate(curves):
            points, laws = _rows(curve, content.x)
            shared = {"panel": panel, "curve": _name(curve), "colour": colour(place)}
            data["points"] += [shared | row for row in points]
            data["laws"] += [shared | row for row in laws]
            legend.append(Key(panel, _legend(curve), colour(place), "line"))
    if not legend:
        return None
    ticks = sorted({row["x"] for row in data["points"]})
    return Chart(
        name="loss",
        title=f"Test loss against {in_words(content.x)}",
        caption="Points are records, lines the fitted laws, bands their intervals. The second axis subtracts each "
        "curve's fitted floor E: a law with a floor is straight there, and one without (E = 0) stays as it is. "
        "Points at or below their floor have no place on it, and bands that reach it are cut.",
        panel_question="Curves of",
        panels=tuple(panels),
        view_question="Vertical axis",
        views={
            "log of loss": _view(content.x, "value", "Test loss", ticks, data),
            "log of loss − E": _view(content.x, "above", "Test loss − fitted floor E", ticks, data),
        },
        data=data,
        legend=tuple(legend),
    )


def _points_of(curve: Curve, x: str) -> Any:
    rows = usable(curve.rows, x, LOSS)[0]
    return rows[(rows[x] > 0) & (rows[LOSS] > 0)]


def _panel(curve: Curve) -> str:
    return names_of({key: value for key, value in curve.fit.group.items() if key != "size"}) or "all records"


def _name(curve: Curve) -> str:
    return str(curve.fit.group.get("size", "records"))


def _legend(curve: Curve) -> str:
    return f"{_name(curve)}: {curve.fit.text if isinstance(curve.fit, FitResult) else 'no law'}"


def _rows(curve: Curve, x: str) -> tuple[list[Row], list[Row]]:
    """Points, and places of the law."""
    used = _points_of(curve, x)
    floor = _floor(curve)
    values = used[LOSS].to_numpy(float)
    above = values - floor
    points = [
        {
            "x": rounded(float(record[x])),
            "value": rounded(record[LOSS]),
            "above": rounded(height) if height > 0 else None,
            "design": str(record.get("design", "")),
            "seed": _text(record.get("seed")),
            "loss": f"{record[LOSS]:.4g}",
            "metric": metric_words(record),
            "reference": _text(record.get("reference")),
            "status": _text(record.get("status")),
        }
        for record, height in zip(used.to_dict("records"), above, strict=True)
    ]
    return points, _law_rows(curve, used[x].to_numpy(float), values, floor)


def _law_rows(curve: Curve, scale: np.ndarray, values: np.ndarray, floor: float) -> list[Row]:
    if not isinstance(curve.fit, FitResult):
        return []
    places = np.geomspace(scale.min(), scale.max(), PLACES)
    law = curve.fit.predict(places)
    low, high = curve.fit.band(places)
    drawn = {"x": places}
    for name, less in (("value", 0.0), ("above", floor)):
        known = np.concatenate([values - less, law - less])
        lowest, highest = known[known > 0].min() * ROOM, known.max() / ROOM
        # A band may reach the floor, which a logarithmic axis does not have.
        ends = np.nan_to_num(low, nan=lowest, neginf=lowest), np.nan_to_num(high, nan=highest, posinf=highest)
        drawn |= {name: law - less}
        drawn |= {f"{name}_low": np.clip(ends[0] - less, lowest, highest)}
        drawn |= {f"{name}_high": np.clip(ends[1] - less, lowest, highest)}
    kept = drawn["above"] > 0
    return [{name: rounded(float(column[place])) for name, column in drawn.items()} for place in np.flatnonzero(kept)]


def _floor(curve: Curve) -> float:
    if not isinstance(curve.fit, FitResult) or "E" not in curve.fit.parameters:
        return 0.0
    return curve.fit.parameters["E"].estimate


def _text(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _view(x: str, field: str, title: str, ticks: list[float], data: dict[str, list[Row]]) -> Row:
    placed = ticks if len(ticks) <= MOST_TICKS else alt.Undefined
    downwards = x == "patch_size"  # a smaller patch is more compute, to the right
    horizontal = alt.X(
        "x:Q",
        title=capital(in_words(x)) + (" (pixels)" if downwards else ""),
        scale=alt.Scale(type="log", reverse=downwards, nice=False, padding=18),
        axis=alt.Axis(
            format=".6~g" if downwards else "~s", grid=False, labelOverlap="greedy", values=placed, tickCount=6
        ),
    )
    scale = alt.Scale(type="log", nice=False, padding=10)
    heights = log_ticks("points", [*data["points"], *data["laws"]], field, f"{field}_low", f"{field}_high")
    axis = alt.Axis(format=".6~g", values=heights, labelOverlap="greedy")
    shade = alt.Color("colour:N", scale=None)
    law = alt.Chart(alt.NamedData(name="laws")).encode(x=horizontal, detail="curve:N", color=shade)
    band = law.mark_area(opacity=0.16, tooltip=False).encode(
        y=alt.Y(f"{field}_low:Q", scale=scale, axis=axis, title=title), y2=f"{field}_high:Q"
    )
    line = law.mark_line(strokeWidth=2, tooltip=False).encode(
        y=alt.Y(f"{field}:Q", scale=scale, axis=axis, title=title)
    )
    points = (
        alt.Chart(alt.NamedData(name="points"))
        .transform_filter(f"isValid(datum.{field})")
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x=horizontal,
            y=alt.Y(f"{field}:Q", scale=scale, axis=axis, title=title),
            color=shade,
            tooltip=tooltip(
                design="design", seed="seed", loss="loss", metric="metric", reference="reference", status="status"
            ),
        )
    )
    return specification([band, line, points], 400)
