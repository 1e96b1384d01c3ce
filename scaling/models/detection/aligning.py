"""RoIAlign as a product with a sparse matrix, where gradients are needed on a CPU.

torchvision's operator scatters gradients one by one there: backward takes six times as long as forward. RoIAlign is
linear: each cell of a pooled region is a row of few weights of the map's cells.

Shapes: B images, R regions, C channels, h and w sides of the map, P cells per side of a pooled region, T cells of
the map per side that may count in one of them, E weights that are not 0.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE = 512
"""Regions of a matrix. While it is made, each of them has room for as many weights as the widest."""


def align(
    level: Float[Tensor, "B C h w"], regions: Float[Tensor, "R 5"], cells: int, stride: int
) -> Float[Tensor, "R C P P"]:
    """What torchvision's roi_align gives with `aligned`, for regions inside the map.

    Args:
        level: features, fp32.
        regions: number of the image, and left, top, right, bottom in pixels.
        cells: P.
        stride: pixels of a cell of the map.
    """
    _, channels, height, width = level.shape
    features = level.movedim(1, -1).reshape(-1, channels)
    parts = []
    for part in regions.split(AT_ONCE):
        places, weights = _weights(part, cells, stride, (height, width))
        sides = (len(part) * cells**2, len(features))
        matrix = torch.sparse_coo_tensor(places, weights, sides, check_invariants=False, is_coalesced=True)
        with torch.autocast("cpu", enabled=False):
            parts.append(matrix @ features)
    return torch.cat(parts).view(-1, cells, cells, channels).movedim(-1, 1)


def _weights(
    regions: Float[Tensor, "R 5"], cells: int, stride: int, sides: tuple[int, int]
) -> tuple[Int[Tensor, "2 E"], Float[Tensor, "E"]]:
    """How much each cell of the maps counts in each cell of the regions: the places of the weights, and these."""
    height, width = sides
    left, top, right, bottom = (regions[:, 1:] / stride - 0.5).T
    rows, of_rows = _line(top, bottom - top, cells, height)
    columns, of_columns = _line(left, right - left, cells, width)
    rows = rows + height * regions[:, :1, None].long()
    counted = (rows * width)[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = (of_rows[:, :, None, :, None] * of_columns[:, None, :, None, :]).flatten()
    some = weights.nonzero().squeeze(1)
    of_cells = some // (rows.shape[2] * columns.shape[2])
    return torch.stack([of_cells, counted.flatten()[some]]), weights[some]


def _line(
    start: Float[Tensor, "R"], length: Float[Tensor, "R"], cells: int, side: int
) -> tuple[Int[Tensor, "R P T"], Float[Tensor, "R P T"]]:
    """Which rows (or columns) of a map may count in each cell of a region, and how much: the mean over points in it."""
    points = (length / cells).ceil().clamp(min=1)[:, None, None]  # so many that none of the map is passed over
    point = torch.arange(int(points.max()))
    offset = (torch.arange(cells)[:, None] + (point + 0.5) / points) * (length / cells)[:, None, None]
    place = (start[:, None, None] + offset).clamp(0, side - 1)
    near = place[:, :, :1].floor() + torch.arange(len(point) + 1)  # points are at most one apart
    bilinear = (1 - (place[:, :, None] - near[..., None]).abs()).clamp(min=0) * (point < points)[:, :, None]
    return near.long(), bilinear.sum(3) / points * (length > 0)[:, None, None]  # nothing of a region without extent
