"""A plain backbone: patch embedding, positions, equal blocks, final norm, head.

An architecture says what one block costs; everything else is the same for all and is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from scaling.cost import terms
from scaling.cost.breakdowns import (
    BlockParameters,
    BlockSaved,
    Breakdown,
    ElementwiseFlops,
    Flops,
    Parameters,
    SavedBytes,
    StateBytes,
)
from scaling.cost.heads import find_head
from scaling.cost.shapes import Count, Execution, Head, Shape, larger

WEIGHT_BYTES = 4  # fp32 master weights under every precision
MOMENT_BYTES = 8  # AdamW's two fp32 moments
TRAFFIC_PASSES = 5
GLOBAL_BLOCKS = 4  # of a detector that attends in windows: the last of each quarter


class Backbone(ABC):
    """The costs of one block of an architecture; the base class adds up the model.

    Counts are per image and per block. What most blocks share is here: LayerNorms before a mixer and a GELU MLP of the
    shape's width, each added to the stream, and nothing computed again in backward; an architecture that differs says
    so. Subclasses are stateless; `register_architecture` makes one known.
    """

    @abstractmethod
    def block_parameters(self, shape: Shape) -> BlockParameters:
        """Parameters of a block."""

    @abstractmethod
    def block_flops(self, shape: Shape) -> Flops:
        """Products of a block's forward pass."""

    @abstractmethod
    def block_saved_bytes(self, shape: Shape, execution: Execution) -> BlockSaved:
        """Bytes that autograd keeps of a block."""

    def uncast_parameters(self, shape: Shape) -> Count:
        """Those of a block that autocast never copies to 16 bits: norms, and what enters no product."""
        return self.block_parameters(shape).norms

    def final_norm_parameters(self, shape: Shape) -> Count:
        """Parameters of the norm before the head."""
        return terms.layer_norm_parameters(shape.width)

    def block_elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        """Elementwise work of a block's forward pass, which is never part of the headline."""
        T, d = shape.tokens + 1, shape.width
        return ElementwiseFlops(
            norms=2 * terms.LAYER_NORM * T * d,
            activations=terms.GELU * T * shape.mlp_width,
            softmax=0 * T,
            residuals=2 * terms.RESIDUAL * T * d,
        )

    def final_norm_elementwise_flops(self, shape: Shape) -> Count:
        """Elementwise work of the norm before the head."""
        return terms.LAYER_NORM * (shape.tokens + 1) * shape.width

    def recomputed_block_flops(self, shape: Shape, execution: Execution) -> Flops:
        """Products that the block's kernels do a second time in backward."""
        return Flops()

    def final_norm_saved_bytes(self, shape: Shape) -> Count:
        """Bytes that autograd keeps of the norm before the head."""
        return terms.layer_norm_bytes(shape)

    def transient_bytes(self, shape: Shape, execution: Execution) -> Count:
        """Gradients alive at the peak, above what is saved: of the residual stream and the widest layer."""
        T = shape.tokens + 1
        return 4 * T * shape.width + execution.element_bytes * T * shape.mlp_width

    def parameters(self, shape: Shape, head: Head) -> Parameters:
        """Parameters of the whole model by part."""
        block = self.block_parameters(shape)
        return Parameters(
            patch_embedding=terms.patch_embedding_parameters(shape),
            class_token=shape.width,
            positions=terms.position_parameters(shape),
            mixer=shape.depth * block.mixer,
            mlp=shape.depth * block.mlp,
            norms=shape.depth * block.norms,
            final_norm=self.final_norm_parameters(shape),
            head=find_head(head).parameters(shape, head),
        )

    def forward_flops(self, shape: Shape, head: Head) -> Flops:
        """Products of the forward pass of one image."""
        blocks = over_blocks(shape, head, self.block_flops)
        embedding = terms.patch_embedding_flops(shape)
        return Flops(**blocks | {"patch_embedding": embedding, "head": find_head(head).flops(shape, head)})

    def training_flops(self, shape: Shape, head: Head) -> Flops:
        """Forward and backward: 3 x forward for every product, 2 x for the patch embedding.

        The backward of a product is two products of its size; the image needs no gradient.
        """
        forward = self.forward_flops(shape, head)
        return Flops(**_times(3, forward) | {"patch_embedding": 2 * forward.patch_embedding})

    def recomputed_flops(self, shape: Shape, head: Head, execution: Execution) -> Flops:
        """Products done again in backward: inside fused kernels, and of whole checkpointed blocks."""
        blocks = over_blocks(shape, head, lambda part: self.recomputed_block_flops(part, execution))
        if execution.checkpointing:
            again = over_blocks(shape, head, self.block_flops)
            blocks = {name: count + again[name] for name, count in blocks.items()}
        return Flops(**blocks)

    def elementwise_flops(self, shape: Shape, head: Head) -> ElementwiseFlops:
        """Elementwise work of the forward pass of one image."""
        blocks = over_blocks(shape, head, self.block_elementwise_flops)
        norms = blocks["norms"] + self.final_norm_elementwise_flops(shape)
        return ElementwiseFlops(**blocks | {"norms": norms})

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> SavedBytes:
        """Bytes autograd keeps for backward of one image, up to the loss.

        With checkpointing each block keeps its fp32 input only.
        """
        blocks = over_blocks(shape, head, lambda part: self.block_saved_bytes(part, execution))
        kept = 1 - execution.checkpointing
        inputs = 4 * (shape.tokens + 1) * shape.width * shape.depth if execution.checkpointing else 0
        return SavedBytes(
            image=terms.image_bytes(shape, execution),
            block_inputs=inputs,
            **{name: kept * count for name, count in blocks.items()},
            final_norm=self.final_norm_saved_bytes(shape),
            head=find_head(head).saved_bytes(shape, head, execution),
            loss=find_head(head).loss_bytes(shape, head),
        )

    def peak_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Bytes per image at the peak of a training step.

        What is saved, the fp32 image beside its 16-bit copy, and the larger of what is in flight in the head and in
        the blocks: gradients, and with checkpointing one block run again.
        """
        again = self.block_saved_bytes(shape, execution).total if execution.checkpointing else 0
        image = terms.IMAGE_BYTES * shape.pixels * execution.autocast
        saved = self.saved_bytes(shape, head, execution).total
        in_head = find_head(head).transient_bytes(shape, head, execution)
        return saved + image + larger(again + self.transient_bytes(shape, execution), in_head)

    def state_bytes(self, shape: Shape, head: Head, execution: Execution) -> StateBytes:
        """Bytes of weights, gradients, AdamW's moments, EMA and autocast's 16-bit copies of weights."""
        parameters = self.parameters(shape, head)
        uncast = parameters.positions + parameters.class_token + parameters.final_norm
        cast = parameters.total - uncast - shape.depth * self.uncast_parameters(shape)
        return StateBytes(
            weights=WEIGHT_BYTES * parameters.total,
            gradients=WEIGHT_BYTES * parameters.total,
            optimizer=MOMENT_BYTES * parameters.total,
            ema=WEIGHT_BYTES * parameters.total * execution.ema,
            casts=execution.element_bytes * cast * execution.autocast,
        )

    def traffic_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Bytes that memory-bound kernels move for one image, a rule of thumb for the roofline only.

        What autograd saves is written, read by the next operation, read again in backward, and its
        gradient written and read: 5 passes. A checkpointed block runs forward once more: 2 passes.
        """
        everything = replace(execution, checkpointing=False)
        passes = TRAFFIC_PASSES + 2 * execution.checkpointing
        return passes * self.saved_bytes(shape, head, everything).total


def over_blocks(shape: Shape, head: Head, of_block: Callable[[Shape], Breakdown]) -> dict[str, Count]:
    """The terms of all blocks; where a detector attends in windows, most run on each window by itself."""
    window = head.detector.attention_window
    if window is None:
        return _times(shape.depth, of_block(shape))
    whole = shape.depth + GLOBAL_BLOCKS - larger(shape.depth, GLOBAL_BLOCKS)
    found = _times(whole, of_block(shape))
    columns = shape.tokens // shape.rows
    for down, height in ((shape.rows // window, window), (1, shape.rows % window)):
        for across, breadth in ((columns // window, window), (1, columns % window)):
            windows = (shape.depth - whole) * down * across * (height * breadth > 0)
            parts = _times(windows, of_block(replace(shape, tokens=height * breadth)))
            found = {name: count + parts[name] for name, count in found.items()}
    return found


def _times(factor: Count, flops: Breakdown) -> dict[str, Count]:
    return {name: factor * count for name, count in flops.terms().items()}
