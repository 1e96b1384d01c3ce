"""Interactive figures as Vega-Lite specifications whose data are kept once, beside them."""

import json
from dataclasses import dataclass
from typing import Any

import altair as alt

from scaling.figures.style import nice_log_ticks

Row = dict[str, Any]
# Names of colours in page.css, which has a light and a dark one of each.
SERIES = 7


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend."""

    panel: int
    label: str
    colour: str
    mark: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its choices: which panel is shown, and in which view."""

    name: str
    title: str
    caption: str
    panel_question: str
    panels: tuple[str, ...]
    view_question: str
    views: dict[str, Row]
    """Specification by label."""
    data: dict[str, list[Row]]
    """By name in the specifications; rows have the number of their panel."""
    legend: tuple[Key, ...]

    def to_json(self) -> Row:
        """What the page's script draws from."""
        legend = [
            {"panel": key.panel, "label": key.label, "colour": key.colour, "mark": key.mark} for key in self.legend
        ]
        return {"views": list(self.views.values()), "data": self.data, "legend": legend}


def colour(place: int) -> str:
    """Colour of a series, light or dark as the page is."""
    return f"var(--series-{place % SERIES})"


def rounded(value: float | None) -> float | None:
    """To five digits, which no screen exceeds; None for what is not finite."""
    return None if value is None or value != value or abs(value) == float("inf") else float(f"{value:.5g}")


def log_ticks(source: str, rows: list[Row], *fields: str) -> alt.ExprRef:
    """Round values between the ends of each panel, for an axis; left to itself, Vega has none from 1 to 2.

    Args:
        source: name of the data that say which panel is shown.
        rows: of all panels.
        fields: of the rows, that are on the axis.
    """
    values: list[list[float]] = [[] for _ in range(1 + max((row["panel"] for row in rows), default=0))]
    for row in rows:
        values[row["panel"]] += [row[field] for field in fields if row.get(field)]
    ticks = [nice_log_ticks(min(known), max(known)) if known else [] for known in values]
    of_panel = json.dumps([[float(f"{tick:.6g}") for tick in each] for each in ticks])
    return alt.ExprRef(f"{of_panel}[(data('{source}')[0] || {{panel: 0}}).panel]")


def tooltip(**fields: str) -> list[alt.Tooltip]:
    """Fields shown on hover, by field with their titles."""
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in fields.items()]


def specification(layers: list[alt.Chart], height: int) -> Row:
    """Layers as one chart, as wide as its place, in colours of the page."""
    axis = {"labelColor": "currentColor", "titleColor": "currentColor", "domainColor": "currentColor"}
    grid = {"ticks": False, "labelPadding": 7, "gridColor": "currentColor", "gridOpacity": 0.14, "domainOpacity": 0.5}
    sizes = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": 500, "titlePadding": 10, "labelFlush": False}
    sized = alt.LayerChart(layer=layers).properties(width="container", height=height, background="transparent")
    drawn = sized.configure(font="system-ui, sans-serif").configure_axis(**axis, **grid, **sizes)
    spec: Row = drawn.configure_view(stroke=None).to_dict()
    del spec["$schema"]  # an address, and the script is told the kind of specification
    return spec
