"""Adventurer (Wang et al. 2024, 'Adventurer: Optimizing Vision Mamba Architecture Designs'), for any patch and input.

Parameters have the names of the released code, so that its checkpoints load.
Shapes: B images, S and W input sides, L patches, T = L + 1 tokens with the class token last, D width.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.layers.patch_embed import PatchEmbed
from timm.models import checkpoint  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from scaling.design import Design, Flip
from scaling.models.embedding import ExtendedPatchEmbed, grid_of, sincos_positions
from scaling.models.mamba2 import Mamba2Mixer
from scaling.models.resampling import resample_positions
from scaling.models.rms_norm import RMSNorm

EPS = 1e-5
RELEASED_FLIPS = (2, 3)  # counted from 0, in the code released with the paper


class SwiGLU(nn.Module):
    """w3(silu(w1 x) * w2 x), with biases (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(width, hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Each token for itself."""
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class Block(nn.Module):
    """Mixer and SwiGLU, pre-norm; `flip` makes the mixer read the patches from the last to the first.

    A heading token, the mean of all tokens, goes first into the mixer, so that the first patches see
    what is to come (paper, Section 3).
    """

    def __init__(self, width: int, mlp_width: int, flip: bool, drop_path: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps=EPS)
        self.mixer = Mamba2Mixer(width, eps=EPS)
        self.norm_mlp = RMSNorm(width, eps=EPS)
        self.mlp = SwiGLU(width, mlp_width)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.flip = flip

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Tokens in the order of the patches, before and after."""
        normed = self.norm(tokens)
        read = reverse_patches(normed) if self.flip else normed
        mixed = self.mixer(torch.cat([normed.mean(1, keepdim=True), read], dim=1))[:, 1:]
        tokens = tokens + self.drop_path(reverse_patches(mixed) if self.flip else mixed)
        return tokens + self.drop_path(self.mlp(self.norm_mlp(tokens)))


def reverse_patches(tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """Patch tokens from the last to the first; the class token stays last."""
    return torch.cat([tokens[:, :-1].flip(1), tokens[:, -1:]], dim=1)


class Adventurer(nn.Module):
    """A stack of blocks over patch tokens in row order and a class token at their end.

    Args:
        design: sizes of model, patch and input.
        classes: outputs; 0 leaves out the classifier.
        flip: which blocks read backwards: 'alternate' every second one, as the paper's text says, or
            'released' those of the paper's code, which its checkpoints need.
        drop_path: stochastic depth of the last block, rising linearly from the first.
    """

    def __init__(self, design: Design, classes: int, flip: Flip = "alternate", drop_path: float = 0.0) -> None:
        super().__init__()
        shape = design.shape
        embedding = partial(ExtendedPatchEmbed, grid=design.grid) if design.extended_length else PatchEmbed
        self.embed_dim, self.grid_size = shape.width, design.grid
        self.patch_embed = embedding(design.padded_sides, design.patch_size, embed_dim=shape.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.empty(1, design.sequence_length + 1, shape.width))
        drops = torch.linspace(0, drop_path, shape.depth, device="cpu").tolist()
        self.layers = nn.ModuleList(
            Block(
                shape.width, shape.mlp_width, index % 2 == 1 if flip == "alternate" else index in RELEASED_FLIPS, drop
            )
            for index, drop in enumerate(drops)
        )
        self.norm_f = RMSNorm(shape.width, eps=EPS)
        self.head = nn.Linear(shape.width, classes) if classes else nn.Identity()
        self.flip, self.grad_checkpointing = flip, False
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Truncated normal 0.02 around the blocks; output projections of mixers smaller by sqrt(depth)."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        around = [self.patch_embed.proj.weight, self.cls_token, self.pos_embed]
        if isinstance(self.head, nn.Linear):
            around.append(self.head.weight)
        for parameter in around:
            nn.init.trunc_normal_(parameter, std=0.02)  # pyright: ignore[reportArgumentType]
        for layer in self.layers:
            projection: Tensor = layer.mixer.out_proj.weight  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
            nn.init.kaiming_uniform_(projection, a=math.sqrt(5)).div_(math.sqrt(len(self.layers)))

    @property
    def depth(self) -> int:
        """Blocks."""
        return len(self.layers)

    def forward_features(self, images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B T D"]:
        """All tokens after the last norm, the class token last."""
        (tokens,) = self._after_blocks(images, [len(self.layers) - 1])
        return tokens

    def maps_after(self, images: Float[Tensor, "B 3 S W"], blocks: Sequence[int]) -> list[Float[Tensor, "B D h w"]]:
        """Patch tokens after some blocks, counted from 0 and in increasing order, as maps; after the last one normed.

        In a dense model the images may have any sides that patches tile; positions are resampled to their grid.
        """
        grid = grid_of(images, self.patch_embed)
        return [tokens[:, :-1].transpose(1, 2).unflatten(2, grid) for tokens in self._after_blocks(images, blocks)]

    def _after_blocks(self, images: Float[Tensor, "B 3 S W"], blocks: Sequence[int]) -> list[Float[Tensor, "B T D"]]:
        """All tokens after some blocks, after the last one normed."""
        patches, grid = self.patch_embed(images), grid_of(images, self.patch_embed)
        tokens = torch.cat([patches, self.cls_token.expand(len(patches), -1, -1).to(patches.dtype)], dim=1)
        tokens = tokens + resample_positions(self.pos_embed, self.grid_size, grid, class_token_last=True)
        found = []
        for index, layer in enumerate(self.layers):
            tokens = checkpoint(layer, tokens) if self.grad_checkpointing else layer(tokens)
            if index in blocks:
                found.append(self.norm_f(tokens) if index == len(self.layers) - 1 else tokens)
        return found

    def forward(self, images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B K"]:
        """Logits, read from the class token."""
        return self.head(self.forward_features(images)[:, -1])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the input of each block, and run blocks again in backward."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names from the input to the output, as timm's layer decay asks for them."""
        blocks = r"^layers\.(\d+)"
        return {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": [(blocks, None), (r"^norm_f", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are never decayed; those with one dimension are not either."""
        return {"cls_token", "pos_embed"}


def build_adventurer(
    design: Design,
    classes: int,
    drop_path: float = 0.0,
    position_init: str = "normal",
    flip: Flip = "alternate",
) -> Adventurer:
    """An Adventurer with learned positions; `classes` = 0 leaves out the classifier.

    Positions start from a truncated normal of 0.02, or for 'sincos' from the 2-D sine-cosine table,
    with zeros for the class token.
    """
    model = Adventurer(design, classes, flip, drop_path)
    if position_init == "sincos":
        with torch.no_grad():
            model.pos_embed.zero_()
            model.pos_embed[0, :-1] = sincos_positions(design.grid, model.embed_dim)
    return model
