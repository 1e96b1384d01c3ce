"""Backbones and heads. Needs torch and timm (the extra 'train')."""

from torch import nn

from scaling.design import Design, Detector, Flip, check_has_model
from scaling.models.adventurer import Adventurer, build_adventurer
from scaling.models.checkpoints import CheckpointError, design_of_checkpoint, load_checkpoint, save_checkpoint
from scaling.models.deit import DeiT, build_deit, has_flash_attention
from scaling.models.dense import DenseModel, backbone_of
from scaling.models.detection import CascadeMaskRCNN, build_detector
from scaling.models.heads import LinearSegmenter, Segmenter
from scaling.models.mamba2 import kernels_on
from scaling.models.plain import PlainBackbone, build_registered
from scaling.models.switching import Replaced, change_patch_size
from scaling.models.upernet import UperNet

__all__ = [
    "Adventurer",
    "CascadeMaskRCNN",
    "CheckpointError",
    "DeiT",
    "DenseModel",
    "LinearSegmenter",
    "PlainBackbone",
    "Replaced",
    "Segmenter",
    "UperNet",
    "backbone_of",
    "build_adventurer",
    "build_deit",
    "build_model",
    "change_patch_size",
    "design_of_checkpoint",
    "has_flash_attention",
    "kernels_on",
    "load_checkpoint",
    "save_checkpoint",
]


def build_model(
    design: Design,
    classes: int,
    label_sides: tuple[int, int] | None = None,
    drop_path: float = 0.0,
    position_init: str = "normal",
    flip: Flip = "alternate",
    auxiliary: bool = False,
    detector: Detector | None = None,
) -> nn.Module:
    """The model of a design: a classifier, or with a head one that labels every pixel or finds boxes and masks.

    Args:
        design: what to build.
        classes: outputs.
        label_sides: height and width of the label maps of a dense head; by default the input's.
        drop_path: stochastic depth of the last block, rising linearly from the first.
        position_init: 'normal' or 'sincos', where learned positions start.
        flip: which blocks of an Adventurer read backwards: 'alternate' or 'released'.
        auxiliary: whether UperNet has its second, small head.
        detector: settings of a detector; those for COCO by default.

    Raises:
        DesignError: for an architecture without a block, or windows in one without attention.
        ScalingError: if a registered block fails.
    """
    check_has_model(design)
    outputs = classes if design.head is None else 0
    if design.architecture == "deit":
        backbone = build_deit(design, outputs, drop_path, position_init)
    elif design.architecture == "adventurer":
        backbone = build_adventurer(design, outputs, drop_path, position_init, flip)
    else:
        backbone = build_registered(design, outputs, drop_path, position_init)
    if design.head is None:
        return backbone
    if design.head == "cascade":
        return build_detector(design, backbone, classes, detector or Detector())
    sides = label_sides or design.input_sides
    if design.head == "upernet":
        return UperNet(backbone, classes, sides, auxiliary)
    return LinearSegmenter(backbone, classes, sides)
