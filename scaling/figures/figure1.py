"""Figure 1: test loss against patch size, both on log axes, with the fitted law and its band."""

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.design import known_architectures
from scaling.figures.material import FigureError, Material
from scaling.figures.style import (
    COLOURS,
    LINES,
    MARKERS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    log_axis,
    nice_log_ticks,
    styled,
)
from scaling.laws import FitResult, FitStatus, Unfitted, default_groups, fit_groups, usable

X, Y, ERROR = "patch_size", "test_loss", "test_loss_standard_error"
COLUMNS = 3
TITLE_CHARACTERS = 44  # that fit over a panel
SIZES = tuple(dict.fromkeys(size for known in known_architectures().values() for size in known.sizes))
LOSS_LABELS = {"classification": "Test loss (nats)", "segmentation": "Test loss (nats per pixel)"}


def draw(material: Material) -> Figure:
    """Draw one panel per task, architecture, head and input size, with one curve per model size.

    Raises:
        FigureError: if no record has both a patch size and a test loss.
    """
    table, law = material.table, material.law
    used, left_out = usable(table, X, Y) if {X, Y} <= set(table) else (table[:0], ())
    if used.empty:
        raise FigureError("no finished record has both patch_size and test_loss; nothing to draw")
    keys = [key for key in default_groups(table, X) if key != "size"]
    groups = list(used.groupby(keys, dropna=False, sort=False)) if keys else [((), used)]
    panels = list(zip(_titles([_words(keys, key) for key, _ in groups]), (rows for _, rows in groups), strict=True))
    rows, columns = math.ceil(len(panels) / COLUMNS), min(len(panels), COLUMNS)
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows + 0.25), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, (title, panel) in zip(axes.flat, panels, strict=False):
            _draw_panel(axis, title, panel, law)
        for spare in axes.flat[len(panels) :]:
            spare.set_visible(False)
        figure.supxlabel(textwrap.fill(_caption(used, left_out), 62 * columns), fontsize=6.5, color="0.35")
    return figure


def _titles(panels: list[list[str]]) -> list[str]:
    """Such as 'Segmentation, DeiT, 24x24 input, linear head'; all on two lines where one is too long for a panel."""
    titles = [", ".join(words) for words in panels]
    if max(map(len, titles)) <= TITLE_CHARACTERS:
        return titles
    halves = ((words[: len(words) // 2], words[len(words) // 2 :]) for words in panels)
    return [f"{', '.join(first)}\n{', '.join(second)}" for first, second in halves]


def _words(keys: list[str], values: tuple[Any, ...]) -> list[str]:
    words = {"deit": "DeiT", "adventurer": "Adventurer"}
    parts = []
    for key, value in zip(keys, values, strict=True):
        if value != value or value is None:
            continue
        if key == "input_size":
            parts.append(f"{int(value)}×{int(value)} input")
        elif key == "extended_length":
            parts.append(f"extended to {int(value)} tokens")
        elif key == "head":
            parts.append(f"{value} head")
        else:
            parts.append(words.get(str(value), str(value).replace("-", " ").capitalize()))
    return parts


def _draw_panel(axis: Axes, title: str, panel: pd.DataFrame, law: str) -> None:
    for curve in sorted(fit_groups(panel, law, X, Y), key=_rank):
        rows = panel[panel["size"] == curve.group["size"]] if "size" in curve.group else panel
        _draw_curve(axis, _rank(curve), curve, rows)
    axis.set(xscale="log", yscale="log", title=title, xlabel="Patch size (pixels)")
    task = panel["task"].iloc[0] if "task" in panel else ""
    axis.set_ylabel(LOSS_LABELS.get(task, "Test loss"))
    axis.margins(x=0.07, y=0.08)
    axis.invert_xaxis()
    log_axis(axis.xaxis, sorted(set(panel[X].astype(float))))
    log_axis(axis.yaxis, nice_log_ticks(*sorted(axis.get_ylim())))
    axis.legend(loc="best")


def _rank(curve: FitResult | Unfitted) -> int:
    """Place of a curve's size from small to large; a size of its own gets the middle of the palette."""
    size = curve.group.get("size")
    return SIZES.index(size) if size in SIZES else len(SIZES) // 2


def _draw_curve(axis: Axes, index: int, curve: FitResult | Unfitted, rows: pd.DataFrame) -> None:
    colour, label = COLOURS[index], str(curve.group.get("size", ""))
    errors = 1.96 * rows[ERROR].to_numpy(float) if ERROR in rows else None
    if isinstance(curve, FitResult):
        x = np.geomspace(rows[X].min(), rows[X].max(), 60)
        low, high = curve.band(x)
        solid = curve.status is FitStatus.CONVERGED
        axis.fill_between(x, np.maximum(low, 1e-12), high, color=colour, alpha=0.18, linewidth=0)
        axis.plot(x, curve.predict(x), color=colour, linestyle=LINES[index] if solid else ":")
        label += f"  ${curve.latex('p')}$"
    axis.errorbar(
        rows[X],
        rows[Y],
        yerr=errors,
        fmt=MARKERS[index],
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=0.9,
        capsize=2,
        label=label.strip() or "records",
    )


def _caption(used: pd.DataFrame, left_out: tuple[str, ...]) -> str:
    bars = "bars: 95 % interval of the test set's sampling error; " if ERROR in used else ""
    dropped = f"; {len(left_out)} left out" if left_out else ""
    return f"{bars}bands: 95 % interval of the law; {len(used)} records{dropped}"
