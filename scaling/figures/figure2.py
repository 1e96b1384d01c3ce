"""Figure 2: the decoder's impact on segmentation: two heads against patch size, and the gap between them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import special

from scaling.figures.marks import bars_caption, draw_points, half_widths, mark
from scaling.figures.material import FigureError, Material
from scaling.figures.scales import loss_axis, patch_axis
from scaling.figures.sizes import MIDDLE, size_places
from scaling.figures.style import COLOURS, MARKERS, PANEL_WIDTH, styled
from scaling.figures.words import SCALE_LABELS, add_caption, loss_label, titles, words, written
from scaling.laws import default_groups, usable

X = "patch_size"
DECODER, LINEAR = "upernet", "linear"
PERCENT = 100.0
FACTORS = {"mean_iou": PERCENT, "test_loss": 1.0}
NAMED = {"mean_iou": "mean IoU", "test_loss": "test loss"}
HEIGHT = 4.5
GREY = "0.4"
LEGEND_COLUMNS = 4  # over a column of panels
FAR = 0.06  # of a gap's marks from one another, so that sizes at one patch size do not cover each other


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of one setting: the heads above, their gap below."""

    title: str
    metric: str
    rows: pd.DataFrame
    places: Mapping[str, int]
    """In the palette, of each model size of the figure."""

    def by_size(self) -> Iterator[tuple[str, int, pd.DataFrame]]:
        """Model sizes from small to large, places in the palette and rows; '' where sizes are not told."""
        if not self.places:
            yield "", MIDDLE, self.rows
        for size, place in self.places.items():
            rows = self.rows[self.rows["size"] == size]
            if len(rows):
                yield size, place, rows


@dataclass(frozen=True, slots=True)
class Gap:
    """UperNet less the linear head, with an interval where one is known."""

    patch_size: float
    value: float
    half_width: float
    kind: str
    """What the interval is; empty where there is none."""


def draw(material: Material) -> Figure:
    """Draw mean IoU and test loss of both heads, and their gap.

    Raises:
        FigureError: if a head is missing, or neither metric is known.
    """
    columns = _columns(material.table)
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * len(columns), HEIGHT), layout="constrained")
        axes = figure.subplots(2, len(columns), squeeze=False, height_ratios=(1.55, 1))
        gaps = [_draw_column(axes[0, place], axes[1, place], column) for place, column in enumerate(columns)]
        handles = _handles(columns)
        figure.legend(handles=handles, loc="outside upper center", ncols=LEGEND_COLUMNS * len(columns))
        add_caption(figure, _caption(columns, gaps), len(columns))
    return figure


def _columns(table: pd.DataFrame) -> list[Column]:
    _check_heads(table)
    segmented = table[table["head"].isin((DECODER, LINEAR))].reset_index(drop=True)
    keys = [key for key in default_groups(segmented, X) if key not in ("size", "head")]
    groups = list(segmented.groupby(keys, dropna=False, sort=False)) if keys else [((), segmented)]
    names = titles(words(dict(zip(keys, key, strict=True))) for key, _ in groups)
    found, places = [], size_places(segmented)
    for title, (_, rows) in zip(names, groups, strict=True):
        for metric, factor in FACTORS.items():
            known = usable(rows, X, metric)[0] if metric in rows else rows[:0]
            if len(known):
                found.append(Column(title, metric, _scaled(known, metric, factor), places))
    if not found:
        raise FigureError("no finished record with a head has a mean IoU or a test loss; nothing to draw")
    return found


def _scaled(rows: pd.DataFrame, metric: str, factor: float) -> pd.DataFrame:
    """Rows with a metric and its reading error in the unit of the axis."""
    columns = [name for name in (metric, "metric_reading_error") if name in rows]
    return rows.assign(**{name: factor * rows[name] for name in columns})


def _check_heads(table: pd.DataFrame) -> None:
    heads = set(table["head"].dropna()) if "head" in table else set()
    missing = [head for head in (DECODER, LINEAR) if head not in heads]
    if not missing:
        return
    if not heads:
        raise FigureError(f"figure 2 compares the heads {DECODER} and {LINEAR} of segmentation; no record has a head")
    cells = " and ".join(f"'*+{head}'" for head in missing)
    text = f"figure 2 compares the heads {DECODER} and {LINEAR}; no record has {' or '.join(missing)}. "
    text += f"The cells that fill it: scaling run-grid STUDY --only {cells}"
    raise FigureError(text)


def _draw_column(above: Axes, below: Axes, column: Column) -> list[Gap]:
    rows, metric = column.rows, column.metric
    gaps, sizes = [], list(column.by_size())
    for place, (_, index, group) in enumerate(sizes):
        for head in (DECODER, LINEAR):
            of_head = group[group["head"].eq(head)]
            if draw_points(above, index, of_head, X, metric, hollow=head == DECODER):
                _join(above, index, of_head, metric, head)
        found = _gaps(group, metric)
        _draw_gaps(below, index, found, 1 - FAR * (place - (len(sizes) - 1) / 2))
        gaps += found
    above.set(title=column.title, ylabel="Mean IoU (%)" if metric == "mean_iou" else loss_label(rows))
    above.margins(y=0.1)
    if metric == "test_loss":
        loss_axis(above, rows[metric], (), None)
    below.axhline(0, color="0.4", linewidth=0.8)
    below.set_ylabel(f"{written(DECODER)} less linear\n({'points' if metric == 'mean_iou' else 'nats per pixel'})")
    below.margins(y=0.25)
    for axis in (above, below):
        patch_axis(axis, rows[X], SCALE_LABELS[X] if axis is below else "", inverted=True)
    return gaps


