"""Changing a model's patch size in place, between two steps of its training."""

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from scaling.models.dense import backbone_of
from scaling.models.plain import PlainBackbone
from scaling.models.resampling import resample_positions, resize_patches

Replaced = dict[nn.Parameter, nn.Parameter]
"""Parameters of a model, and those that took their places."""


def change_patch_size(model: nn.Module, patch_size: int) -> Replaced:
    """Fit a model to another patch size; its input size and all other parameters stay.

    The patch kernel is resized by pseudo-inverse (Beyer et al. 2023, 'FlexiViT'), and positions are resampled to the
    new grid, as for a checkpoint of another patch size. So a token of a smaller patch starts near that of the larger
    patch around it, and for smooth images the model's outputs nearly stay.

    Args:
        model: a backbone, or a dense model on one; not with extended tokens.
        patch_size: pixels per side; divides the input.

    Returns:
        The two parameters that were replaced, for the optimiser.
    """
    backbone = backbone_of(model)
    before, old_grid = backbone.patch_embed, backbone.grid_size
    kernel, positions = before.proj.weight, backbone.pos_embed
    assert isinstance(kernel, nn.Parameter)
    assert isinstance(positions, nn.Parameter)
    with torch.device("meta"):  # no memory, and no draw from the random state
        after = PatchEmbed(before.img_size, patch_size, embed_dim=backbone.embed_dim)
    assert after.grid_size is not None
    after.strict_img_size = before.strict_img_size
    last = isinstance(backbone, PlainBackbone)
    after.proj.weight = nn.Parameter(resize_patches(kernel.detach(), patch_size, "flexivit"))
    after.proj.bias = before.proj.bias
    backbone.patch_embed = after
    backbone.pos_embed = nn.Parameter(resample_positions(positions.detach(), old_grid, after.grid_size, last))
    if isinstance(backbone, PlainBackbone):
        backbone.grid_size = after.grid_size
    return {kernel: after.proj.weight, positions: backbone.pos_embed}
