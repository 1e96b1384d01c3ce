"""Segmentation of large images in overlapping windows.

Shapes: B images, K classes, S and W sides.
"""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

OVERLAP = 1 / 3  # of a window's side, with the next one: 341 pixels from window to window of 512


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of these sides, so many at once through the model."""

    sides: tuple[int, int]
    at_once: int

    def logits(self, model: nn.Module, images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B K S W"]:
        """Of every pixel the mean over the windows that it is in; the last window ends with the image."""
        (height, width), (high, wide) = images.shape[2:], self.sides
        places = list(product(starts(height, high), starts(width, wide)))
        parts = [_part(images, place, self.sides) for place in places]
        found = torch.cat([model(some).float() for some in torch.cat(parts).split(self.at_once)])
        total = found.new_zeros(len(images), found.shape[1], height, width)
        count = torch.zeros_like(total[:1, :1])
        for place, logits in zip(places, found.split(len(images)), strict=True):
            _part(total, place, self.sides).add_(logits)
            _part(count, place, self.sides).add_(1)
        return total / count


def starts(side: int, window: int) -> list[int]:
    """Where windows begin along a side, so that neighbours overlap by at least a third of a window."""
    step = max(1, int((1 - OVERLAP) * window))
    last = max(0, side - window)
    return [*range(0, last, step), last]


def _part(maps: Tensor, place: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """A view of what is in a window."""
    (top, left), (height, width) = place, sides
    return maps[:, :, top : top + height, left : left + width]
