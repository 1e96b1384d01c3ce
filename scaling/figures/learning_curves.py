"""Learning curves: training loss against images seen, one panel per model, one colour per patch size."""

import math

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from scaling.design import Design
from scaling.figures.material import FigureError, Material
from scaling.figures.style import PANEL_WIDTH, log_axis, nice_log_ticks, styled
from scaling.figures.words import add_caption, loss_label, titles, words
from scaling.records import RecordError, load_learning_curves

COLUMNS, MOST_COLUMNS_OF_LEGEND = 3, 3
HEIGHT = 3.0
WINDOW = 1.2  # how far a window reaches, as a factor of the images seen
LIGHTEST = 0.82  # of the palette, for the largest patch; its end would vanish on paper
LINES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1.5, 1)))
GROUPS = ["architecture", "size", "input_size", "extended_length", "head"]


def draw(material: Material) -> Figure:
    """Draw the curves of every cell that has begun; seeds of a design share their colour and dashes.

    Raises:
        FigureError: if the source is no run directory, or no cell of it has begun.
    """
    curves = _curves(material)
    groups = list(curves.groupby(GROUPS, dropna=False, sort=False))
    names = titles(([], words(dict(zip(GROUPS, key, strict=True)), str(key[1]))[1]) for key, _ in groups)
    rows, columns = math.ceil(len(groups) / COLUMNS), min(len(groups), COLUMNS)
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * columns, HEIGHT * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axis, name, (_, panel) in zip(axes.flat, names, groups, strict=False):
            _draw_panel(axis, name, panel)
        log_axis(axes[0, 0].yaxis, nice_log_ticks(*axes[0, 0].get_ylim()))  # of all panels, which share it
        for row in axes:
            row[0].set_ylabel(loss_label(material.table, "Training loss"))
        for spare in axes.flat[len(groups) :]:
            spare.set_visible(False)
        add_caption(figure, _caption(curves), columns)
    return figure


def _curves(material: Material) -> pd.DataFrame:
    """Learning curves with the design of each."""
    if material.source is None:
        raise FigureError("learning curves are in a run directory; give one instead of a table")
    try:
        curves = load_learning_curves(material.source)
    except RecordError as error:
        raise FigureError(str(error)) from None
    designs = {cell: Design.parse(cell.split(" ")[0]) for cell in curves["cell"].unique()}
    fields = [*GROUPS, "patch_size"]
    columns = {name: curves["cell"].map(lambda cell, n=name: getattr(designs[cell], n)) for name in fields}
    return curves.assign(design=curves["cell"].str.split(" ").str[0], **columns)


def _draw_panel(axis: Axes, name: str, panel: pd.DataFrame) -> None:
    patches = sorted(panel["patch_size"].unique(), reverse=True)
    handles = []
    for place, patch in enumerate(patches):
        colour = colormaps["cividis"](LIGHTEST * (1 - place / max(len(patches) - 1, 1)))
        look = {"color": colour, "linestyle": LINES[place % len(LINES)]}
        for _, cell in panel[panel["patch_size"].eq(patch)].groupby("cell", sort=False):
            images = cell["images_seen"].to_numpy(float)
            axis.plot(images, smoothed(images, cell["training_loss"].to_numpy(float)), linewidth=1.0, **look)
        handles.append(Line2D([], [], label=f"patch {patch}", **look))
    axis.set(title=name, xscale="log", yscale="log", xlabel="Images seen")
    log_axis(axis.xaxis, nice_log_ticks(*axis.get_xlim()))
    axis.legend(handles=handles, loc="best", ncols=1 + len(handles) // (MOST_COLUMNS_OF_LEGEND + 1))


def smoothed(images: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geometric means of the losses logged within a factor of 1.2 of the images seen."""
    sums = np.concatenate([[0.0], np.cumsum(np.log(losses))])
    first, last = np.searchsorted(images, images / WINDOW), np.searchsorted(images, images * WINDOW, side="right")
    return np.exp((sums[last] - sums[first]) / (last - first))


def _caption(curves: pd.DataFrame) -> list[str]:
    cells = curves["cell"].nunique()
    ends = curves.groupby("cell")[["images_seen", "final_images"]].max()
    unfinished = int((ends["images_seen"] < ends["final_images"]).sum())
    return [
        f"smoothed: geometric mean of the losses logged within a factor of {WINDOW:g} of the images seen",
        "curves of one colour and dash differ by seed alone"
        if curves.groupby("design")["cell"].nunique().max() > 1
        else "",
        f"{cells} cells" + (f", {unfinished} of them unfinished" if unfinished else ""),
    ]
