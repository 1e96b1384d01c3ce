"""The exact part of an estimate: what a design costs on any hardware."""

from dataclasses import dataclass

from scaling.cost.adventurer import Adventurer, causal_scan_flops, recurrent_scan_flops
from scaling.cost.architectures import find_backbone
from scaling.cost.backbone import Backbone
from scaling.cost.breakdowns import ElementwiseFlops, Flops, Parameters, SavedBytes, StateBytes
from scaling.cost.shapes import Count, Execution, Head, Shape
from scaling.design import Design
from scaling.design.architectures import BUILT_IN
from scaling.errors import ScalingError, UsageError


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one design, or of many as arrays: parameters, FLOPs and bytes per image, state.

    FLOPs are of matrix and convolution products, one multiply-add being 2. Elementwise work and
    what is computed a second time in backward are counted apart and never added.
    """

    parameters: Parameters
    forward: Flops
    training: Flops
    recomputed: Flops
    elementwise: ElementwiseFlops
    saved: SavedBytes
    peak_bytes_per_image: Count
    traffic_bytes_per_image: Count
    state: StateBytes
    block_parameters: Count

    @property
    def forward_flops_per_image(self) -> Count:
        """Products of the forward pass."""
        return self.forward.total

    @property
    def training_flops_per_image(self) -> Count:
        """Products of forward and backward, without recomputation."""
        return self.training.total

    @property
    def activation_bytes_per_image(self) -> Count:
        """Bytes autograd saves for backward, up to the loss."""
        return self.saved.total

    def training_bytes(self, micro_batch_size: Count) -> Count:
        """Memory of a training step on so many images, without the framework's own."""
        return self.state.total + micro_batch_size * self.peak_bytes_per_image


def cost_of(design: Design, head: Head, execution: Execution) -> Cost:
    """Exact cost of a design: Python integers.

    Raises:
        UsageError: for an architecture or a head without closed forms.
    """
    return cost_of_shape(design.architecture, Shape.of(design), head, execution)


def cost_of_shape(architecture: str, shape: Shape, head: Head, execution: Execution) -> Cost:
    """Cost of a shape, whose fields may be arrays."""
    backbone = find_backbone(architecture)
    try:
        return _cost(backbone, shape, head, execution)
    except Exception as error:
        if architecture in BUILT_IN or isinstance(error, ScalingError):
            raise
        from scaling.design.plugins import origin_of, told_of  # late: few architectures need it

        raise UsageError(f"the cost terms of {origin_of(architecture)} fail: {told_of(error, architecture)}") from error


def _cost(backbone: Backbone, shape: Shape, head: Head, execution: Execution) -> Cost:
    return Cost(
        parameters=backbone.parameters(shape, head),
        forward=backbone.forward_flops(shape, head),
        training=backbone.training_flops(shape, head),
        recomputed=backbone.recomputed_flops(shape, head, execution),
        elementwise=backbone.elementwise_flops(shape, head),
        saved=backbone.saved_bytes(shape, head, execution),
        peak_bytes_per_image=backbone.peak_bytes(shape, head, execution),
        traffic_bytes_per_image=backbone.traffic_bytes(shape, head, execution),
        state=backbone.state_bytes(shape, head, execution),
        block_parameters=backbone.block_parameters(shape).total,
    )


def scan_flops_by_convention(design: Design) -> dict[str, int] | None:
    """A state-space model's forward scan counted three ways: 'dual' (the headline), 'causal', 'recurrence'.

    The convention moves Adventurer's total by up to -5.8 % (causal) or -11.5 % (recurrence), both
    at Tiny. None for an architecture without a scan.
    """
    backbone, shape = find_backbone(design.architecture), Shape.of(design)
    if not isinstance(backbone, Adventurer):
        return None
    return {
        "dual": shape.depth * backbone.block_flops(shape).scan,
        "causal": shape.depth * causal_scan_flops(shape),
        "recurrence": shape.depth * recurrent_scan_flops(shape),
    }
