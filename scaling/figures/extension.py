"""Result against sequence length, by extended tokens and by smaller patches (the paper's Table 5)."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures.extended import Comparison, comparisons
from scaling.figures.layout import ARCHITECTURES, COLUMNS, OTHERS, panel_title, panels
from scaling.figures.material import Material
from scaling.figures.results import model_name, results
from scaling.figures.style import log_axis, styled
from scaling.figures.values import Metric, Value
from scaling.figures.words import add_caption

PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.4}  # behind words, over lines
SMALL: dict[str, Any] = {"fontsize": 6.5, "textcoords": "offset points", "ha": "right", "bbox": PAPER}


def draw(material: Material) -> Figure:
    """Draw one panel per model, with the gap at the longest sequence that both ways reach.

    Raises:
        FigureError: if there is no design with extended tokens, with the cells to run.
    """
    metric, compared = comparisons(results(material.table))
    starts = [comparison.start for comparison in compared]
    with styled():
        figure, axes = panels(len(compared))
        for axis, comparison in zip(axes, compared, strict=True):
            start = comparison.start
            axis.set_title(panel_title(start, starts, [f"{model_name(start)}/{start['patch_size']}"]))
            _draw_panel(axis, comparison, metric)
        seeds = any(v.deviation for c in compared for v in (*c.extending.values(), *c.scaling.values()))
        spread = "; bars: ± a standard deviation over seeds" if seeds else ""
        words = "the same lengths from the start's tokens, interpolated, and from smaller patches (p beside the marks)"
        add_caption(figure, [words + spread, *_lost(compared)], min(len(axes), COLUMNS))
    return figure


def _draw_panel(axis: Axes, comparison: Comparison, metric: Metric) -> None:
    start = comparison.start
    colour = ARCHITECTURES.get(start["architecture"], OTHERS)
    scaling, extending = _points(comparison.scaling), _points(comparison.extending)
    ways = ((scaling, "smaller patches", "o", "-", colour), (extending, "extended tokens", "s", (0, (4, 1.5)), "white"))
    for points, label, mark, dashes, fill in ways:
        lengths, values = list(points), [value.number for value in points.values()]
        errors = [math.nan if value.deviation is None else value.deviation for value in points.values()]
        axis.errorbar(
            lengths, values, yerr=errors if np.isfinite(errors).any() else None, color=colour, marker=mark,
            linestyle=dashes, markerfacecolor=fill, markeredgecolor=colour, capsize=2, label=label,
        )  # fmt: skip
    beside, side = ((-4, 2), "bottom") if metric.higher_is_better else ((-4, -2), "top")
    for length, value in scaling.items():
        patch = start["input_size"] / length**0.5
        axis.annotate(f"p={patch:g}", (length, value.number), beside, va=side, **SMALL)
    both = [length for length in scaling if length in extending and length > start["sequence_length"]]
    if both:
        _draw_gap(axis, both[-1], scaling[both[-1]], extending[both[-1]], metric)
    axis.set(xscale="log", xlabel="Sequence length (patch tokens)", ylabel=metric.title)
    axis.margins(x=0.2, y=0.14)
    log_axis(axis.xaxis, sorted({*scaling, *extending}))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(loc="upper left" if metric.higher_is_better else "lower left")


def _lost(compared: list[Comparison]) -> list[str]:
    """What has a status in place of a result."""
    ways = [(c.start, way) for c in compared for way in (c.extending, c.scaling)]
    lost = [(start, length, value) for start, way in ways for length, value in way.items() if not value.known]
    return [f"{model_name(start)} with {length:,} tokens: {value.note}" for start, length, value in lost]


def _points(values: dict[int, Value]) -> dict[int, Value]:
    return {length: value for length, value in values.items() if value.known}


def _draw_gap(axis: Axes, length: int, scaling: Value, extending: Value, metric: Metric) -> None:
    """A double arrow between the two ways, with their difference, to the digits that both are known to."""
    upper, lower = scaling.number, extending.number
    arrow = {"arrowstyle": "<->", "color": "0.3", "linewidth": 0.8, "shrinkA": 4, "shrinkB": 4}
    axis.annotate("", (length, upper), (length, lower), arrowprops=arrow)
    words = f"{upper - lower:+.{min(scaling.decimals, extending.decimals)}f}" + (" points" if metric.percent else "")
    words = words.replace("-", "−")
    axis.annotate(words, (length, (upper + lower) / 2), (-4, 0), va="center", **SMALL)
