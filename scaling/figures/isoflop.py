"""IsoFLOP profiles: the result of every model size at the patch size with which it spends the same training FLOPs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

from scaling.figures.grids import grids_of, shown_by
from scaling.figures.layout import COLUMNS, panel_title, panels
from scaling.figures.material import FigureError, Material
from scaling.figures.results import Result, results
from scaling.figures.style import MARKERS, PANEL_HEIGHT, log_axis, nice_log_ticks, power_of_ten, styled
from scaling.figures.values import Metric
from scaling.figures.words import add_caption

MOST_BUDGETS = 6
LEGEND_HEIGHT = 0.5  # inches
NAME_HEIGHT = 0.05  # of a curve's name, as a share of the panel
PANEL_POINTS = 0.8 * 72 * PANEL_HEIGHT  # what axes take of a panel, about
SHADES = colormaps["cividis"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Designs of one model size by training FLOPs: patch sizes and results between the records, none beyond them."""

    size: str
    flops: tuple[float, ...]
    patches: tuple[float, ...]
    values: tuple[float, ...]

    def reaches(self, budget: float) -> bool:
        """Whether the budget is within the records."""
        return self.flops[0] <= budget <= self.flops[-1]

    def at(self, budget: float) -> tuple[float, float]:
        """Patch size and result at a budget, by monotone cubics in the logarithm of the FLOPs."""
        x, spot = np.log(self.flops), np.log(budget)
        patch = float(np.exp(PchipInterpolator(x, np.log(self.patches))(spot)))
        return patch, float(PchipInterpolator(x, self.values)(spot))


def draw(material: Material) -> Figure:
    """Draw one panel per architecture and input size; the best of each budget is ringed.

    Raises:
        FigureError: if no two model sizes of an architecture and input size reach the same budget.
    """
    metric, shown, _ = shown_by(results(material.table))
    curves_by_grid = [(grid, curves_of(grid, metric)) for grid in grids_of(shown)]
    drawn = [(grid, curves, budgets_of(curves)) for grid, curves in curves_by_grid]
    drawn = [panel for panel in drawn if panel[2]]
    if not drawn:
        raise FigureError(
            "no two model sizes spend the same training FLOPs per image anywhere between their records\n"
            "run larger patches of the larger one, or smaller ones of the smaller: scaling run-grid STUDY"
        )
    with styled():
        figure, axes = panels(len(drawn), PANEL_HEIGHT + LEGEND_HEIGHT)
        for axis, (found, curves, budgets) in zip(axes, drawn, strict=True):
            axis.set_title(panel_title(found[0], shown))
            _draw_panel(axis, curves, budgets, metric)
        add_caption(figure, [_caption([result for found, _, _ in drawn for result in found])], min(len(axes), COLUMNS))
    return figure


def curves_of(found: Sequence[Result], metric: Metric) -> list[Curve]:
    """A curve for each model size with results at two training costs or more."""
    curves = []
    for size in dict.fromkeys(result["size"] for result in found):
        of_size = [(_flops(result), result) for result in found if result["size"] == size]
        known = [(spent, result) for spent, result in of_size if spent and result.value(metric).known]
        points = sorted((spent, float(result["patch_size"]), result.value(metric).number) for spent, result in known)
        if len({spent for spent, _, _ in points}) > 1:
            curves.append(Curve(str(size), *zip(*points, strict=True)))
    return curves


def budgets_of(curves: Sequence[Curve]) -> list[float]:
    """Round budgets that two model sizes or more reach, from the lowest to the highest."""
    ends = sorted({end for curve in curves for end in (curve.flops[0], curve.flops[-1])})
    reached = [end for end in ends if sum(curve.reaches(end) for curve in curves) > 1]
    if len(reached) < 2:
        return []
    budgets = nice_log_ticks(reached[0], reached[-1])
    return [budget for budget in budgets[-MOST_BUDGETS:] if sum(curve.reaches(budget) for curve in curves) > 1]


def _draw_panel(axis: Axes, curves: Sequence[Curve], budgets: Sequence[float], metric: Metric) -> None:
    for place, curve in enumerate(curves):
        axis.plot(
            curve.patches,
            curve.values,
            color="0.75",
            linewidth=0.8,
            marker=MARKERS[place % len(MARKERS)],
            markersize=3,
            zorder=1,
        )
    for place, budget in enumerate(budgets):
        colour = SHADES(0.85 * (1 - place / max(1, len(budgets) - 1)))
        reached = [(index, *curve.at(budget)) for index, curve in enumerate(curves) if curve.reaches(budget)]
        axis.plot([x for _, x, _ in reached], [y for _, _, y in reached], color=colour, label=power_of_ten(budget))
        for index, x, y in reached:
            axis.plot(
                x, y, marker=MARKERS[index % len(MARKERS)], color=colour, markeredgecolor="white", markeredgewidth=0.4
            )
        best = (max if metric.higher_is_better else min)(reached, key=lambda point: point[2])
        axis.plot(*best[1:], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=colour)
    axis.set(xscale="log", xlabel="Patch size (pixels)", ylabel=metric.title)
    axis.margins(x=0.14, y=0.06)
    _name_ends(axis, curves)
    axis.invert_xaxis()
    log_axis(axis.xaxis, sorted({patch for curve in curves for patch in curve.patches}))
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19), "ncols": 3}  # where no curve is hidden
    axis.legend(title="Training FLOPs per image", title_fontsize=7, **below)


def _name_ends(axis: Axes, curves: Sequence[Curve]) -> None:
    """Write each model size beside the end of its curve, above that of a curve that ends just below."""
    low, high = axis.get_ylim()
    written: dict[float, float] = {}
    for curve in sorted(curves, key=lambda curve: curve.values[-1]):
        patch, end = curve.patches[-1], curve.values[-1]
        height = max(end, written.get(patch, -math.inf) + NAME_HEIGHT * (high - low))
        written[patch] = height
        up = PANEL_POINTS * (height - end) / (high - low)
        where: dict[str, Any] = {"xytext": (4, up), "textcoords": "offset points", "va": "center"}
        axis.annotate(curve.size, (patch, end), fontsize=6.5, color="0.4", **where)


def _flops(result: Result) -> float | None:
    return result.mean("training_flops_per_image") or result.mean("estimated_training_flops_per_image")


def _caption(found: Sequence[Result]) -> str:
    counted = all(result.mean("training_flops_per_image") for result in found)
    return (
        f"training FLOPs per image {'counted on the models' if counted else 'by the closed forms'}; "
        "grey: records of each size; coloured: between records, by monotone cubics in log FLOPs, never beyond them; "
        "ring: best of a budget, which may lie outside where it ends a line"
    )
