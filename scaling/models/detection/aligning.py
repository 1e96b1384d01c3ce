"""RoIAlign as products of matrices, for small maps on a CPU.

torchvision's operator scatters gradients one by one there: backward takes ten times as long as forward. RoIAlign is
linear and separable, so that rows and columns of each region are weights of the map's rows and columns.

Shapes: B images, R regions, C channels, h and w sides of the map, P cells per side of a pooled region.
"""

import torch
from jaxtyping import Float
from torch import Tensor

MOST_CELLS = 64 * 64
"""Of a map, up to which products over all its cells are faster."""


def align(
    level: Float[Tensor, "B C h w"], regions: Float[Tensor, "R 5"], cells: int, stride: int
) -> Float[Tensor, "R C P P"]:
    """What torchvision's roi_align gives with `aligned`, for regions inside the map and in the order of their images.

    Args:
        level: features, fp32.
        regions: number of the image, and left, top, right, bottom in pixels.
        cells: P.
        stride: pixels of a cell of the map.
    """
    images, channels, height, width = level.shape
    left, top, right, bottom = (regions[:, 1:] / stride - 0.5).T
    counts = torch.bincount(regions[:, 0].long(), minlength=images).tolist()
    of_rows = _weights(top, bottom - top, cells, height).split(counts)
    of_columns = _weights(left, right - left, cells, width).split(counts)
    pooled = []
    with torch.autocast("cpu", enabled=False):
        maps = level.transpose(1, 2).flatten(2)  # a row of the map in a row
        for rows_of_map, rows, columns in zip(maps.unbind(), of_rows, of_columns, strict=True):
            bands = (rows.flatten(0, 1) @ rows_of_map).view(len(rows), cells * channels, width)
            pooled.append(bands @ columns.mT)
    return torch.cat(pooled).unflatten(1, (cells, channels)).transpose(1, 2)


def _weights(start: Float[Tensor, "R"], length: Float[Tensor, "R"], cells: int, side: int) -> Float[Tensor, "R P side"]:
    """How much each row (or column) of a map counts in each cell of a region: the mean over points in the cell."""
    points = (length / cells).ceil().clamp(min=1)[:, None, None]  # so many that none of the map is passed over
    point = torch.arange(int(points.max()))
    place = (
        start[:, None, None] + (torch.arange(cells)[:, None] + (point + 0.5) / points) * (length / cells)[:, None, None]
    )
    distance = (place.clamp(0, side - 1)[..., None] - torch.arange(side)).abs()
    bilinear = (1 - distance).clamp(min=0) * (point < points)[..., None]
    return bilinear.sum(2) / points
