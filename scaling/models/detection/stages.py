"""One stage of the cascade: what is in each region, and a better box for it (Cai and Vasconcelos 2019).

Shapes: B images, R regions, C channels, K classes; class K is the background.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from scaling.models.detection.regions import IGNORED, clip, match, mean_by_image
from scaling.scenes import Instances

CELLS = 7
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # at IoU 0.5, as in Fast R-CNN


class BoxStage(nn.Module):
    """Two fully connected layers on pooled regions, then classes, and one box whatever the class.

    Args:
        channels: C of the pyramid; hidden layers have four times as many.
        classes: K.
        iou: with a thing's box, from which on a region is that thing.
        sharpness: factor of the deltas' weights; later stages correct less, so their deltas count more.
    """

    def __init__(self, channels: int, classes: int, iou: float, sharpness: float) -> None:
        super().__init__()
        hidden = 4 * channels
        self.mlp = TwoMLPHead(channels * CELLS**2, hidden)
        self.classes = nn.Linear(hidden, classes + 1)
        self.deltas = nn.Linear(hidden, 4)
        self.matcher = Matcher(iou, iou)
        across, along, wide, high = DELTA_WEIGHTS
        self.coder = BoxCoder((sharpness * across, sharpness * along, sharpness * wide, sharpness * high))

    def forward(self, pooled: Float[Tensor, "R C 7 7"]) -> tuple[Float[Tensor, "R _"], Float[Tensor, "R 4"]]:
        """Logits of the classes and the background, and deltas from each region to a better one."""
        hidden = self.mlp(pooled)
        return self.classes(hidden).float(), self.deltas(hidden).float()

    def refine(
        self,
        regions: Sequence[Float[Tensor, "_ 4"]],
        deltas: Float[Tensor, "R 4"],
        sides: Sequence[tuple[int, int]],
    ) -> list[Float[Tensor, "_ 4"]]:
        """The regions of each image after their deltas, inside its sides; without a gradient.

        Deltas that are no numbers move nothing, so that a training that diverges has losses that say so.
        """
        boxes = self.coder.decode_single(deltas.detach().nan_to_num(), torch.cat(list(regions)))
        return clip(boxes.split([len(one) for one in regions]), sides)

    def match(self, regions: Sequence[Float[Tensor, "_ 4"]], instances: Sequence[Instances]) -> list[Int[Tensor, "_"]]:
        """Number of the thing in each region at the stage's IoU."""
        return [match(one, things, self.matcher) for one, things in zip(regions, instances, strict=True)]

    def losses(
        self,
        logits: Float[Tensor, "R _"],
        deltas: Float[Tensor, "R 4"],
        regions: Sequence[Float[Tensor, "_ 4"]],
        matches: Sequence[Int[Tensor, "_"]],
        instances: Sequence[Instances],
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Of each image: cross-entropy of its regions, and smooth L1 of the boxes of those with a thing."""
        matched = torch.cat(list(matches))
        found = matched >= 0
        in_found = [one[one >= 0] for one in matches]
        labels = torch.where(matched == IGNORED, IGNORED, logits.shape[1] - 1)
        labels[found] = torch.cat([things.classes[one] for things, one in zip(instances, in_found, strict=True)])
        wanted = torch.cat([things.boxes[one] for things, one in zip(instances, in_found, strict=True)])
        targets = self.coder.encode_single(wanted, torch.cat(list(regions))[found])
        misses = F.smooth_l1_loss(deltas[found], targets, reduction="none").sum(1)
        classes = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        boxes = torch.zeros_like(classes).masked_scatter(found, misses)
        return mean_by_image(classes, matches), mean_by_image(boxes, matches)
