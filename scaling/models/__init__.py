"""Backbones and heads. Needs torch and timm (the extra 'train')."""

from torch import nn

from scaling.design import Design
from scaling.errors import UsageError
from scaling.models.deit import build_deit, has_flash_attention
from scaling.models.heads import LinearSegmenter

__all__ = ["LinearSegmenter", "build_deit", "build_model", "has_flash_attention"]


def build_model(
    design: Design,
    classes: int,
    label_sides: tuple[int, int] | None = None,
    drop_path: float = 0.0,
    position_init: str = "normal",
) -> nn.Module:
    """The model of a design: a classifier, or with a head one that labels every pixel.

    Args:
        design: what to build.
        classes: outputs.
        label_sides: height and width of the label maps of a dense head; by default the input's.
        drop_path: stochastic depth of the last block, rising linearly from the first.
        position_init: 'normal' or 'sincos', where learned positions start.

    Raises:
        UsageError: for an architecture that this version cannot build.
    """
    if design.architecture != "deit":
        raise UsageError(f"{design}: '{design.architecture}' cannot be built by this version; use deit designs")
    if design.head is None:
        return build_deit(design, classes, drop_path, position_init)
    backbone = build_deit(design, 0, drop_path, position_init)
    return LinearSegmenter(backbone, classes, label_sides or design.input_sides)
