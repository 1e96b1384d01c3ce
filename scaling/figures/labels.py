"""Labels beside points, moved until none lies over another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

FAR = (5, 14, 24, 36)  # points from the mark, tried in this order
WAYS = ((-1, -1), (0, -1), (1, -1), (1, 1), (0, 1), (-1, 1))
BEHIND = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
MARK = 2.5  # points that a mark reaches around its middle
LEADER = {"arrowstyle": "-", "color": "0.45", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}


@dataclass(frozen=True, slots=True)
class Label:
    """Words beside a place in data coordinates."""

    text: str
    x: float
    y: float
    weight: str = "normal"


def add_labels(figure: Figure, axis: Axes, labels: Sequence[Label], avoided: np.ndarray) -> None:
    """Write labels in the order of their importance, below and left of their marks where there is room.

    A label that finds no room is not written.

    Args:
        figure: already laid out but for these labels.
        axis: where.
        labels: with their marks.
        avoided: (N, 2), places in data coordinates that labels keep off.
    """
    figure.draw_without_rendering()  # lays out the axes, so that places are final
    pixels = figure.dpi / 72
    room = axis.get_window_extent().padded(-MARK * pixels)
    marks = axis.transData.transform(np.concatenate([avoided, [(label.x, label.y) for label in labels]]))
    taken = [text.get_window_extent() for text in axis.texts]
    for label in labels:
        for far, (across, up) in product(FAR, WAYS):
            written = _write(axis, label, far * across, far * up)
            box = written.get_window_extent().padded(2)
            over = _inside(marks, box.padded(MARK * pixels)).any() or any(
                Bbox.intersection(box, each) for each in taken
            )
            if not over and _inside(box.corners(), room).all():
                taken.append(box)
                if far > FAR[0]:
                    offset = (far * across, far * up)
                    axis.annotate("", (label.x, label.y), offset, textcoords="offset points", arrowprops=LEADER)
                break
            written.remove()


def _inside(places: np.ndarray, box: Bbox) -> np.ndarray:
    """Which of (N, 2) places lie in a box, (N,) of bool."""
    return np.all((places >= box.min) & (places <= box.max), axis=1)


def _write(axis: Axes, label: Label, x: float, y: float) -> Annotation:
    return axis.annotate(
        label.text,
        (label.x, label.y),
        (x, y),
        textcoords="offset points",
        ha={-1: "right", 0: "center", 1: "left"}[int(np.sign(x))],
        va="top" if y < 0 else "bottom",
        fontsize=6.5,
        fontweight=label.weight,
        bbox=BEHIND,
        zorder=6,
    )
