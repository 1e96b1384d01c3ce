"""The path of the best designs as a figure: patch, model, input and sequence over compute, with their power laws."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.growth import SCALE_NAMES, Growth
from scaling.design import Design
from scaling.figures import check_file, write_figure
from scaling.figures.plans import INK, LINE, cost_axis, cost_label, mark_of
from scaling.figures.style import LAW_SIZE, PANEL_WIDTH, log_axis, nice_log_ticks, styled
from scaling.figures.words import add_caption, written

if TYPE_CHECKING:
    from scaling.decisions.planning.path import OptimalPath

WIDE = 1.5  # panels
HEIGHT = 1.45  # inches of a panel
AXES = {
    "patch_size": ("Best patch size\n(pixels)", "p"),
    "parameters": ("Best model size\n(parameters)", "N"),
    "input_size": ("Best input size\n(pixels)", "R"),
    "sequence_length": ("Best sequence\nlength (tokens)", "L"),
}


def write_path_figure(path: "OptimalPath", file: Path) -> None:
    """Draw a path to a file in the format of its suffix: .pdf, .png or .svg.

    Raises:
        UsageError: for another suffix.
        OutputError: if the file cannot be written.
    """
    check_file(file)  # before anything is drawn
    write_figure(draw_path(path), file)


def draw_path(path: "OptimalPath") -> Figure:
    """Draw one panel for each scale that the designs differ in, over the same compute."""
    shown = [name for name in AXES if _varies(path, name)] or ["patch_size"]
    with styled():
        figure = Figure(figsize=(WIDE * PANEL_WIDTH, HEIGHT * len(shown) + 0.9), layout="constrained")
        axes = list(figure.subplots(len(shown), sharex=True, squeeze=False).flat)
        for axis, name in zip(axes, shown, strict=True):
            _draw_scale(axis, path, name)
        if path.budget is not None and path.points[0].budget <= path.budget <= path.points[-1].budget:
            for axis in axes:
                axis.axvline(path.budget, label=f"budget: {Budget(path.budget, path.cost_unit)}", **LINE)
        axes[-1].set(xscale="log", xlabel=cost_label(path.cost_unit))
        cost_axis(axes[-1], path.cost_unit)
        handles = {
            label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
        add_caption(figure, _caption(path), WIDE)
    return figure


def _varies(path: "OptimalPath", name: str) -> bool:
    ranges = [point.scales[name] for point in path.points]
    return len({value for each in ranges for value in (each.low, each.high)}) > 1


def _draw_scale(axis: Axes, path: "OptimalPath", name: str) -> None:
    budgets = np.array([point.budget for point in path.points])
    own, low, high = np.array(
        [[getattr(point.scales[name], end) for end in ("estimate", "low", "high")] for point in path.points]
    ).T
    axis.fill_between(budgets, low, high, color=INK, alpha=0.13, lw=0, step="post", label="95 % of the draws' best")
    architectures = [Design.parse(point.design).architecture for point in path.points]
    known = sorted(set(architectures))
    for each in known:
        mine = np.array([architecture == each for architecture in architectures])
        axis.plot(
            budgets[mine],
            own[mine],
            linestyle="",
            markersize=3.6,
            markeredgewidth=0,
            label=f"expected best, {written(each)}",
            **mark_of(each),
        )
    growth = path.growth.get(name)
    if growth is not None:
        ends = np.array(growth.budgets)
        axis.plot(
            ends, growth.at(ends), color=INK, linewidth=1.2, linestyle=(0, (6, 1.5)), label="power law of the best"
        )
    label, symbol = AXES[name]
    axis.set(xscale="log", yscale="log", ylabel=label)
    axis.margins(x=0.03, y=0.12)
    if growth is not None:
        axis.set_title(law_words(symbol, growth), loc="right", fontsize=LAW_SIZE, pad=3)
    else:
        axis.set_title(f"no power law: {path.without_growth[name]}", loc="right", fontsize=6.5, pad=3)
    log_axis(axis.yaxis, nice_log_ticks(*axis.get_ylim()))


def law_words(symbol: str, growth: Growth) -> str:
    """Such as 'p ∝ C^-0.28  [-0.44, -0.12]', for a figure."""
    exponent = growth.exponent
    return (
        rf"${symbol}^* \propto C^{{{_signed(exponent.estimate)}}}$, "
        rf"95 %: {_signed(exponent.low)} to {_signed(exponent.high)}"
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _caption(path: "OptimalPath") -> list[str]:
    others = [SCALE_NAMES[name] for name in AXES if not _varies(path, name)]
    return [
        f"best of {path.designs:,} designs: {path.searched}",
        f"band: {path.draws:,} draws of the law, each with its own best designs",
        "dashed: median of the draws' power laws, over budgets at which two scales are off their bounds"
        if path.growth
        else "",
        *path.notes,
        f"the same everywhere: {' and '.join(others)}" if others else "",
    ]
