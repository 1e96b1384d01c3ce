"""What is done with boxes, whoever proposes them: matching, sampling, pooling, sums over each image.

Shapes: B images, R regions, N things in an image, C channels, P cells per side of a pooled region.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_area, box_iou, clip_boxes_to_image, roi_align
from torchvision.ops.boxes import _box_inter_union
from torchvision.ops.poolers import LevelMapper

from scaling.models.detection.aligning import align
from scaling.scenes import Instances

BACKGROUND, IGNORED = Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS
"""Instead of the number of a thing."""
CROWD_SHARE = 0.5  # of a region's area in a crowd, from which on it is no background
TEST_SEED = 0


def match(regions: Float[Tensor, "R 4"], things: Instances, matcher: Matcher) -> Int[Tensor, "R"]:
    """Number of the thing in each region; BACKGROUND, or IGNORED where it is too close to call or inside a crowd."""
    known = (~things.crowd).nonzero().flatten()
    matches = torch.full((len(regions),), BACKGROUND, device=regions.device)
    if len(known) and len(regions):
        found = matcher(box_iou(things.boxes[known], regions))
        matches = torch.where(found >= 0, known[found.clamp(min=0)], found)
    if things.crowd.any():
        shared, _ = _box_inter_union(regions, things.boxes[things.crowd])
        crowded = shared.amax(1) >= CROWD_SHARE * box_area(regions)
        matches = torch.where(crowded & (matches == BACKGROUND), IGNORED, matches)
    return matches


def sample(matches: Int[Tensor, "R"], count: int, positives: int, training: bool) -> Int[Tensor, "S"]:
    """Which regions of an image to learn from: random ones, `positives` with a thing at most, the others background.

    In training from torch's random state; else every image has draws of its own from the same seed, so that its loss
    depends neither on the images before it nor on when it is taken.
    """
    generator = None if training else torch.Generator().manual_seed(TEST_SEED)
    order = torch.randperm(len(matches), generator=generator).to(matches.device)
    shuffled = matches[order]
    positive = order[shuffled >= 0][:positives]
    negative = order[shuffled == BACKGROUND][: count - len(positive)]
    return torch.cat([positive, negative])


def mean_by_image(values: Float[Tensor, "R"], matches: Sequence[Int[Tensor, "_"]]) -> Float[Tensor, "B"]:
    """The sum over each image's regions, divided by how many of them are not ignored."""
    sums = torch.stack([part.sum() for part in values.split([len(one) for one in matches])])
    counts = torch.stack([(one != IGNORED).sum() for one in matches])
    return sums / counts.clamp(min=1)


def clip(boxes: Sequence[Float[Tensor, "_ 4"]], sides: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Boxes of each image inside its sides, without the padding."""
    return [clip_boxes_to_image(one, size) for one, size in zip(boxes, sides, strict=True)]


class RegionPool:
    """RoIAlign (He et al. 2017) from the level of a pyramid that fits the size of each box (Lin et al. 2017).

    A box of 14 strides per side is the smallest for a level, as in a feature pyramid network.

    Args:
        strides: of the levels, doubling.
        cells: P.
    """

    def __init__(self, strides: tuple[int, ...], cells: int) -> None:
        self.strides, self.cells = strides, cells
        self.level_of = LevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def __call__(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R C P P"]:
        """Features of the boxes of each image, image after image."""
        regions = with_images(boxes)
        level_of_region = self.level_of(list(boxes))
        order = level_of_region.argsort(stable=True)
        parts = regions[order].split(torch.bincount(level_of_region, minlength=len(levels)).tolist())
        pooled = [self._align(*one) for one in zip(levels, parts, self.strides, strict=True) if len(one[1])]
        return torch.cat(pooled)[order.argsort()] if pooled else self.from_level(levels[0], regions, self.strides[0])

    def _align(
        self, level: Float[Tensor, "B C h w"], regions: Float[Tensor, "R 5"], stride: int
    ) -> Float[Tensor, "R C P P"]:
        """The same as `from_level`, faster where gradients are needed on a CPU."""
        if level.device.type == "cpu" and level.requires_grad:
            return align(level, regions, self.cells, stride)
        return self.from_level(level, regions, stride)

    def from_level(
        self, level: Float[Tensor, "B C h w"], regions: Float[Tensor, "R 5"], stride: int
    ) -> Float[Tensor, "R C P P"]:
        """Features of regions from one level; so many points in each cell that none of the level is passed over."""
        return roi_align(level, regions, self.cells, 1 / stride, aligned=True)


def with_images(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "R 5"]:
    """Boxes of all images, each after the number of its image."""
    return torch.cat([torch.cat([one.new_full((len(one), 1), image), one], 1) for image, one in enumerate(boxes)])
