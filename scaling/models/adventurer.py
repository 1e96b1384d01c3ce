"""Adventurer (Wang et al. 2024, 'Adventurer: Optimizing Vision Mamba Architecture Designs'), for any patch and input.

Parameters have the names of the released code, so that its checkpoints load.
Shapes: B images, T tokens with the class token last, D width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn

from scaling.design import Design, Flip
from scaling.models.mamba2 import Mamba2Mixer
from scaling.models.plain import PlainBackbone
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


class Adventurer(PlainBackbone):
    """Mamba-2 mixers and SwiGLUs over patch tokens in row order and a class token at their end.

    Args:
        design: sizes of model, patch and input.
        classes: outputs; 0 leaves out the classifier.
        flip: which blocks read backwards: 'alternate' every second one, as the paper's text says, or
            'released' those of the paper's code, which its checkpoints need.
        drop_path: stochastic depth of the last block, rising linearly from the first.
    """

    def __init__(self, design: Design, classes: int, flip: Flip = "alternate", drop_path: float = 0.0) -> None:
        shape = design.shape

        def block(index: int, drop: float) -> Block:
            flipped = index % 2 == 1 if flip == "alternate" else index in RELEASED_FLIPS
            return Block(shape.width, shape.mlp_width, flipped, drop)

        super().__init__(design, classes, block, RMSNorm(shape.width, eps=EPS), drop_path)
        self.flip = flip
        self.start_blocks()

    @torch.no_grad()
    def start_blocks(self) -> None:
        """No biases of linear layers; output projections of mixers smaller by sqrt(depth)."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for layer in self.layers:
            projection: Tensor = layer.mixer.out_proj.weight  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
            nn.init.kaiming_uniform_(projection, a=math.sqrt(5)).div_(math.sqrt(len(self.layers)))


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
        model.start_from_sincos()
    return model
