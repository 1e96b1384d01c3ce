"""Attention within windows of a grid of tokens, for long sequences (Li et al. 2022, ViTDet).

Shapes: B images, T tokens with the class token first, h and w sides of the grid, D width.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

GLOBAL_BLOCKS = 4


def global_blocks(depth: int) -> set[int]:
    """The last block of each quarter of the depth, which sees all tokens; counted from 0."""
    return {-(-depth * quarter // GLOBAL_BLOCKS) - 1 for quarter in range(1, GLOBAL_BLOCKS + 1)}


def in_windows(
    block: Callable[[Tensor], Tensor], tokens: Float[Tensor, "B T D"], grid: tuple[int, int], window: int
) -> Float[Tensor, "B T D"]:
    """A block on each window of the grid by itself.

    Windows at the right and lower edge are smaller where the window does not divide the grid; nothing is padded. Every
    window has a copy of the class token, whose mean over all windows goes on. A window that covers the grid is the
    block itself.

    Args:
        block: of a transformer, on (B, T, D).
        tokens: the class token, then the grid row by row.
        grid: rows and columns.
        window: tokens per side.
    """
    class_tokens, patches = tokens[:, :1], tokens[:, 1:].unflatten(1, grid)
    class_sum, windows, bands = torch.zeros_like(class_tokens), 0, []
    for rows, height in _cuts(grid[0], window):
        band = []
        for columns, breadth in _cuts(grid[1], window):
            cut = patches[:, rows, columns].unflatten(2, (-1, breadth)).unflatten(1, (-1, height)).transpose(2, 3)
            count = cut.shape[1] * cut.shape[2]
            copies = class_tokens.repeat_interleave(count, 0)
            done = block(torch.cat([copies, cut.flatten(0, 2).flatten(1, 2)], 1))
            class_sum = class_sum + done[:, :1].unflatten(0, (len(tokens), count)).sum(1)
            band.append(done[:, 1:].reshape(cut.shape).transpose(2, 3).flatten(3, 4).flatten(1, 2))
            windows += count
        bands.append(torch.cat(band, 2))
    return torch.cat([class_sum / windows, torch.cat(bands, 1).flatten(1, 2)], 1)


def _cuts(side: int, window: int) -> Iterator[tuple[slice, int]]:
    """Where the whole windows of a side are, and then the smaller one that is left."""
    whole = side - side % window
    if whole:
        yield slice(0, whole), window
    if whole < side:
        yield slice(whole, side), side - whole
