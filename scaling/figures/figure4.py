"""Figure 4: input-size scaling at fixed sequence length, with the share of parameters in the patch embedding."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.cost import Execution, Head, cost_of, recorded_head
from scaling.decisions import CompareError, Outcome, find_outcome
from scaling.design import Design
from scaling.errors import UsageError
from scaling.figures.material import FigureError, Material
from scaling.figures.paths import value_label
from scaling.figures.results import TOLD_APART
from scaling.figures.style import COLOURS, LINES, MARKERS, PANEL_HEIGHT, PANEL_WIDTH, log_axis, nice_log_ticks, styled
from scaling.figures.words import add_caption
from scaling.records import is_published

FURTHER = 4  # times the largest input, up to which the share is drawn
MOST_PANELS = 4
NEEDED = ("design", "architecture", "size", "input_size", "sequence_length")
KEYS = ("architecture", "size", "head", *(column for column in TOLD_APART if column != "head"))
Key = tuple[str, ...]  # values of KEYS, '' where there is none


@dataclass(frozen=True, slots=True)
class Line:
    """Designs of one model and sequence length at several input sizes."""

    length: int
    inputs: list[int]
    means: list[float]
    seeds: list[np.ndarray]
    first: Design
    head: Head


def draw(material: Material) -> Figure:
    """Draw results against input size, one line per sequence length, and below them the patch embedding's share.

    Raises:
        FigureError: if no two designs differ in input size at the same sequence length.
    """
    try:
        outcome = find_outcome(material.table, None)
    except CompareError as error:
        raise FigureError(str(error)) from None
    missing = [name for name in NEEDED if name not in material.table]
    if missing:
        raise FigureError(f"no column '{missing[0]}' in the records; only designs have a sequence length")
    panels = _panels(material.table, outcome)
    if not panels:
        raise FigureError(
            "no model has two input sizes at the same sequence length (input and patch grown together); "
            "run some: give grid.designs such as deit-micro/4@32 and deit-micro/8@64"
        )
    most = max(map(len, panels.values()))
    shown = dict([item for item in panels.items() if len(item[1]) > 1 or most == 1][:MOST_PANELS])
    lengths = sorted({line.length for lines in shown.values() for line in lines})
    with styled():
        width = PANEL_WIDTH if len(shown) < 3 else 0.8 * PANEL_WIDTH
        figure = Figure(figsize=(width * len(shown), 1.75 * PANEL_HEIGHT), layout="constrained")
        axes = figure.subplots(2, len(shown), squeeze=False, sharex="col", height_ratios=(1.25, 1))
        for column, (title, lines) in enumerate(zip(_titles(list(shown)), shown.values(), strict=True)):
            _draw_results(axes[0][column], lines, outcome, lengths)
            _draw_share(axes[1][column], lines, lengths)
            axes[0][column].set_title(title)
            if column == 0:
                axes[0][0].set_ylabel(value_label(outcome))
                axes[1][0].set_ylabel("Share of parameters in\nthe patch embedding (%)")
        add_caption(figure, _caption(material.table, shown, len(panels) - len(shown)), len(shown))
    return figure


def _panels(table: pd.DataFrame, outcome: Outcome) -> dict[Key, list[Line]]:
    """Models with lines of two inputs or more, those with most points first."""
    if not {"architecture", "size", "design", "input_size"} <= set(table):
        return {}
    used = table[
        table[outcome.column].notna() & table[["architecture", "design", "sequence_length"]].notna().all(axis=1)
    ]
    if "extended_length" in used:
        used = used[used["extended_length"].isna()]
    if "status" in used:
        used = used[used["status"] == "done"]
    known = used.reindex(columns=list(KEYS)).astype(object)
    known = known.where(known.notna(), "").astype(str)
    panels: dict[Key, list[Line]] = {}
    for key, rows in used.groupby([known[name] for name in KEYS], sort=False):
        lines = [_line(each, outcome) for _, each in rows.groupby("sequence_length")]
        lines = [line for line in lines if len(line.inputs) > 1]
        if lines:
            panels[tuple(map(str, key))] = lines
    return dict(sorted(panels.items(), key=lambda item: -sum(len(line.inputs) for line in item[1])))


def _titles(keys: list[Key]) -> list[str]:
    """Model and head, and on a second line what else tells panels apart."""
    apart = [place for place in range(3, len(KEYS)) if len({key[place] for key in keys}) > 1]
    names = [" ".join(filter(None, (f"{architecture}-{size}", head))) for architecture, size, head, *_ in keys]
    others = [", ".join(key[place] for place in apart if key[place]) for key in keys]
    return [f"{name}\n{other}" if other else name for name, other in zip(names, others, strict=True)]


def _line(rows: pd.DataFrame, outcome: Outcome) -> Line:
    inputs = sorted(set(rows["input_size"].astype(int)))
    seeds = [rows.loc[rows["input_size"] == size, outcome.column].to_numpy(float) for size in inputs]
    (smallest,) = rows.sort_values("input_size").head(1).to_dict("records")
    first = Design.parse(str(smallest["design"]))
    means = [float(each.mean()) for each in seeds]
    return Line(first.sequence_length, inputs, means, seeds, first, recorded_head(smallest))


def _look(length: int, lengths: list[int]) -> tuple[str, str, Any]:
    """Colour, mark and dashes of a sequence length, the same in every panel."""
    place = lengths.index(length) % len(COLOURS)
    return COLOURS[place], MARKERS[place], LINES[place]


def _draw_results(axis: Axes, lines: list[Line], outcome: Outcome, lengths: list[int]) -> None:
    factor = 1 if outcome.is_loss else 100
    for line in lines:
        colour, mark, look = _look(line.length, lengths)
        for x, values in zip(line.inputs, line.seeds, strict=True):
            if len(values) > 1:
                axis.plot([x] * len(values), factor * values, "o", color=colour, alpha=0.3, markersize=3)
        means = factor * np.array(line.means)
        axis.plot(line.inputs, means, mark, color=colour, linestyle=look, label=f"L = {line.length:,}")
    axis.set_xscale("log")
    axis.margins(y=0.12)
    axis.legend(loc="best", ncols=1 + (len(lines) > 4))


def _draw_share(axis: Axes, lines: list[Line], lengths: list[int]) -> None:
    ticks = sorted({size for line in lines for size in line.inputs})
    for line in lines:
        colour, mark, look = _look(line.length, lengths)
        inputs, shares = _shares(line, FURTHER * max(line.inputs))
        axis.plot(inputs, shares, color=colour, linestyle=look, linewidth=1)
        known = [share for size, share in zip(inputs, shares, strict=True) if size in line.inputs]
        axis.plot(line.inputs, known, mark, color=colour)
        ticks += [inputs[-1]]
    axis.set(xscale="log", yscale="log", xlabel="Input size (pixels per side)")
    log_axis(axis.yaxis, nice_log_ticks(*axis.get_ylim()))
    log_axis(axis.xaxis, _spread_out(sorted(set(map(float, ticks)))))


def _spread_out(ticks: list[float]) -> list[float]:
    """Ticks that are a factor of 1.35 apart or more, so that their labels do not touch."""
    kept = ticks[:1]
    for tick in ticks[1:]:
        if tick >= 1.35 * kept[-1]:
            kept.append(tick)
    return kept


def _shares(line: Line, largest: int) -> tuple[list[int], list[float]]:
    """Percentage of parameters in the patch embedding, as input and patch grow from a line's first design."""
    first = line.first
    side = first.input_sides[0] // first.patch_size
    patches = range(first.patch_size, largest // side + 1)
    inputs, shares = [], []
    for patch in patches:
        design = replace(first, patch_size=patch, input_size=side * patch)
        try:
            parameters = cost_of(design, line.head, Execution()).parameters
        except UsageError:  # beyond what a design can be
            break
        inputs.append(side * patch)
        shares.append(100 * parameters.terms()["patch_embedding"] / parameters.total)
    return inputs, shares


def _caption(table: pd.DataFrame, shown: dict[Key, list[Line]], left_out: int) -> list[str]:
    classes = sorted({line.head.classes for lines in shown.values() for line in lines})
    return [
        "L: sequence length, the same along a line; shares by the estimator, with "
        f"{' or '.join(f'{count:,}' for count in classes)} classes",
        "the curves of the paper's Figure 4 are not available as numbers" if is_published(table) else "",
        f"{left_out} more models left out" if left_out else "",
    ]
