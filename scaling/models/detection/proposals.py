"""Where things may be: the region proposal network (Ren et al. 2015), on torchvision's.

Shapes: B images, A anchors of an image, C channels, R regions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

from scaling.models.detection.regions import IGNORED, match, mean_by_image, sample
from scaling.scenes import Instances

ANCHOR_STRIDES = 8
RATIOS = (0.5, 1.0, 2.0)
SAMPLED_ANCHORS = 256
POSITIVE_SHARE = 0.5
POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
SUPPRESSED_IOU = 0.7


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's region proposal network, with losses of each image, and for anchors of our strides.

    Args:
        channels: C of the pyramid.
        strides: of its levels; anchors have 8 of them per side.
        proposals: regions of an image that are kept; twice as many of each level go into suppression.
    """

    def __init__(self, channels: int, strides: tuple[int, ...], proposals: int) -> None:
        super().__init__(
            AnchorGenerator(tuple((ANCHOR_STRIDES * stride,) for stride in strides), (RATIOS,) * len(strides)),
            RPNHead(channels, len(RATIOS)),
            POSITIVE_IOU,
            NEGATIVE_IOU,
            SAMPLED_ANCHORS,
            POSITIVE_SHARE,
            pre_nms_top_n=dict.fromkeys(("training", "testing"), 2 * proposals),
            post_nms_top_n=dict.fromkeys(("training", "testing"), proposals),
            nms_thresh=SUPPRESSED_IOU,
        )
        self.strides = strides

    def propose(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], sides: Sequence[tuple[int, int]]
    ) -> tuple[list[Float[Tensor, "_ 4"]], Float[Tensor, "B A"], Float[Tensor, "B A 4"]]:
        """Best regions of each image, inside its sides; and of all anchors the logits and the box deltas."""
        logits, deltas = self.outputs(levels)
        anchors = self.anchors(levels)
        boxes = self.box_coder.decode_single(deltas.detach().flatten(0, 1), anchors.repeat(len(sides), 1))
        sizes = [len(RATIOS) * level[0, 0].numel() for level in levels]
        regions, _ = self.filter_proposals(boxes.unflatten(0, logits.shape), logits, list(sides), sizes)
        return regions, logits, deltas

    def outputs(
        self, levels: Sequence[Float[Tensor, "B C _ _"]]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A 4"]]:
        """Logits of being a thing, and deltas from anchor to box, of the anchors of all levels."""
        logits, deltas = concat_box_prediction_layers(*self.head(list(levels)))
        images = len(levels[0])
        return logits.float().unflatten(0, (images, -1)).squeeze(-1), deltas.float().unflatten(0, (images, -1))

    def anchors(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "A 4"]:
        """Of all levels, around the corners of their cells."""
        device = levels[0].device
        self.anchor_generator.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(stride, device=device)] * 2 for stride in self.strides]
        return torch.cat(self.anchor_generator.grid_anchors([list(level.shape[2:]) for level in levels], steps))

    def losses(
        self,
        levels: Sequence[Float[Tensor, "B C _ _"]],
        logits: Float[Tensor, "B A"],
        deltas: Float[Tensor, "B A 4"],
        instances: Sequence[Instances],
    ) -> dict[str, Float[Tensor, "B"]]:
        """Of each image: cross-entropy of sampled anchors, smooth L1 of the boxes of those with a thing."""
        anchors = self.anchors(levels)
        matches = [self._matches(anchors, things) for things in instances]
        chosen = [sample(one, SAMPLED_ANCHORS, int(POSITIVE_SHARE * SAMPLED_ANCHORS), self.training) for one in matches]
        picked = [one[numbers] for one, numbers in zip(matches, chosen, strict=True)]
        flat = torch.cat([image * len(anchors) + numbers for image, numbers in enumerate(chosen)])
        found = torch.cat(picked) >= 0
        objectness = F.binary_cross_entropy_with_logits(
            logits.flatten()[flat], found.to(logits.dtype), reduction="none"
        )
        wanted = [things.boxes[one[one >= 0]] for one, things in zip(picked, instances, strict=True)]
        of_thing = flat[found]
        targets = self.box_coder.encode_single(torch.cat(wanted), anchors[of_thing % len(anchors)])
        misses = F.smooth_l1_loss(deltas.flatten(0, 1)[of_thing], targets, beta=1 / 9, reduction="none").sum(1)
        boxes = torch.zeros_like(objectness).masked_scatter(found, misses)
        return {
            "proposal_objectness": mean_by_image(objectness, picked),
            "proposal_boxes": mean_by_image(boxes, picked),
        }

    def _matches(self, anchors: Float[Tensor, "A 4"], things: Instances) -> Int[Tensor, "A"]:
        """Number of the thing at each anchor; those centred in the padding are ignored."""
        height, width = things.sides
        x, y = (anchors[:, :2] + anchors[:, 2:]).T / 2
        return torch.where((x >= width) | (y >= height), IGNORED, match(anchors, things, self.proposal_matcher))
