"""Which pixels in a box belong to the thing: the head of Mask R-CNN (He et al. 2017), on torchvision's.

Shapes: B images, R regions, C channels, K classes,
N things in an image, S and W its sides.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from scaling.models.detection.regions import mean_by_image
from scaling.scenes import Instances

CELLS = 14
MASK_SIDE = 2 * CELLS
CONVOLUTIONS = 4


class MaskHead(nn.Sequential):
    """Four convolutions and a transposed one on pooled regions, then a mask for each class."""

    def __init__(self, channels: int, classes: int) -> None:
        convolutions = MaskRCNNHeads(channels, (channels,) * CONVOLUTIONS, dilation=1)
        super().__init__(convolutions, MaskRCNNPredictor(channels, channels, classes))

    def of_classes(self, pooled: Float[Tensor, "R C 14 14"], classes: Int[Tensor, "R"]) -> Float[Tensor, "R 28 28"]:
        """Logits of the mask of one class for each region."""
        return self(pooled)[torch.arange(len(classes), device=classes.device), classes].float()

    def losses(
        self,
        pooled: Float[Tensor, "R C 14 14"],
        regions: Sequence[Float[Tensor, "_ 4"]],
        matches: Sequence[Int[Tensor, "_"]],
        instances: Sequence[Instances],
    ) -> Float[Tensor, "B"]:
        """Cross-entropy of the pixels in regions of things, the mean of each image; 0 without a region."""
        classes = [things.classes[one] for things, one in zip(instances, matches, strict=True)]
        logits = self.of_classes(pooled, torch.cat(classes))
        targets = [
            crop(things.masks, boxes, one) for things, boxes, one in zip(instances, regions, matches, strict=True)
        ]
        pixels = F.binary_cross_entropy_with_logits(logits, torch.cat(targets), reduction="none")
        return mean_by_image(pixels.mean((1, 2)), matches)


def crop(
    masks: Bool[Tensor, "N S W"], boxes: Float[Tensor, "R 4"], numbers: Int[Tensor, "R"]
) -> Float[Tensor, "R 28 28"]:
    """What a thing's mask shows in each box, 0 or 1."""
    regions = torch.cat([numbers[:, None].to(boxes.dtype), boxes], 1)
    found = roi_align(masks[:, None].to(boxes.dtype), regions, MASK_SIDE, aligned=True)
    return (found[:, 0] >= 0.5).to(boxes.dtype)
