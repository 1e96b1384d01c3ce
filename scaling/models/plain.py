"""A plain backbone: patch embedding, class token, positions, equal blocks, final norm, classifier.

What one block is, an architecture says; everything else is the same for all and is here, as its costs are in
`scaling.cost.Backbone`.
Shapes: B images, S and W input sides, L patches, T = L + 1 tokens with the class token last, D width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.models import checkpoint  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from scaling.design import Design, find_architecture
from scaling.design.plugins import origin_of, told_of
from scaling.errors import ScalingError
from scaling.models.embedding import ExtendedPatchEmbed, grid_of, sincos_positions
from scaling.models.resampling import resample_positions


class PlainBackbone(nn.Module):
    """A stack of blocks over patch tokens in row order and a class token at their end.

    Args:
        design: sizes of model, patch and input.
        classes: outputs; 0 leaves out the classifier.
        block: makes the block of a number, counted from 0, with a rate of stochastic depth.
        norm: the final norm.
        drop_path: stochastic depth of the last block, rising linearly from the first.
    """

    def __init__(
        self,
        design: Design,
        classes: int,
        block: Callable[[int, float], nn.Module],
        norm: nn.Module,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        shape = design.shape
        embedding = partial(ExtendedPatchEmbed, grid=design.grid) if design.extended_length else PatchEmbed
        self.embed_dim, self.grid_size = shape.width, design.grid
        self.patch_embed = embedding(design.padded_sides, design.patch_size, embed_dim=shape.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.empty(1, design.sequence_length + 1, shape.width))
        drops = torch.linspace(0, drop_path, shape.depth, device="cpu").tolist()
        self.layers = nn.ModuleList(block(index, drop) for index, drop in enumerate(drops))
        self.norm_f = norm
        self.head = nn.Linear(shape.width, classes) if classes else nn.Identity()
        self.grad_checkpointing = False
        self.start_around_blocks()

    @torch.no_grad()
    def start_around_blocks(self) -> None:
        """Truncated normal 0.02 around the blocks, and no bias of the classifier."""
        around = [self.patch_embed.proj.weight, self.cls_token, self.pos_embed]
        if isinstance(self.head, nn.Linear):
            around.append(self.head.weight)
            nn.init.zeros_(self.head.bias)
        for parameter in around:
            nn.init.trunc_normal_(parameter, std=0.02)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def start_from_sincos(self) -> None:
        """Positions from the 2-D sine-cosine table, with zeros for the class token."""
        self.pos_embed.zero_()
        self.pos_embed[0, :-1] = sincos_positions(self.grid_size, self.embed_dim)

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


def build_registered(design: Design, classes: int, drop_path: float, position_init: str) -> PlainBackbone:
    """The model of an architecture that was registered with a block, and a LayerNorm after the last.

    Raises:
        ScalingError: if the block cannot be built, does not run, or does not keep the shape of its tokens.
    """
    make = find_architecture(design.architecture).block
    assert make is not None
    _try_block(design, make)
    norm = nn.LayerNorm(design.shape.width)
    model = PlainBackbone(design, classes, lambda _, drop: make(design, drop), norm, drop_path)
    if position_init == "sincos":
        model.start_from_sincos()
    return model


def _try_block(design: Design, make: Callable[[Design, float], nn.Module]) -> None:
    """Run one block on tokens without content, so that what is wrong with it is known before anything is trained."""
    whose = f"{design}: the block of {origin_of(design.architecture)}"
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        tokens = torch.zeros(2, design.sequence_length + 1, design.shape.width)
        try:
            found = make(design, 0.0)(tokens)
        except Exception as error:  # code of others fails in any way
            told = told_of(error, design.architecture)
            raise ScalingError(f"{whose} fails on tokens of shape {tuple(tokens.shape)}: {told}") from error
    if not isinstance(found, Tensor) or found.shape != tokens.shape:
        made = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ScalingError(f"{whose} makes {made} of tokens of shape {tuple(tokens.shape)}; it must keep the shape")
