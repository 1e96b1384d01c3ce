"""DeiT on timm's VisionTransformer (Touvron et al. 2021), for any patch and input size.

Shapes: B images, T tokens (class token first), L = T - 1 patches, D width, H heads, P head width.
"""

import importlib
from collections.abc import Sequence
from functools import cache, partial

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.layers.patch_embed import PatchEmbed
from timm.models import checkpoint  # pyright: ignore[reportPrivateImportUsage]
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from scaling.design import Design
from scaling.models.embedding import ExtendedPatchEmbed, grid_of, sincos_positions
from scaling.models.resampling import resample_positions
from scaling.models.windows import global_blocks, in_windows

NARROW = 192  # models narrower than the paper's start from weights scaled by their fan-in
HALF_PRECISION = (torch.float16, torch.bfloat16)


@cache
def has_flash_attention() -> bool:
    """Whether the flash-attn package is installed, and made for the installed torch."""
    try:
        importlib.import_module("flash_attn")
    except Exception:  # built for another torch or CUDA, it fails in many ways
        return False
    return True


class FlashAttention(Attention):
    """timm's attention, through flash-attn's packed kernel for half-precision CUDA tensors.

    Same parameters and results as timm's; anything else goes to scaled_dot_product_attention.
    """

    def forward(self, x: Float[Tensor, "B T D"], *args: object, **kwargs: object) -> Float[Tensor, "B T D"]:
        """Self-attention over all tokens."""
        autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") in HALF_PRECISION
        if not x.is_cuda or not (autocast or x.dtype in HALF_PRECISION):
            return super().forward(x, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        from flash_attn import flash_attn_qkvpacked_func  # pyright: ignore[reportMissingImports]

        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        return self.proj(flash_attn_qkvpacked_func(qkv, softmax_scale=self.scale).flatten(2))


class DeiT(VisionTransformer):
    """timm's VisionTransformer, whose class token comes first."""

    attention_window: int | None = None
    """Tokens per side that most blocks of a dense model attend in; the last block of each quarter sees all."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patch tokens."""
        return self.patch_embed.grid_size

    @property
    def depth(self) -> int:
        """Blocks."""
        return len(self.blocks)

    def maps_after(self, images: Float[Tensor, "B 3 S W"], blocks: Sequence[int]) -> list[Float[Tensor, "B D h w"]]:
        """Patch tokens after some blocks, counted from 0 and in increasing order, as maps; after the last one normed.

        In a dense model the images may have any sides that patches tile; positions are resampled to their grid.
        """
        grid = grid_of(images, self.patch_embed)
        positions: Tensor = self.pos_embed  # pyright: ignore[reportAssignmentType]
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)  # pyright: ignore[reportOptionalMemberAccess]
        tokens = tokens + resample_positions(positions, self.grid_size, grid, class_token_last=False)
        found, window, whole = [], self.attention_window, global_blocks(len(self.blocks))
        for index, block in enumerate(self.blocks):
            run = block if window is None or index in whole else partial(in_windows, block, grid=grid, window=window)
            tokens = checkpoint(run, tokens) if self.grad_checkpointing else run(tokens)
            if index in blocks:
                found.append(self.norm(tokens) if index == len(self.blocks) - 1 else tokens)
        return [tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid) for tokens in found]


def build_deit(design: Design, classes: int, drop_path: float = 0.0, position_init: str = "normal") -> DeiT:
    """A DeiT with learned positions; `classes` = 0 leaves out the classifier.

    Positions start from a truncated normal of 0.02, or for 'sincos' from the 2-D sine-cosine
    table, which helps small patches early in training; they are learned either way.
    """
    shape = design.shape
    model = DeiT(
        img_size=design.padded_sides,
        patch_size=design.patch_size,
        num_classes=classes,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_width / shape.width,
        drop_path_rate=drop_path,
        embed_layer=partial(ExtendedPatchEmbed, grid=design.grid) if design.extended_length else PatchEmbed,
        attn_layer=FlashAttention if has_flash_attention() else Attention,
    )
    if shape.width < NARROW:
        _start_by_fan_in(model)
    if position_init == "sincos":
        _start_from_sincos(model)
    return model


def _start_by_fan_in(model: DeiT) -> None:
    """Torch's default initialisation, standard deviation 1 / sqrt(3 fan-in), for every linear layer.

    At width 768 this is DeiT's constant 0.02; at width 64 the constant is 3.6 times smaller, and
    training is slower for it (docs/digits.md).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()


def _start_from_sincos(model: DeiT) -> None:
    with torch.no_grad():
        positions: Tensor = model.pos_embed  # pyright: ignore[reportAssignmentType]
        positions.zero_()
        positions[0, model.num_prefix_tokens :] = sincos_positions(model.grid_size, model.embed_dim)
