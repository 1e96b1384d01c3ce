"""Panels side by side with a caption below, and how series of models look."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures.results import TOLD_APART, Result, architecture_name, varying
from scaling.figures.style import LINES, MARKERS, PANEL_HEIGHT, PANEL_WIDTH

COLUMNS = 3
ARCHITECTURES = {"deit": "#2f4b7c", "adventurer": "#b5523b"}
OTHERS = "#4f8f8b"


def panels(count: int, height: float = PANEL_HEIGHT) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, three in a row; to be called in the style's context."""
    rows, columns = math.ceil(count / COLUMNS), min(count, COLUMNS)
    figure = Figure(figsize=(PANEL_WIDTH * columns, height * rows + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def panel_title(result: Result, found: Sequence[Result], words: Sequence[str] = ()) -> str:
    """Architecture, what else is given, the input, and on a second line what tells panels apart."""
    side = result["input_size"]
    parts = [*(words or [architecture_name(result["architecture"])]), *([f"{side}×{side} input"] if side else [])]
    apart = [str(result[column]) for column in varying(found, TOLD_APART) if result[column]]
    return ", ".join(parts) + ("\n" + ", ".join(apart) if apart else "")


def look(result: Result, sizes: Sequence[str]) -> dict[str, Any]:
    """Colour by architecture, mark by size, dashes by both, and hollow marks for all but DeiT."""
    place = sizes.index(result["size"]) % len(MARKERS)
    colour = ARCHITECTURES.get(result["architecture"], OTHERS)
    hollow = result["architecture"] != "deit"
    return {
        "color": colour,
        "marker": MARKERS[place],
        "linestyle": LINES[(place + hollow) % len(LINES)],
        "markerfacecolor": "white" if hollow else colour,
        "markeredgecolor": colour if hollow else "white",
        "markeredgewidth": 1.0 if hollow else 0.5,
    }
