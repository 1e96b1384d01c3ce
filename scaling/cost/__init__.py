"""What a design needs, in closed form, before anything is run. Needs no torch."""

from dataclasses import dataclass

from scaling.cost import deit
from scaling.cost.deit import Parameters
from scaling.design import Design
from scaling.errors import UsageError

__all__ = ["STATE_BYTES_PER_PARAMETER", "Cost", "Parameters", "estimate"]

# Weights, gradients and AdamW's two moments, all fp32.
STATE_BYTES_PER_PARAMETER = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one design: parameters, FLOPs and bytes per image, bytes of training state."""

    parameters: Parameters
    forward_flops_per_image: int
    training_flops_per_image: int
    activation_bytes_per_image: int

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and optimiser moments."""
        return STATE_BYTES_PER_PARAMETER * self.parameters.total

    def training_bytes(self, micro_batch_size: int) -> int:
        """Memory of a training step on so many images, without the framework's own."""
        return self.state_bytes + micro_batch_size * self.activation_bytes_per_image


def estimate(design: Design, classes: int, label_pixels: int = 1, precision: str = "fp32") -> Cost:
    """Cost of a design.

    Args:
        design: what would be trained.
        classes: outputs of the head.
        label_pixels: labels per image, 1 for classification, the label map's pixels for
            segmentation.
        precision: fp32, or bf16 / fp16 autocast.

    Raises:
        UsageError: for an architecture without closed forms.
    """
    if design.architecture != "deit":
        raise UsageError(f"{design}: '{design.architecture}' cannot be trained by this version; use deit designs")
    return Cost(
        deit.parameters(design, classes),
        deit.forward_flops(design, classes),
        deit.training_flops(design, classes),
        deit.activation_bytes(design, classes, label_pixels, precision),
    )
