"""Masks over boxes, pasted into images as run lengths.

Shapes: N masks, M mask sides.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as run_lengths
from jaxtyping import Float
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

MASK_THRESHOLD = 0.5


def pasted_masks(
    masks: Float[Tensor, "N M M"], boxes: Float[Tensor, "N 4"], sides: tuple[int, int]
) -> list[dict[str, Any]]:
    """The pixels of an image whose centre is in a box and whose probability there, interpolated, is a half or more.

    Only the pixels of the boxes are looked at: what it takes follows from these, not from the image.

    Args:
        masks: probability over each box, in equal cells.
        boxes: left, top, right, bottom, inside the image.
        sides: height and width of the image.

    Returns:
        Run lengths in COCO's compressed form.
    """
    if not len(masks):
        return []
    height, width = sides
    cells = masks.float().cpu().numpy()
    left, top, right, bottom = boxes.double().cpu().numpy().T
    first_column, columns = _interpolation(cells.shape[1], left, right, width)
    first_row, rows = _interpolation(cells.shape[1], top, bottom, height)
    lengths = np.array([1 + len(each) for each in rows])  # of a column, after a pixel of nothing
    ends = np.cumsum([length * len(each) for length, each in zip(lengths, columns, strict=True)])
    starts = np.concatenate([[0], ends[:-1]])
    line = np.zeros(ends[-1] + 1, bool)  # down the columns of one box after the other
    boxes_of_pixels = zip(starts, ends, lengths, columns, rows, cells, strict=True)
    with _libraries().limit(limits=1, user_api="blas"):  # threads take longer to meet than such products do
        for start, end, length, of_columns, of_rows, mask in boxes_of_pixels:
            line[start:end].reshape(-1, length)[:, 1:] = of_columns @ mask.T @ of_rows.T >= MASK_THRESHOLD
    changes = np.flatnonzero(line[1:] != line[:-1])
    box = np.searchsorted(ends, changes, side="right")
    # A run that ends with its column changes at the next one's pixel of nothing, which stands for the row below.
    column, row = np.divmod(changes - starts[box], lengths[box])
    pixels = (first_column[box] + column) * height + first_row[box] + row
    goes_on = (np.diff(pixels, prepend=-1) == 0) & (np.diff(box, prepend=-1) == 0)  # from the lower edge to the upper
    at_ends = ~(goes_on | np.roll(goes_on, -1))
    found, bounds = pixels[at_ends].tolist(), np.searchsorted(box[at_ends], np.arange(len(cells) + 1)).tolist()
    uncompressed = [
        {"size": sides, "counts": _counts(found[first:last], height * width)} for first, last in pairwise(bounds)
    ]
    return run_lengths.frPyObjects(uncompressed, height, width)  # pyright: ignore[reportReturnType, reportArgumentType]


@cache
def _libraries() -> ThreadpoolController:
    """Those that compute on threads; looking for them takes longer than to set how many."""
    return ThreadpoolController()


def _counts(changes: list[int], pixels: int) -> list[int]:
    """Lengths of the runs of 0 and 1, beginning with 0, from where they change."""
    counts = [after - before for before, after in pairwise([0, *changes, pixels])]
    return counts if counts[-1] else counts[:-1]


def _interpolation(
    cells: int, start: Float[np.ndarray, "N"], end: Float[np.ndarray, "N"], side: int
) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
    """Of each box the first pixel of a line whose centre is between start and end, and the cells' weights in all these.

    Linear between the centres of cells; before the first and after the last one these themselves.
    """
    first, last = np.ceil(np.clip(np.stack([start, end]) - 0.5, 0, side)).astype(int)
    counts = np.maximum(last - first, 0)
    ends = np.cumsum(counts)
    pixels = np.arange(ends[-1]) + np.repeat(first - ends + counts, counts)
    from_start, length = pixels + 0.5 - np.repeat(start, counts), np.repeat(np.maximum(end - start, 1e-9), counts)
    places = np.clip(from_start / length * cells - 0.5, 0, cells - 1)[:, None]
    near = np.floor(places).astype(int) + np.arange(2)
    weights = np.zeros((len(near), cells + 1), np.float32)  # one more than there is, beside the last one
    np.put_along_axis(weights, near, np.maximum(0, 1 - np.abs(places - near)), 1)
    return first, np.split(weights[:, :-1], ends[:-1])
