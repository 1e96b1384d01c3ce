"""Labels beside points, moved until none lies over another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

FAR = (5, 16, 28, 42)  # points from the mark, tried in this order
WAYS = ((-1, -1), (1, 1), (1, -1), (-1, 1), (0, -1), (0, 1))
MARK = 4.0  # points that a mark reaches around its middle
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
    inside, pixels = axis.get_window_extent(), figure.dpi / 72
    places = axis.transData.transform(np.concatenate([avoided, [(label.x, label.y) for label in labels]]))
    taken = [Bbox.from_extents(*(place - MARK * pixels), *(place + MARK * pixels)) for place in places]
    taken += [text.get_window_extent() for text in axis.texts]
    for label in labels:
        written = _placed(axis, label, taken, inside)
        if written is not None:
            taken.append(written.get_window_extent().padded(2))


def _placed(axis: Axes, label: Label, taken: Sequence[Bbox], inside: Bbox) -> Annotation | None:
    """Write a label at the nearest free place, with a line to its mark where that is far."""
    for far in FAR:
        for across, up in WAYS:
            written = _write(axis, label, far * across, far * up)
            box = written.get_window_extent()
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(Bbox.intersection(box, other) for other in taken):
                if far > FAR[0]:
                    offset = (far * across, far * up)
                    axis.annotate("", (label.x, label.y), offset, textcoords="offset points", arrowprops=LEADER)
                return written
            written.remove()
    return None


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
        zorder=6,
    )
