"""Laws and what they miss: each curve with the bands of the law and of a new run, and its residuals beneath."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures.marks import bar_ends, bars_caption, draw_law, draw_points, half_widths, mark
from scaling.figures.material import FigureError, Material
from scaling.figures.panels import Panel, Y, panels_of
from scaling.figures.scales import floor_of, loss_axis, patch_axis
from scaling.figures.style import LAW_SIZE, PANEL_WIDTH, styled
from scaling.figures.words import SCALE_LABELS, add_caption, loss_label
from scaling.laws import FitResult, default_x

MOST, COLUMNS = 9, 3
HEIGHT = 3.5  # of a curve's pair of panels
PERCENT = 100.0
LINE_END = "\n"


def draw(material: Material) -> Figure:
    """Draw at most nine curves with a law, each above its residuals.

    Raises:
        FigureError: if no curve has a law.
    """
    x = default_x(material.table)
    panels = panels_of(material, x)
    found = [
        (panel.alone(curve), curve, _title(panel, curve))
        for panel in panels
        for curve in panel.curves
        if isinstance(curve, FitResult)
    ]
    if not found:
        raise FigureError(f"no curve of {Y} against {x} has enough points for a law; see scaling fit")
    shown = found[:MOST]
    rows, columns = math.ceil(len(shown) / COLUMNS), min(len(shown), COLUMNS)
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * columns, HEIGHT * rows + 0.3), layout="constrained")
        axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(2, 1) * rows)
        for place, (panel, curve, title) in enumerate(shown):
            above, below = (axes[2 * (place // COLUMNS) + part, place % COLUMNS] for part in (0, 1))
            _draw_law(above, panel, curve, x)
            above.set_title(title)
            _draw_residuals(below, panel, curve, x)
        for spare in range(len(shown), rows * columns):
            for part in (0, 1):
                axes[2 * (spare // COLUMNS) + part, spare % COLUMNS].set_visible(False)
        add_caption(figure, _caption(panels, found, len(shown)), columns)
    return figure


def _draw_law(axis: Axes, panel: Panel, curve: FitResult, x: str) -> None:
    place, rows = panel.place(curve), panel.rows
    if panel.letter:
        axis.set_title(panel.letter, loc="left", fontweight="bold")
    axis.set_ylabel(loss_label(panel.rows))
    bands = draw_law(axis, place, curve, new_run=True)
    draw_points(axis, place, rows, x, Y)
    loss_axis(axis, rows[Y], np.concatenate([bands, *bar_ends(rows, Y)]), floor_of(panel))
    patch_axis(axis, rows[x], "", inverted=x == "patch_size")
    axis.text(
        0.97,
        0.95,
        f"${curve.latex('p' if x == 'patch_size' else 'x')}$",
        transform=axis.transAxes,
        ha="right",
        va="top",
        fontsize=LAW_SIZE,
    )


def _title(panel: Panel, curve: FitResult) -> str:
    """The panel's, with the model size where the panel has several."""
    if len(panel.sizes) < 2:
        return panel.title
    return f"{panel.title}{', ' if LINE_END in panel.title else LINE_END}{curve.group['size']}"


def _draw_residuals(axis: Axes, panel: Panel, curve: FitResult, x: str) -> None:
    place, rows = panel.place(curve), panel.rows
    law = curve.predict(rows[x].to_numpy(float))
    axis.axhline(0, color="0.4", linewidth=0.8)
    mark(axis, place, rows[x], PERCENT * (rows[Y] / law - 1), PERCENT * half_widths(rows, Y) / law)
    furthest = float(np.max(np.abs(axis.get_ylim())))
    axis.set_ylim(-1.15 * furthest, 1.15 * furthest)
    axis.set_ylabel("Point less\nlaw (%)")
    patch_axis(axis, rows[x], SCALE_LABELS[x], inverted=x == "patch_size")


def _caption(panels: list[Panel], found: list[tuple[Panel, FitResult, str]], shown: int) -> list[str]:
    fixed = dict.fromkeys(panel.letter for panel, _, _ in found[:shown] if panel.published_floor is not None)
    left = ", ".join(dict.fromkeys(title.replace(LINE_END, ", ") for _, _, title in found[shown:]))
    without = sum(not isinstance(curve, FitResult) for panel in panels for curve in panel.curves)
    drawn = pd.concat([panel.rows for panel in panels])
    return [
        "dark band: 95 % interval of the law; pale band: of one new run",
        f"beneath: each record less its law, in percent of the law; {bars_caption(drawn, Y)}",
        f"{', '.join(fixed)}: floors are those of the publication's own axes, not fitted" if fixed else "",
        f"not shown, {len(found) - shown} more curves: {left}" if left else "",
        f"{without} curves have no law" if without else "",
    ]
