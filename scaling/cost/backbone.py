"""A plain backbone: patch embedding, positions, equal blocks, final norm, head.

An architecture says what one block costs; everything else is the same for all and is here.
"""

from abc import ABC, abstractmethod
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


class Backbone(ABC):
    """The costs of one block of an architecture; the base class adds up the model.

    Counts are per image and per block. Subclasses are stateless: see `DeiT` for an example, and
    `register_architecture` to make one known.
    """

    @abstractmethod
    def block_parameters(self, shape: Shape) -> BlockParameters:
        """Parameters of a block."""

    @abstractmethod
    def uncast_parameters(self, shape: Shape) -> Count:
        """Those of a block that autocast never copies to 16 bits: norms, and what enters no product."""

    @abstractmethod
    def final_norm_parameters(self, shape: Shape) -> Count:
        """Parameters of the norm before the head."""

    @abstractmethod
    def block_flops(self, shape: Shape) -> Flops:
        """Products of a block's forward pass."""

    @abstractmethod
    def block_elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        """Elementwise work of a block's forward pass, which is never part of the headline."""

    @abstractmethod
    def final_norm_elementwise_flops(self, shape: Shape) -> Count:
        """Elementwise work of the norm before the head."""

    @abstractmethod
    def recomputed_block_flops(self, shape: Shape, execution: Execution) -> Flops:
        """Products that the block's kernels do a second time in backward."""

    @abstractmethod
    def block_saved_bytes(self, shape: Shape, execution: Execution) -> BlockSaved:
        """Bytes that autograd keeps of a block."""

    @abstractmethod
    def final_norm_saved_bytes(self, shape: Shape) -> Count:
        """Bytes that autograd keeps of the norm before the head."""

    @abstractmethod
    def transient_bytes(self, shape: Shape, execution: Execution) -> Count:
        """Gradients alive at the peak, above what is saved: of the residual stream and the widest layer."""

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
        blocks = _times(shape.depth, self.block_flops(shape))
        embedding = terms.patch_embedding_flops(shape)
        return Flops(**blocks | {"patch_embedding": embedding, "head": find_head(head).flops(shape, head)})

    def training_flops(self, shape: Shape, head: Head) -> Flops:
        """Forward and backward: 3 x forward for every product, 2 x for the patch embedding.

        The backward of a product is two products of its size; the image needs no gradient.
        """
        forward = self.forward_flops(shape, head)
        return Flops(**_times(3, forward) | {"patch_embedding": 2 * forward.patch_embedding})

    def recomputed_flops(self, shape: Shape, execution: Execution) -> Flops:
        """Products done again in backward: inside fused kernels, and of whole checkpointed blocks."""
        block = self.recomputed_block_flops(shape, execution).terms()
        if execution.checkpointing:
            again = self.block_flops(shape).terms()
            block = {name: count + again[name] for name, count in block.items()}
        return Flops(**{name: shape.depth * count for name, count in block.items()})

    def elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        """Elementwise work of the forward pass of one image."""
        blocks = _times(shape.depth, self.block_elementwise_flops(shape))
        norms = blocks["norms"] + self.final_norm_elementwise_flops(shape)
        return ElementwiseFlops(**blocks | {"norms": norms})

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> SavedBytes:
        """Bytes autograd keeps for backward of one image, up to the loss.

        With checkpointing each block keeps its fp32 input only.
        """
        block = self.block_saved_bytes(shape, execution)
        kept = 0 if execution.checkpointing else shape.depth
        inputs = 4 * (shape.tokens + 1) * shape.width * shape.depth if execution.checkpointing else 0
        return SavedBytes(
            image=terms.image_bytes(shape, execution),
            block_inputs=inputs,
            mixer=kept * block.mixer,
            mlp=kept * block.mlp,
            norms=kept * block.norms,
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


def _times(factor: Count, flops: Breakdown) -> dict[str, Count]:
    return {name: factor * count for name, count in flops.terms().items()}
