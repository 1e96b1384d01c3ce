"""Closed-form cost of DeiT with a classifier or a linear segmentation head.

Symbols: L patch tokens, T = L + 1 with the class token, d width, m MLP width, h heads, p patch
size, k classes. One multiply-add is 2 FLOPs; matrix and convolution products only (norms, GELU
and softmax are under 2 % of the forward pass). Checked against counts on the model in tests/cost.
"""

from dataclasses import dataclass

from scaling.design import Design

CHANNELS = 3
ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters by part; they sum to the total."""

    patch_embedding: int
    class_token: int
    positions: int
    blocks: int
    final_norm: int
    head: int

    @property
    def total(self) -> int:
        """All trained parameters."""
        return self.without_positions + self.positions

    @property
    def without_positions(self) -> int:
        """Without the position table, which grows as 1 / p^2."""
        return self.patch_embedding + self.class_token + self.head + self.without_embedding_and_head

    @property
    def without_embedding_and_head(self) -> int:
        """Blocks and final norm only."""
        return self.blocks + self.final_norm


def parameters(design: Design, classes: int) -> Parameters:
    """Parameters of a DeiT design; a block has 4 d^2 + 2 d m + 9 d + m."""
    d, m, depth = design.shape.width, design.shape.mlp_width, design.shape.depth
    return Parameters(
        patch_embedding=CHANNELS * design.patch_size**2 * d + d,
        class_token=d,
        positions=(design.sequence_length + 1) * d,
        blocks=depth * (4 * d * d + 2 * d * m + 9 * d + m),
        final_norm=2 * d,
        head=classes * d + classes,
    )


def patch_embedding_flops(design: Design) -> int:
    """2 L (3 p^2) d: a convolution whose stride is its kernel."""
    return 2 * design.sequence_length * CHANNELS * design.patch_size**2 * design.shape.width


def block_flops(design: Design) -> int:
    """Per block, 8 T d^2 (projections) + 4 T d m (MLP) + 4 T^2 d (scores and their product with V)."""
    tokens, d, m = design.sequence_length + 1, design.shape.width, design.shape.mlp_width
    return 8 * tokens * d * d + 4 * tokens * d * m + 4 * tokens * tokens * d


def head_flops(design: Design, classes: int) -> int:
    """2 d k per token that the head reads: the class token, or every patch token."""
    read = design.sequence_length if design.head else 1
    return 2 * read * design.shape.width * classes


def forward_flops(design: Design, classes: int) -> int:
    """Forward FLOPs per image."""
    return patch_embedding_flops(design) + design.shape.depth * block_flops(design) + head_flops(design, classes)


def training_flops(design: Design, classes: int) -> int:
    """Forward and backward FLOPs per image: 3 x forward, less the unneeded gradient of the image."""
    return 3 * forward_flops(design, classes) - patch_embedding_flops(design)


def activation_bytes(design: Design, classes: int, label_pixels: int, precision: str) -> int:
    """Bytes autograd saves for backward per image, with fused attention, up to the loss.

    With e bytes per element (2 under autocast), a block keeps per token: the inputs of both norms
    in fp32 (8d) and their statistics (16); inputs of the qkv projection, of the output projection
    and of the MLP (3 e d), q, k and v (3 e d); GELU's input and output (2 e m); log-sum-exp (4h).
    The cast copy of the image and what the head and the cross-entropy keep are added.
    """
    e, tokens = ELEMENT_BYTES[precision], design.sequence_length + 1
    d, m, h = design.shape.width, design.shape.mlp_width, design.shape.heads
    block = tokens * (8 * d + 16 + 6 * e * d + 2 * e * m + 4 * h)
    image = e * CHANNELS * design.input_size**2
    final_norm = tokens * (4 * d + 8)
    # A dense head reads the patches; a classifier's fp32 input is a view that keeps all tokens alive.
    read = design.sequence_length if design.head else tokens if e == 4 else 1
    loss = label_pixels * (4 * classes + 8)
    return image + design.shape.depth * block + final_norm + e * d * read + loss
