"""Our pyramid and heads against torchvision's Mask R-CNN on a feature pyramid network; for benchmarks.heads.

Both get maps instead of images, and send gradients back to them: ours patch tokens at one stride, torchvision's as
many channels at strides 4 to 32. Equal are the channels of the pyramid, its five levels, anchors, proposals, sampled
regions, hidden channels and things. There are as many things as regions with a thing are sampled, so that both heads of
masks see as many. All else is torchvision's default.
"""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from benchmarks.pages import Table, in_turn, ratio
from scaling.design import Design, Detector
from scaling.models import CascadeMaskRCNN, build_deit
from scaling.models.detection import detector
from scaling.models.detection.proposals import ANCHOR_STRIDES, RATIOS
from scaling.scenes import Instances

DESIGNS = ("deit-tiny/16@256", "deit-tiny/16@512", "deit-base/16@256")
SETTINGS, CLASSES, STAGES = Detector(), 80, detector.STAGES
THINGS = int(detector.POSITIVE_SHARE * SETTINGS.sampled_regions)
ROUNDS = 2


class Heads(CascadeMaskRCNN):
    """A detector that is given patch tokens."""

    def levels(self, images: Tensor) -> list[Tensor]:
        return self.pyramid(images)


def stages(count: int) -> AbstractContextManager[object]:
    return patch.object(detector, "STAGES", STAGES[:count])


def ours(design: Design, things: Instances, count: int) -> Callable[[], None]:
    """A step with so many stages."""
    with stages(count):
        model = Heads(build_deit(design, 0), CLASSES, SETTINGS).train()
    tokens = torch.randn(1, design.shape.width, *design.grid, requires_grad=True)

    def step() -> None:
        with stages(count):
            losses = model(tokens, [things])
        torch.stack(list(losses.values())).sum().backward()

    return step


def theirs(design: Design, things: Instances) -> Callable[[], None]:
    """A step of torchvision's, from maps instead of images."""
    width, channels = design.shape.width, min(detector.WIDEST, design.shape.width)
    strides, hidden = SETTINGS.strides[:-1], 4 * channels
    pyramid = FeaturePyramidNetwork([width] * len(strides), channels, LastLevelMaxPool())
    pyramid.out_channels = channels  # pyright: ignore[reportArgumentType] what torchvision asks of a backbone
    sizes = tuple((ANCHOR_STRIDES * stride,) for stride in SETTINGS.strides)
    model = MaskRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        rpn_pre_nms_top_n_train=2 * SETTINGS.proposals,
        rpn_post_nms_top_n_train=SETTINGS.proposals,
        box_head=TwoMLPHead(channels * 7**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, CLASSES + 1),
        box_batch_size_per_image=SETTINGS.sampled_regions,
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, dilation=1),
        mask_predictor=MaskRCNNPredictor(channels, channels, CLASSES + 1),
    ).train()
    height, across = design.input_sides
    maps = {
        str(level): torch.randn(1, width, height // stride, across // stride, requires_grad=True)
        for level, stride in enumerate(strides)
    }
    images = ImageList(torch.empty(1, 3, height, across), [(height, across)])
    targets = [{"boxes": things.boxes, "labels": things.classes + 1, "masks": things.masks.byte()}]

    def step() -> None:
        levels = model.backbone(maps)
        proposals, losses = model.rpn(images, levels, targets)
        _, of_regions = model.roi_heads(levels, proposals, images.image_sizes, targets)
        torch.stack([*losses.values(), *of_regions.values()]).sum().backward()

    return step


def things_in(sides: tuple[int, int]) -> Instances:
    """Boxes from a thirtieth to a third of an image's sides, full of their things."""
    extent = torch.tensor(sides).flip(0)
    size = extent * torch.empty(THINGS, 2).uniform_(1 / 30, 1 / 3)
    corner = (extent - size) * torch.rand(THINGS, 2)
    boxes = torch.cat([corner, corner + size], 1)
    masks = torch.zeros(THINGS, *sides, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    classes, crowd = torch.randint(CLASSES, (THINGS,)), torch.zeros(THINGS, dtype=torch.bool)
    return Instances(boxes, classes, masks, crowd, sides, 0, sides)


def comparison() -> Table:
    rows = []
    for name in DESIGNS:
        torch.manual_seed(0)
        design = Design.parse(name)
        things = things_in(design.input_sides)
        steps = {
            "one": ours(design, things, 1),
            "three": ours(design, things, len(STAGES)),
            "torchvision": theirs(design, things),
        }
        taken = in_turn(steps, ROUNDS)
        seconds = [f"{statistics.median(times):.2f}" for times in taken.values()]
        ratios = [ratio(taken[each], taken["torchvision"]) for each in ("one", "three")]
        rows.append((name, *seconds, *ratios))
        print(*rows[-1], flush=True)
    heading = (
        f"A step of pyramid and heads, one image with {THINGS} things, forward and backward; target: at most 1.2 "
        "times torchvision's Mask R-CNN, which has one stage of boxes"
    )
    names = ("one stage", "three stages", "torchvision")
    return (
        heading,
        ("tokens of", *(f"{name}, s" for name in names), *(f"{name} / torchvision" for name in names[:2])),
        rows,
    )
