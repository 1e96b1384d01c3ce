"""Accuracy or loss over patch size and model size (the paper's Table 4), one panel per architecture and input size."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scaling.figures.grids import grids_of, shown_by
from scaling.figures.layout import COLUMNS, panel_title, panels
from scaling.figures.material import Material
from scaling.figures.results import results
from scaling.figures.style import styled
from scaling.figures.values import Metric, Value, level
from scaling.figures.words import add_caption

ROW_HEIGHT, MARGIN = 0.36, 1.0  # inches
SMALL, SMALLER = 7, 6  # points
DARK = 0.5  # luminance under which text is white
# Steeper where it is dark, since results crowd together at their best.
BETTER_IS_DARKER = ListedColormap(colormaps["cividis"](0.95 - 0.95 * np.linspace(0, 1, 256) ** 2))


def draw(material: Material) -> Figure:
    """Draw one panel per grid of patch sizes and model sizes; darker is better.

    Raises:
        FigureError: if no architecture and input size has two model sizes and two patch sizes.
    """
    metric, shown, _ = shown_by(results(material.table))
    grids = grids_of(shown)
    values = level([result.value(metric) for grid in grids for result in grid])
    known = [value.number for value in values if value.known]
    colours = BETTER_IS_DARKER if metric.higher_is_better else BETTER_IS_DARKER.reversed()
    shades = ScalarMappable(Normalize(min(known), max(known)), colours)
    rest = iter(values)
    with styled():
        tallest = max(len({result["size"] for result in grid}) for grid in grids)
        figure, axes = panels(len(grids), MARGIN + ROW_HEIGHT * tallest)
        gaps = False
        for axis, grid in zip(axes, grids, strict=True):
            axis.set_title(panel_title(grid[0], shown))
            cells = {(result["size"], result["patch_size"]): next(rest) for result in grid}
            gaps |= _draw_panel(axis, cells, all(result.published for result in grid), shades)
        bar = figure.colorbar(shades, ax=axes, pad=0.01, aspect=18, fraction=0.05)
        bar.set_label(metric.title)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        add_caption(figure, [_caption(values, metric, gaps)], min(len(axes), COLUMNS))
    return figure


def _draw_panel(axis: Axes, cells: dict[tuple[str, int], Value], published: bool, shades: ScalarMappable) -> bool:
    """Draw the cells, and say whether any has no result."""
    sizes = list(dict.fromkeys(size for size, _ in cells))
    patches = sorted({patch for _, patch in cells}, reverse=True)
    absent = Value(note="not\nreported" if published else "not\nrun")
    whole = {(size, patch): cells.get((size, patch), absent) for size in sizes for patch in patches}
    for (size, patch), value in whole.items():
        _draw_cell(axis, patches.index(patch), sizes.index(size), value, shades)
    axis.set(xlim=(-0.5, len(patches) - 0.5), ylim=(-0.5, len(sizes) - 0.5), xlabel="Patch size (pixels)")
    axis.set_xticks(range(len(patches)), [str(patch) for patch in patches])
    axis.set_yticks(range(len(sizes)), [str(size).capitalize() for size in sizes])
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return not all(value.known for value in whole.values())


def _draw_cell(axis: Axes, column: int, row: int, value: Value, shades: ScalarMappable) -> None:
    corner = (column - 0.5, row - 0.5)
    if not value.known:
        axis.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor="0.75", hatch="////", linewidth=0))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axis.text(column, row, value.note, ha="center", va="center", fontsize=SMALLER, color="0.25", bbox=box)
        return
    colour = shades.to_rgba(np.array([value.number]))[0]
    axis.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1))
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > DARK
    ink = "black" if light else "white"
    spread = f"±{value.deviation:.{value.decimals}f}" if value.deviation is not None else ""
    second = "\n".join(filter(None, [spread, value.note]))
    axis.text(column, row, value.digits, ha="center", va="bottom" if second else "center", fontsize=SMALL, color=ink)
    if second:
        axis.text(column, row - 0.06, second, ha="center", va="top", fontsize=SMALLER, color=ink)


def _caption(values: Sequence[Value], metric: Metric, gaps: bool) -> str:
    better = f"darker is better ({'higher' if metric.higher_is_better else 'lower'} {metric.label})"
    spread = "; ±: standard deviation over seeds" if any(value.deviation is not None for value in values) else ""
    spread += ", without it one seed" if spread and any(value.known and value.seeds == 1 for value in values) else ""
    return better + spread + ("; hatched: no result" if gaps else "")
