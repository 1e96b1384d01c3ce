"""How a batch of sequences is cut: into groups of images, chunks of tokens, and blocks of a chunk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scaling.models.mamba2.workspace import Workspace

CHUNK = 256
"""Tokens of a chunk, the paper's and mamba-ssm's; FLOPs are counted for it, and its borders' states are kept."""
BLOCK = 64
"""Tokens of a block at most: below it products are too small, above it scores outgrow the states."""
Shape: TypeAlias = Sequence[int]
GROUP_ELEMENTS = {"cpu": 2**19, "cuda": 2**23}
"""Inner channels x tokens of a chunk x images worked on at once: what a CPU's cache, or a GPU's memory, holds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, stop) of a chunk, cut into blocks of equal size, the last one padded."""

    start: int
    stop: int
    blocks: int
    block_length: int

    @property
    def length(self) -> int:
        """Tokens of the chunk."""
        return self.stop - self.start

    def cut(self, tokens: Float[Tensor, "b l *rest"], space: Workspace) -> Float[Tensor, "b n q *rest"]:
        """The blocks of the chunk's tokens, the last filled up with zeros."""
        padded = self.blocks * self.block_length
        if padded != self.length:
            filled = space.empty(len(tokens), padded, *tokens.shape[2:])
            filled[:, : self.length] = tokens
            filled[:, self.length :] = 0
            tokens = filled
        return tokens.unflatten(1, (self.blocks, self.block_length))


def spans_of(length: int) -> list[Span]:
    """The chunks of a sequence."""
    spans = []
    for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        blocks = math.ceil((stop - start) / BLOCK)
        spans.append(Span(start, stop, blocks, math.ceil((stop - start) / blocks)))
    return spans


def image_groups(tokens: Float[Tensor, "B L *rest"], channels: int) -> list[slice]:
    """Slices of the batch that are worked on one after the other; `channels` are the inner ones."""
    batch, length = tokens.shape[:2]
    limit = GROUP_ELEMENTS.get(tokens.device.type, GROUP_ELEMENTS["cpu"])
    size = max(1, limit // (min(length, CHUNK) * channels))
    return [slice(start, start + size) for start in range(0, batch, size)]


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Type of all arithmetic inside the scan: float32 for 16-bit inputs too."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def scan_flops(length: int, inner: int, state: int) -> int:
    """FLOPs of the dual form with whole squares of `CHUNK` tokens, whatever blocks a device works in.

    C B^T and its product with x inside a chunk, and the states' making and reading.
    """
    lengths = [span.length for span in spans_of(length)]
    return sum(2 * tokens**2 * (state + inner) + 4 * tokens * state * inner for tokens in lengths)
