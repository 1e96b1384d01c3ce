"""Typed breakdowns: every quantity by term, and a total that is their sum."""

from dataclasses import dataclass, fields
from typing import Any

from scaling.cost.shapes import Count


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Terms of one quantity in one unit."""

    @property
    def total(self) -> Count:
        """Sum of all terms."""
        return sum(self.terms().values())

    def terms(self) -> dict[str, Any]:
        """Each term by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Parameters(Breakdown):
    """Trained parameters by part."""

    patch_embedding: Count
    class_token: Count
    positions: Count
    mixer: Count
    mlp: Count
    norms: Count
    final_norm: Count
    head: Count

    @property
    def blocks(self) -> Count:
        """Mixers, MLPs and norms of all blocks."""
        return self.mixer + self.mlp + self.norms

    @property
    def without_positions(self) -> Count:
        """Without the position table, which grows as 1 / p^2."""
        return self.total - self.positions

    @property
    def without_embedding_and_head(self) -> Count:
        """Blocks and final norm: without patch embedding, class token, positions and head."""
        return self.blocks + self.final_norm


@dataclass(frozen=True, slots=True)
class Flops(Breakdown):
    """FLOPs of matrix and convolution products by term; one multiply-add is 2 FLOPs."""

    patch_embedding: Count = 0
    projections: Count = 0
    attention: Count = 0
    scan: Count = 0
    convolution: Count = 0
    mlp: Count = 0
    head: Count = 0


@dataclass(frozen=True, slots=True)
class ElementwiseFlops(Breakdown):
    """FLOPs of the forward pass outside products, one per addition, multiplication or function call."""

    norms: Count
    activations: Count
    softmax: Count
    residuals: Count


@dataclass(frozen=True, slots=True)
class CommunicationBytes(Breakdown):
    """Bytes that each GPU sends per optimiser step, by collective."""

    all_reduce: Count = 0
    all_gather: Count = 0
    reduce_scatter: Count = 0


@dataclass(frozen=True, slots=True)
class SavedBytes(Breakdown):
    """Bytes that autograd keeps for backward, per image, by what keeps them."""

    image: Count
    block_inputs: Count
    mixer: Count
    mlp: Count
    norms: Count
    final_norm: Count
    head: Count
    loss: Count


@dataclass(frozen=True, slots=True)
class StateBytes(Breakdown):
    """Bytes that do not depend on the batch: fp32 weights, gradients, AdamW's moments, EMA, 16-bit copies.

    `gathered` is what FSDP holds whole beside its share.
    """

    weights: Count
    gradients: Count
    optimizer: Count
    ema: Count
    casts: Count
    gathered: Count = 0


@dataclass(frozen=True, slots=True)
class BlockParameters(Breakdown):
    """Parameters of one block by part."""

    mixer: Count
    mlp: Count
    norms: Count


@dataclass(frozen=True, slots=True)
class BlockSaved(Breakdown):
    """Bytes one block keeps for backward, per image."""

    mixer: Count
    mlp: Count
    norms: Count
