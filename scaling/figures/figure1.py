"""Figure 1: test loss against patch size, both logarithmic, with the fitted law and its band."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling.figures.marks import bar_ends, bars_caption, draw_law, draw_lost, draw_points, lost_handles
from scaling.figures.material import Material
from scaling.figures.panels import Panel, Y, blank, panels_of
from scaling.figures.scales import floor_of, loss_axis, patch_axis
from scaling.figures.style import COLOURS, LAW_SIZE, LINES, MARKERS, PANEL_HEIGHT, PANEL_WIDTH, styled
from scaling.figures.words import SCALE_LABELS, add_caption, loss_label
from scaling.laws import FitResult, FitStatus, Unfitted
from scaling.records import count_records

X = "patch_size"
COLUMNS = 3
MOST_INSIDE = 2  # entries of a legend within a panel; more would cover points
BELOW = -0.2  # of the axis' height: under its label
ENTRY_HEIGHT = 0.19
ROOM_FOR_LOST = 0.08  # of the axis, for each curve with cells that were lost


def draw(material: Material) -> Figure:
    """Draw one panel per task, architecture, head and input size, with one curve per model size.

    Raises:
        FigureError: if no record has both a patch size and a test loss.
    """
    panels = panels_of(material, X)
    rows, columns = math.ceil(len(panels) / COLUMNS), min(len(panels), COLUMNS)
    entries = max(len(panel.curves) + len(lost_handles(panel.lost)) for panel in panels)
    height = PANEL_HEIGHT + ENTRY_HEIGHT * (entries if entries > MOST_INSIDE else 0)
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * columns, height * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            _draw_panel(axis, panel)
        for spare in axes.flat[len(panels) :]:
            spare.set_visible(False)
        add_caption(figure, _caption(material.table, panels), columns)
    return figure


def _draw_panel(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title)
    if panel.letter:
        axis.set_title(panel.letter, loc="left", fontweight="bold")
    axis.set_ylabel(loss_label(panel.rows))
    around, handles, lines_of_lost = bar_ends(panel.rows, Y), [], 0
    for curve in panel.curves:
        place = panel.place(curve)
        if isinstance(curve, FitResult):
            around.append(draw_law(axis, place, curve))
        alone = panel.alone(curve)
        if draw_points(axis, place, alone.rows, X, Y):
            handles.append(_handle(place, curve, len(panel.sizes) > 1))
        if len(alone.lost):
            draw_lost(axis, place, lines_of_lost, alone.lost, X)
            lines_of_lost += 1
    loss_axis(axis, panel.rows[Y], np.concatenate(around), floor_of(panel), ROOM_FOR_LOST * lines_of_lost)
    patch_axis(axis, [*panel.rows[X], *panel.lost[X]], SCALE_LABELS[X], inverted=True)
    handles += lost_handles(panel.lost)
    if len(handles) > MOST_INSIDE:
        axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, BELOW), fontsize=LAW_SIZE)
    else:
        axis.legend(handles=handles, loc="best", fontsize=LAW_SIZE, handlelength=1.6, handletextpad=0.5)


def _handle(place: int, curve: FitResult | Unfitted, named: bool) -> Line2D:
    """Entry of a legend: mark and line, the model size where there are several, and the law."""
    label = str(curve.group.get("size", "")) if named else ""
    line = ""
    if isinstance(curve, FitResult):
        label = f"{label}  ${curve.latex('p')}$".strip()
        line = LINES[place] if curve.status is FitStatus.CONVERGED else ":"
    return Line2D(
        [],
        [],
        linestyle=line,
        label=label or "records",
        color=COLOURS[place],
        marker=MARKERS[place],
        mec="white",
        mew=0.5,
    )


def _caption(table: pd.DataFrame, panels: list[Panel]) -> list[str]:
    drawn = pd.concat([panel.rows for panel in panels])
    laws = [curve for panel in panels for curve in panel.curves if isinstance(curve, FitResult)]
    unfitted = sum(isinstance(curve, Unfitted) for panel in panels for curve in panel.curves)
    fixed = [panel for panel in panels if panel.published_floor is not None]
    seeds = any(panel.alone(curve).rows[X].duplicated().any() for panel in panels for curve in panel.curves)
    return [
        bars_caption(drawn, Y),
        "faint: single seeds, behind their mean" if seeds else "",
        "bands: 95 % interval of the law" if laws else "",
        "dotted: a law with a parameter that these points do not identify"
        if any(law.status is not FitStatus.CONVERGED for law in laws)
        else "",
        f"{', '.join(panel.letter for panel in fixed)}: floors are those of the publication's own loss axes, "
        "not fitted, and points weigh by their reading error; --law saturating fits them"
        if fixed
        else "",
        f"{unfitted} curves without a law, for want of points" if unfitted else "",
        blank(table, panels),
        f"{count_records(drawn)} records",
    ]
