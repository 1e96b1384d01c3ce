"""Cascade Mask R-CNN (Cai and Vasconcelos 2019) on a plain backbone.

Shapes: B images, S and W padded sides, C channels, K classes, R regions.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import batched_nms

from scaling.design import Design, Detector
from scaling.errors import UsageError
from scaling.models.deit import DeiT
from scaling.models.dense import Backbone, DenseModel, pad_to_patches
from scaling.models.detection import masks, stages
from scaling.models.detection.masks import MaskHead
from scaling.models.detection.proposals import ProposalNetwork
from scaling.models.detection.pyramid import SimplePyramid
from scaling.models.detection.regions import RegionPool, sample, with_images
from scaling.models.detection.stages import BoxStage
from scaling.scenes import Detections, Instances

WIDEST = 256
Proposals: TypeAlias = tuple[list[Tensor], Tensor, Tensor]
"""Regions of each image, logits and deltas of the anchors."""
STAGES = ((0.5, 1.0, 1.0), (0.6, 2.0, 0.5), (0.7, 3.0, 0.25))
"""IoU, sharpness of the deltas and weight in the loss."""
POSITIVE_SHARE = 0.25
LEAST_SCORE, SUPPRESSED_IOU, MOST_DETECTIONS, LEAST_SIDE = 0.05, 0.5, 100, 1e-3


class CascadeMaskRCNN(DenseModel):
    """Finds boxes and masks of things: a simple feature pyramid, proposals, three stages of boxes, one of masks.

    Args:
        backbone: its last map, after the norm, is what the pyramid starts from.
        classes: K.
        settings: strides, and how many regions.
    """

    def __init__(self, backbone: Backbone, classes: int, settings: Detector) -> None:
        super().__init__(backbone)
        channels = min(WIDEST, backbone.embed_dim)
        patch_size = int(backbone.patch_embed.patch_size[0])
        self.settings = settings
        self.pyramid = SimplePyramid(backbone.embed_dim, channels, patch_size, settings.strides)
        self.proposals = ProposalNetwork(channels, settings.strides, settings.proposals)
        self.stages = nn.ModuleList(BoxStage(channels, classes, iou, sharpness) for iou, sharpness, _ in STAGES)
        self.masks = MaskHead(channels, classes)
        self.pool = RegionPool(settings.strides, stages.CELLS)
        self.pool_masks = RegionPool(settings.strides, masks.CELLS)

    def forward(
        self, images: Float[Tensor, "B 3 S W"], instances: Sequence[Instances] | Sequence[tuple[int, int]]
    ) -> dict[str, Float[Tensor, ""]] | list[Detections]:
        """The losses of images whose things are known, in training and in testing; or what is found in images.

        Args:
            images: padded below and on the right to equal sides.
            instances: of each image; or height and width of each image, and then the model is in eval mode.
        """
        if isinstance(instances[0], Instances):
            losses = self.losses_per_image(images, cast(Sequence[Instances], instances))
            return {name: of_images.mean() for name, of_images in losses.items()}
        assert not self.training, "detections are of a model in eval mode"
        return self.detect(images, cast(Sequence[tuple[int, int]], instances))

    def losses_per_image(
        self, images: Float[Tensor, "B 3 S W"], instances: Sequence[Instances]
    ) -> dict[str, Float[Tensor, "B"]]:
        """Losses of each image, weighted; 'masks' is that of the masks, all others are of boxes.

        In eval mode they are the same whenever they are taken, and in whatever batch that pads them no further.
        """
        levels = self.levels(images)
        return self._losses(levels, self.proposals.propose(levels, _sides(instances)), instances)

    def detect(self, images: Float[Tensor, "B 3 S W"], sides: Sequence[tuple[int, int]]) -> list[Detections]:
        """What is found in each image; scores are means over the stages, masks are of the last stage's boxes."""
        levels = self.levels(images)
        return self._detections(levels, self.proposals.propose(levels, sides)[0], sides)

    def test(
        self, images: Float[Tensor, "B 3 S W"], instances: Sequence[Instances]
    ) -> tuple[dict[str, Float[Tensor, "B"]], list[Detections]]:
        """The losses of each image and what is found in it, from one pass through the backbone."""
        levels, sides = self.levels(images), _sides(instances)
        proposed = self.proposals.propose(levels, sides)
        return self._losses(levels, proposed, instances), self._detections(levels, proposed[0], sides)

    def _losses(
        self, levels: Sequence[Tensor], proposals: Proposals, instances: Sequence[Instances]
    ) -> dict[str, Float[Tensor, "B"]]:
        proposed, logits, deltas = proposals
        sides = _sides(instances)
        losses = self.proposals.losses(levels, logits, deltas, instances)
        regions = [
            torch.cat([boxes, things.boxes[~things.crowd]]) for boxes, things in zip(proposed, instances, strict=True)
        ]
        first: BoxStage = self.stages[0]  # pyright: ignore[reportAssignmentType]
        matches = first.match(regions, instances)
        chosen = [sample(one, self.settings.sampled_regions, self.positives, self.training) for one in matches]
        regions = [boxes[numbers] for boxes, numbers in zip(regions, chosen, strict=True)]
        matches = [one[numbers] for one, numbers in zip(matches, chosen, strict=True)]

        pooled_from = [level.float() for level in levels]
        with_thing = [boxes[one >= 0] for boxes, one in zip(regions, matches, strict=True)]
        things_in = [one[one >= 0] for one in matches]
        losses["masks"] = self.masks.losses(self.pool_masks(pooled_from, with_thing), with_thing, things_in, instances)
        for number, (stage, (_, _, weight)) in enumerate(zip(self._stages, STAGES, strict=True), 1):
            if number > 1:
                matches = stage.match(regions, instances)
            logits, deltas = stage(self.pool(pooled_from, regions))
            of_classes, of_boxes = stage.losses(logits, deltas, regions, matches, instances)
            losses[f"stage{number}_classes"], losses[f"stage{number}_boxes"] = weight * of_classes, weight * of_boxes
            regions = stage.refine(regions, deltas, sides)
        return losses

    def _detections(
        self, levels: Sequence[Tensor], regions: list[Tensor], sides: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        pooled_from = [level.float() for level in levels]
        scores = []
        for stage in self._stages:
            logits, deltas = stage(self.pool(pooled_from, regions))
            scores.append(logits.softmax(1)[:, :-1])
            regions = stage.refine(regions, deltas, sides)
        mean_scores = torch.stack(scores).mean(0).split([len(one) for one in regions])
        kept = [best(*one) for one in zip(regions, mean_scores, strict=True)]
        pooled = self.pool_masks(pooled_from, [boxes for boxes, _, _ in kept]).split([len(one[0]) for one in kept])
        # Image by image: the maps of all at once are gigabytes, and slower.
        return [
            Detections(*one, masks=self.masks.of_classes(part, one[2]).sigmoid())
            for one, part in zip(kept, pooled, strict=True)
        ]

    def counted(self, images: Float[Tensor, "B 3 S W"]) -> list[Tensor]:
        """All outputs that a loss is taken of, for as many regions as training samples; on any device.

        Nothing depends on what is in the images, so that meta and fake tensors do: regions are whole images.
        """
        levels = self.levels(images)
        finest, stride = levels[0].float(), self.settings.strides[0]
        whole = torch.tensor([0.0, 0.0, images.shape[3], images.shape[2]], device=images.device)
        sampled = with_images([whole.expand(self.settings.sampled_regions, 4)] * len(images))
        positive = with_images([whole.expand(self.positives, 4)] * len(images))
        outputs = list(self.proposals.outputs(levels))
        for stage in self._stages:
            outputs += stage(self.pool.from_level(finest, sampled, stride))
        return [*outputs, self.masks(self.pool_masks.from_level(finest, positive, stride))]

    @property
    def positives(self) -> int:
        """Most regions with a thing that are sampled of an image."""
        return int(POSITIVE_SHARE * self.settings.sampled_regions)

    def levels(self, images: Float[Tensor, "B 3 S W"]) -> list[Float[Tensor, "B C _ _"]]:
        """The pyramid of images, which are padded to whole patches."""
        padded = pad_to_patches(images, int(self.backbone.patch_embed.patch_size[0]))
        (tokens,) = self.backbone.maps_after(padded, [self.backbone.depth - 1])
        return self.pyramid(tokens)

    @property
    def _stages(self) -> list[BoxStage]:
        return cast(list[BoxStage], list(self.stages))


def _sides(instances: Sequence[Instances]) -> list[tuple[int, int]]:
    return [things.sides for things in instances]


def build_detector(design: Design, backbone: Backbone, classes: int, settings: Detector) -> CascadeMaskRCNN:
    """A detector on a backbone, whose blocks attend in windows where the settings say so.

    Raises:
        UsageError: for windows in a backbone without attention.
    """
    if isinstance(backbone, DeiT):
        backbone.attention_window = settings.attention_window
    elif settings.attention_window is not None:
        raise UsageError(
            f"detector.attention_window: {design} has no attention, and its sequences need no windows; "
            "leave the key out, or use a deit design"
        )
    return CascadeMaskRCNN(backbone, classes, settings)


def best(
    boxes: Float[Tensor, "R 4"], scores: Float[Tensor, "R K"]
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N"], Tensor]:
    """Boxes, scores and classes of what is found in an image, best first, without repetitions within a class."""
    of_area = ((boxes[:, 2:] - boxes[:, :2]) > LEAST_SIDE).all(1)
    region, classes = ((scores > LEAST_SCORE) & of_area[:, None]).nonzero().T
    chosen = scores[region, classes]
    kept = batched_nms(boxes[region], chosen, classes, SUPPRESSED_IOU)[:MOST_DETECTIONS]
    return boxes[region[kept]], chosen[kept], classes[kept]
