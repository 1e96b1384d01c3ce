"""Model sizes from small to large, and their places in the palette."""

import math
from typing import TYPE_CHECKING

from scaling.design import DesignError, known_architectures
from scaling.design.architectures import find_shape
from scaling.figures.style import COLOURS

if TYPE_CHECKING:
    import pandas as pd

SIZES = tuple(dict.fromkeys(size for known in known_architectures().values() for size in known.sizes))
MIDDLE = len(SIZES) // 2
"""The place in the palette of records without a size."""


def size_rank(architecture: str, size: str) -> float:
    """Weights of the blocks, roughly; a size that is not known comes last."""
    try:
        shape = find_shape(architecture, size)
    except DesignError:
        return math.inf
    return shape.depth * shape.width**2


def size_places(table: "pd.DataFrame") -> dict[str, int]:
    """A place in the palette for each model size of a table, from small to large.

    Named sizes keep theirs from figure to figure, unless there are sizes such as '64x2' beside them.
    """
    sizes = set(table["size"].dropna()) if "size" in table else set()
    if sizes <= set(SIZES):
        return {size: SIZES.index(size) for size in sorted(sizes, key=SIZES.index)}
    weights = {size: min(size_rank(each, size) for each in known_architectures()) for size in sizes}
    ordered = sorted(sizes, key=lambda size: (weights[size], size))
    return {size: place % len(COLOURS) for place, size in enumerate(ordered)}
