"""Masks over boxes, pasted into images as run lengths.

Shapes: N masks, M mask sides, R and C sides of a box in pixels.
"""

from typing import Any

import numpy as np
from faster_coco_eval.core import mask as run_lengths
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

MASK_THRESHOLD = 0.5


def pasted_masks(
    masks: Float[Tensor, "N M M"], boxes: Float[Tensor, "N 4"], sides: tuple[int, int]
) -> list[dict[str, Any]]:
    """The pixels of an image whose centre is in a box and whose probability there, interpolated, is a half or more.

    Only the pixels of a box are looked at: what it takes follows from the boxes, not from the image.

    Args:
        masks: probability over each box, in equal cells.
        boxes: left, top, right, bottom, inside the image.
        sides: height and width of the image.

    Returns:
        Run lengths in COCO's compressed form.
    """
    cells = masks.float().cpu().numpy()
    pairs = zip(cells, boxes.double().cpu().numpy(), strict=True)
    uncompressed = [{"size": sides, "counts": _run_lengths(mask, box, sides)} for mask, box in pairs]
    return run_lengths.frPyObjects(uncompressed, *sides) if uncompressed else []  # pyright: ignore[reportReturnType, reportArgumentType]


def _run_lengths(mask: NDArray[np.float32], box: NDArray[np.float64], sides: tuple[int, int]) -> list[int]:
    """Lengths of the runs of 0 and 1 down the columns, beginning with 0."""
    height, width = sides
    left, columns = _interpolation(len(mask), box[0], box[2], width)
    top, rows = _interpolation(len(mask), box[1], box[3], height)
    inside = np.zeros((len(columns), height), bool)
    inside[:, top : top + len(rows)] = columns @ mask.T @ rows.T >= MASK_THRESHOLD
    line = inside.ravel()
    changes = np.flatnonzero(line[1:] != line[:-1]) + 1 + left * height
    starts = [left * height] if len(line) and line[0] else []
    return np.diff(np.concatenate(([0], starts, changes, [height * width]))).astype(int).tolist()


def _interpolation(cells: int, start: float, end: float, side: int) -> tuple[int, NDArray[np.float32]]:
    """The first pixel of a line whose centre is between start and end, and the weights of the cells for each of them.

    Linear between the centres of cells; before the first and after the last one these themselves.
    """
    first, last = max(0, int(np.ceil(start - 0.5))), min(side, int(np.ceil(end - 0.5)))
    pixels = np.arange(first, max(first, last))
    places = np.clip((pixels + 0.5 - start) / max(end - start, 1e-9) * cells - 0.5, 0, cells - 1)
    distance = np.abs(places[:, None] - np.arange(cells))
    return first, np.maximum(0, 1 - distance).astype(np.float32)
