"""Points, laws and lost cells of one curve, the same in every figure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from scaling.figures.style import COLOURS, LINES, MARKERS
from scaling.laws import FitResult, FitStatus

if TYPE_CHECKING:
    import pandas as pd

READING_ERRORS = {"test_loss": "test_loss_reading_error", "mean_iou": "metric_reading_error"}
STANDARD_ERRORS = {"test_loss": "test_loss_standard_error"}
NORMAL = 1.96  # 95 % of a normal distribution
LOST = {"oom": ("x", "out of memory"), "diverged": ("*", "diverged")}
LOST_COLOUR = "0.25"
TOP, STEP = 0.965, 0.06  # places of marks of lost cells, as shares of the axis
CURVE_POINTS = 80


@dataclass(frozen=True, slots=True)
class Means:
    """Means over seeds, one per different x. Shape (N,)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    bars: NDArray[np.float64]
    """Half-widths; NaN where no error is recorded. Seeds share the test set, so theirs are averaged."""


def means(rows: "pd.DataFrame", x: str, y: str) -> Means:
    """Means of y at each x with the half-widths of their bars."""
    found = rows.assign(__bar=half_widths(rows, y)).groupby(x)[[y, "__bar"]].mean()
    return Means(*(each.to_numpy(float) for each in (found.index, found[y], found["__bar"])))


def half_widths(rows: "pd.DataFrame", y: str) -> NDArray[np.float64]:
    """The reading error of each row where it has one, else 1.96 standard errors of its test set, else NaN."""
    found = np.full(len(rows), np.nan)
    for column, factor in ((STANDARD_ERRORS.get(y), NORMAL), (READING_ERRORS.get(y), 1.0)):
        if column in rows:
            given = factor * rows[column].to_numpy(float)
            found = np.where(np.isfinite(given), given, found)
    return found


def bar_ends(rows: "pd.DataFrame", y: str) -> list[NDArray[np.float64]]:
    """Lower and upper ends of the bars of single rows."""
    values, widths = rows[y].to_numpy(float), half_widths(rows, y)
    return [values - widths, values + widths]


def bars_caption(rows: "pd.DataFrame", y: str) -> str:
    """What the bars of these rows are."""
    read, standard = READING_ERRORS.get(y), STANDARD_ERRORS.get(y)
    parts = []
    if read in rows and rows[read].notna().any():
        what = "half a pixel of the published figure" if y == "test_loss" else "half of the last printed digit"
        parts.append(f"reading error, {what}")
    if standard in rows and rows[standard].notna().any():
        parts.append("95 % interval of the test set's sampling error, without the spread of seeds")
    return (
        f"bars, where longer than the mark: {'; or '.join(parts)}"
        if parts
        else "no bars: no error of the points is recorded"
    )


def draw_points(axis: Axes, rank: int, rows: "pd.DataFrame", x: str, y: str, hollow: bool = False) -> Line2D | None:
    """Draw means with their bars, and behind them the seeds where there are several; returns the means."""
    if rows.empty:
        return None
    found = means(rows, x, y)
    if len(rows) > len(found.x):
        axis.plot(
            rows[x], rows[y], linestyle="", marker=MARKERS[rank], color=COLOURS[rank], alpha=0.35, markersize=3, mew=0
        )
    return mark(axis, rank, found.x, found.y, found.bars, hollow)


def mark(axis: Axes, rank: int, x: ArrayLike, y: ArrayLike, bars: ArrayLike, hollow: bool = False) -> Line2D:
    """Draw points with bars, of half-widths that are NaN where there is none."""
    colour = COLOURS[rank]
    drawn = axis.errorbar(
        x,
        y,
        yerr=bars if np.isfinite(bars).any() else None,
        fmt=MARKERS[rank],
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markeredgecolor=colour if hollow else "white",
        markeredgewidth=1.0 if hollow else 0.5,
        elinewidth=0.9,
        capsize=2,
    )
    return drawn.lines[0]


def draw_law(axis: Axes, rank: int, curve: FitResult, new_run: bool = False) -> NDArray[np.float64]:
    """Draw a law with its band over the range of its points; returns what the axis should show.

    Args:
        axis: where.
        rank: of the curve's model size.
        curve: the fit.
        new_run: draw the interval of a new run too, fainter.
    """
    scale = curve.fitted.points.scales[0]
    x = np.geomspace(scale.min(), scale.max(), CURVE_POINTS)
    law, shown = curve.predict(x), []
    for wide in (True, False) if new_run else (False,):
        low, high = curve.band(x, new_run=wide)
        axis.fill_between(x, np.maximum(low, 1e-12), high, color=COLOURS[rank], alpha=0.12 if wide else 0.2, lw=0)
        shown += [low, high]
    identified = curve.status is FitStatus.CONVERGED
    axis.plot(x, law, color=COLOURS[rank], linestyle=LINES[rank] if identified else ":")
    return np.concatenate([law, *shown])


def draw_lost(axis: Axes, rank: int, place: int, lost: "pd.DataFrame", x: str) -> None:
    """Mark cells that ran out of memory or diverged at the upper edge, a line for each curve."""
    for status, (marker, _) in LOST.items():
        at = sorted(set(lost.loc[lost["status"].eq(status), x].astype(float)))
        axis.plot(
            at,
            [TOP - STEP * place] * len(at),
            transform=axis.get_xaxis_transform(),
            linestyle="",
            marker=marker,
            color=COLOURS[rank],
            markersize=5.5,
            gid=status,
        )


def lost_handles(lost: "pd.DataFrame") -> list[Line2D]:
    """Entries of a legend for the cells that are marked."""
    found = [LOST[status] for status in LOST if lost["status"].eq(status).any()] if len(lost) else []
    return [
        Line2D([], [], linestyle="", marker=marker, color=LOST_COLOUR, label=label, markersize=5.5)
        for marker, label in found
    ]
