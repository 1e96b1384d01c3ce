"""Patch embeddings and starting positions that DeiT and Adventurer share.

Shapes: B images, S and W input sides, L patch tokens, D width.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor


class ExtendedPatchEmbed(PatchEmbed):
    """Patch embedding whose tokens are interpolated to a finer grid: longer, without new information.

    The paper's control for sequence length (Section 4.3, Table 5, 'by extending').
    """

    def __init__(self, *args: Any, grid: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.grid_size = grid
        self.num_patches = grid[0] * grid[1]

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of images of other sides, stretched as much."""
        assert isinstance(self.img_size, tuple)
        own, found = super().dynamic_feat_size(self.img_size), super().dynamic_feat_size(img_size)
        rows, columns = (round(count * self.grid_size[0] / own[0]) for count in found)
        return rows, columns

    def forward(self, x: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B L D"]:
        """Tokens of images in row order."""
        tokens = F.interpolate(self.proj(x), size=grid_of(x, self), mode="bilinear")
        return tokens.flatten(2).transpose(1, 2)


def grid_of(images: Float[Tensor, "B 3 S W"], embedding: PatchEmbed) -> tuple[int, int]:
    """Rows and columns of the patch tokens of images, which may have other sides than the design's input."""
    height, width = images.shape[2:]
    assert embedding.grid_size is not None
    own = (height, width) == embedding.img_size
    return embedding.grid_size if own else embedding.dynamic_feat_size((height, width))


def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "L D"]:
    """The 2-D sine-cosine table (Chen et al. 2021, MoCo v3), in row order."""
    return build_sincos2d_pos_embed(list(grid), dim=width, interleave_sin_cos=False)
