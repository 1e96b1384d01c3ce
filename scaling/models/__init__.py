"""Backbones and heads. Needs torch and timm (the extra 'train')."""

from torch import nn

from scaling.design import Design, DigitsData, Recipe
from scaling.errors import UsageError
from scaling.models.deit import build_deit, has_flash_attention
from scaling.models.heads import LinearSegmenter

__all__ = ["LinearSegmenter", "build_deit", "build_model", "has_flash_attention"]


def build_model(design: Design, data: DigitsData, recipe: Recipe) -> nn.Module:
    """The model of a cell, ready for the task of its data.

    Raises:
        UsageError: for an architecture that this version cannot build.
    """
    if design.architecture != "deit":
        raise UsageError(f"{design}: '{design.architecture}' cannot be built by this version; use deit designs")
    if data.task == "classification":
        return build_deit(design, data.classes, recipe.drop_path, recipe.position_init)
    backbone = build_deit(design, 0, recipe.drop_path, recipe.position_init)
    return LinearSegmenter(backbone, data.classes, label_side=data.canvas)