def _join(axis: Axes, index: int, rows: pd.DataFrame, metric: str, head: str) -> None:
    means = rows.groupby(X)[metric].mean()
    axis.plot(means.index, means, color=COLOURS[index], linestyle=_line(head), linewidth=1, zorder=1.9)


def _line(head: str) -> Literal[":", "-"]:
    return ":" if head == DECODER else "-"


def _handles(columns: list[Column]) -> list[Line2D]:
    """Entries of the legend: what tells heads apart, then what tells sizes apart."""
    sizes = {size: place for column in columns for size, place, _ in column.by_size() if size}
    heads = [
        Line2D([], [], color=GREY, linestyle=_line(head), linewidth=1, marker="o", mfc=face, label=written(head))
        for head, face in ((DECODER, "white"), (LINEAR, GREY))
    ]
    return heads + [
        Line2D([], [], color=COLOURS[place], linestyle="", marker=MARKERS[place], label=size)
        for size, place in sorted(sizes.items(), key=lambda each: each[1])
    ]


def _gaps(rows: pd.DataFrame, metric: str) -> list[Gap]:
    """At each patch size where both heads have a value."""
    found = []
    for patch, group in rows.groupby(X):
        decoder, linear = (group[group["head"].eq(head)] for head in (DECODER, LINEAR))
        if len(decoder) and len(linear):
            value = float(decoder[metric].mean() - linear[metric].mean())
            found.append(Gap(float(str(patch)), value, *_interval(decoder, linear, metric)))
    return found


def _interval(decoder: pd.DataFrame, linear: pd.DataFrame, metric: str) -> tuple[float, str]:
    """Half-width of a gap's interval and what it is: of the seeds where both heads have several."""
    if min(len(decoder), len(linear)) > 1:
        pairs = _pairs(decoder, linear, metric)
        if pairs is not None:
            return _half_width(pairs), "95 % interval of the gap over seeds, paired by seed"
        return _welch(decoder[metric], linear[metric]), "95 % interval of the gap over seeds (Welch)"
    widths = [float(half_widths(rows, metric).mean()) for rows in (decoder, linear)]
    if not np.all(np.isfinite(widths)):
        return float("nan"), ""
    if metric == "mean_iou":
        return sum(widths), "reading errors of both, added"
    return math.hypot(*widths), "test-set errors of both, in squares"


def _pairs(decoder: pd.DataFrame, linear: pd.DataFrame, metric: str) -> pd.Series | None:
    """Gaps of each seed, which gives both heads the same images; None unless both have the same seeds."""
    if "seed" not in decoder:
        return None
    one, other = (rows.dropna(subset="seed").set_index("seed")[metric] for rows in (decoder, linear))
    if not one.index.is_unique or len(one) != len(decoder) or sorted(one.index) != sorted(other.index):
        return None
    return one - other


def _half_width(values: pd.Series) -> float:
    """Half-width of the interval of a mean; NaN where no value differs from another."""
    error = float(values.std()) / math.sqrt(len(values))
    return float(special.stdtrit(len(values) - 1, 0.975)) * error if error else float("nan")


def _welch(one: pd.Series, other: pd.Series) -> float:
    """Half-width of the interval of a difference of means; NaN where no seed differs from another."""
    shares = [float(values.var()) / len(values) for values in (one, other)]
    if sum(shares) == 0:
        return float("nan")
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (one, other), strict=True)
    )
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(sum(shares))


def _draw_gaps(axis: Axes, index: int, gaps: list[Gap], aside: float) -> None:
    if gaps:
        x, values, widths = zip(*((gap.patch_size * aside, gap.value, gap.half_width) for gap in gaps), strict=True)
        mark(axis, index, x, values, widths)


def _caption(columns: list[Column], gaps: list[list[Gap]]) -> list[str]:
    kinds = dict.fromkeys(gap.kind for found in gaps for gap in found if gap.kind)
    blanks = dict.fromkeys(part for column in columns for part in _blank(column))
    bars = dict.fromkeys(f"{NAMED[column.metric]}: {bars_caption(column.rows, column.metric)}" for column in columns)
    return [
        *bars,
        *(f"gap: bars, {kind}" for kind in kinds),
        f"left blank, no value reported: {', '.join(blanks)}" if blanks else "",
    ]


def _blank(column: Column) -> list[str]:
    """Such as 'UperNet at patch 8, 4, 2 (tiny, base)', of the patch sizes that the column shows."""
    patches = sorted(set(column.rows[X]), reverse=True)
    sizes: dict[str, list[str]] = {}
    for size, _, rows in column.by_size():
        for head in (DECODER, LINEAR):
            there = set(rows.loc[rows["head"].eq(head), X])
            missing = [f"{patch:g}" for patch in patches if patch not in there]
            if missing:
                sizes.setdefault(f"{written(head)} at patch {', '.join(missing)}", []).append(size)
    return [f"{missing} ({', '.join(names)})" if any(names) else missing for missing, names in sizes.items()]
