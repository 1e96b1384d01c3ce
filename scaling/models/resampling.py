"""Fitting weights to another grid of patches: position embeddings and patch kernels.

Shapes: L patch tokens, D width, p and q sides of a patch.
"""

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from scaling.design import PatchResize


def resample_positions(
    positions: Float[Tensor, "1 T D"], old_grid: tuple[int, int], new_grid: tuple[int, int], class_token_last: bool
) -> Float[Tensor, "1 U D"]:
    """Interpolate the patches' positions to another grid (bicubic, anti-aliased); the class token keeps its own.

    Args:
        positions: of the patches in row order, and of the class token before or after them.
        old_grid: rows and columns they were learned for.
        new_grid: rows and columns wanted.
        class_token_last: where the class token is; Adventurer's is last, DeiT's first.
    """
    if old_grid == new_grid:
        return positions
    if not class_token_last:
        return resample_abs_pos_embed(positions, list(new_grid), list(old_grid), num_prefix_tokens=1)
    turned = positions.roll(1, dims=1)
    return resample_abs_pos_embed(turned, list(new_grid), list(old_grid), num_prefix_tokens=1).roll(-1, dims=1)


def resize_patches(kernel: Float[Tensor, "D 3 p p"], patch_size: int, how: PatchResize) -> Float[Tensor, "D 3 q q"]:
    """A patch embedding's kernel for another patch size.

    'flexivit' is the pseudo-inverse resize, which keeps the tokens of an image that is resized with
    its patches (Beyer et al. 2023, 'FlexiViT', Section 3.4); 'bicubic' interpolates the kernel itself.
    """
    if how == "flexivit":
        return resample_patch_embed(kernel, [patch_size, patch_size])
    return F.interpolate(kernel.float(), (patch_size, patch_size), mode="bicubic", antialias=True).to(kernel.dtype)
