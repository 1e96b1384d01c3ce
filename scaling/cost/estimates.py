"""`estimate`: everything a design needs on given hardware, exact where it can be and with an interval elsewhere."""

from dataclasses import dataclass, replace
from typing import Any

from scaling.cost.breakdowns import CommunicationBytes, StateBytes
from scaling.cost.cost import Cost, cost_of, scan_flops_by_convention
from scaling.cost.hardware import check_precision, resolve_hardware
from scaling.cost.memory import Placement, communication_bytes, place, state_on_gpu, usable_bytes
from scaling.cost.misfits import explain_misfit
from scaling.cost.roofline import Constants, Interval, StepSeconds, constants_of, interval_fields, step_seconds
from scaling.cost.shapes import Execution, Head
from scaling.design import Design, Hardware
from scaling.errors import UsageError

IMAGENET_IMAGES = 1_281_167
DEFAULT_HARDWARE = "a100-80gb"
DEFAULT_BATCH = 1024
DEFAULT_CLASSES = 1000
LARGEST_BATCH = 2**20
LARGEST_EPOCH = 10**12  # images


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a design needs. `cost` is exact; the rest depends on the hardware.

    Where one image does not fit a GPU, `placement` and `step` are None and `misfit` says by how much
    and what would make it fit.
    """

    design: Design
    head: Head
    hardware: Hardware
    execution: Execution
    constants: Constants
    batch_size: int
    train_images: int
    cost: Cost
    placement: Placement | None
    step: StepSeconds | None
    misfit: str | None

    @property
    def images_per_second_per_gpu(self) -> Interval | None:
        """Training throughput of one GPU, without waiting for data."""
        if self.step is None or self.placement is None:
            return None
        return Interval.around(self.placement.images_per_step / self.step.total, self.step.relative_error)

    def gpu_hours(self, images: float) -> Interval | None:
        """GPU-hours to train on so many images."""
        if self.step is None or self.placement is None:
            return None
        hours = images * self.step.total / self.placement.images_per_step / 3600
        return Interval.around(hours, self.step.relative_error)

    @property
    def gpu_hours_per_epoch(self) -> Interval | None:
        """GPU-hours for `train_images`."""
        return self.gpu_hours(self.train_images)

    @property
    def model_state(self) -> StateBytes:
        """State on one GPU: weights, gradients, moments, EMA, 16-bit copies; a share of it under FSDP.

        Of a design that does not fit, with one image on each of as many GPUs as the batch allows.
        """
        return state_on_gpu(self.cost, self.execution, self.placement.gpus if self.placement else self.batch_size)

    @property
    def communication(self) -> CommunicationBytes | None:
        """Bytes each GPU sends per optimiser step."""
        if self.placement is None:
            return None
        return communication_bytes(self.cost, self.placement.gpus, self.placement.accumulation, self.execution)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with units in the names; what is not known is None."""
        cost, design, placement = self.cost, self.design, self.placement
        height, width = design.input_sides
        sent = self.communication
        return {
            "design": str(design),
            "architecture": design.architecture,
            "size": design.size,
            "patch_size": design.patch_size,
            "input_size": height if height == width else None,
            "input_height": height,
            "input_width": width,
            "sequence_length": design.sequence_length,
            "classes": self.head.classes,
            "hardware": self.hardware.name or None,
            "precision": self.execution.precision,
            "attention": self.execution.attention,
            "scan": self.execution.scan,
            "checkpointing": self.execution.checkpointing,
            "ema": self.execution.ema,
            "sharding": self.execution.sharding,
            "parameters": cost.parameters.total,
            "parameters_without_positions": cost.parameters.without_positions,
            "parameters_without_embedding_and_head": cost.parameters.without_embedding_and_head,
            "forward_flops_per_image": cost.forward_flops_per_image,
            "training_flops_per_image": cost.training_flops_per_image,
            "recomputed_flops_per_image": cost.recomputed.total,
            "elementwise_flops_per_image": cost.elementwise.total,
            "saved_activation_bytes_per_image": cost.activation_bytes_per_image,
            "peak_activation_bytes_per_image": cost.peak_bytes_per_image,
            "model_state_bytes": self.model_state.total,
            "usable_bytes_per_gpu": usable_bytes(self.hardware),
            "batch_size": self.batch_size,
            "images_per_gpu": placement.images_per_gpu if placement else None,
            "min_gpus": placement.min_gpus if placement else None,
            "min_nodes": placement.min_nodes if placement else None,
            "gpus": placement.gpus if placement else None,
            "micro_batch_size": placement.micro_batch_size if placement else None,
            "accumulation": placement.accumulation if placement else None,
            "communication_bytes_per_step": round(sent.total) if sent else None,
            **interval_fields("images_per_second_per_gpu", self.images_per_second_per_gpu),
            "train_images": self.train_images,
            **interval_fields("gpu_hours_per_epoch", self.gpu_hours_per_epoch),
            "constants": self.constants.source,
            "misfit": self.misfit,
        }

    def breakdown(self) -> dict[str, Any]:
        """Every quantity by term, each summing to its total above."""
        terms = {
            "parameters": self.cost.parameters.terms(),
            "forward_flops_per_image": self.cost.forward.terms(),
            "training_flops_per_image": self.cost.training.terms(),
            "recomputed_flops_per_image": self.cost.recomputed.terms(),
            "elementwise_flops_per_image": self.cost.elementwise.terms(),
            "saved_activation_bytes_per_image": self.cost.saved.terms(),
            "model_state_bytes": self.model_state.terms(),
        }
        if self.communication is not None:
            terms["communication_bytes_per_step"] = self.communication.terms()
        if self.step is not None:
            names = ("products", "attention", "scan", "memory", "overhead", "optimizer", "communication")
            terms["step_seconds"] = {name: getattr(self.step, name) for name in names}
        scan = scan_flops_by_convention(self.design)
        return terms | ({"scan_flops_by_convention": scan} if scan else {})


def estimate(
    design: Design | str,
    hardware: str | Hardware = DEFAULT_HARDWARE,
    *,
    classes: int = DEFAULT_CLASSES,
    head: Head | None = None,
    batch_size: int = DEFAULT_BATCH,
    gpus: int | None = None,
    micro_batch_size: int | None = None,
    execution: Execution | None = None,
    train_images: int = IMAGENET_IMAGES,
    constants: Constants | None = None,
) -> CostEstimate:
    """What a design needs: exact counts, memory and GPUs, and time with its interval. Needs no torch.

    Args:
        design: a design or its short name.
        hardware: name of a device that ships, or a device of your own.
        classes: outputs of the head.
        head: more of the head than its outputs; its kind is the design's.
        batch_size: global batch.
        gpus: GPUs to train on; by default the fewest whole nodes that hold the batch and divide it.
        micro_batch_size: images per GPU and forward pass; by default the most that fit.
        execution: precision, attention, scan, checkpointing, EMA and sharding; by default the
            device's best precision with fused kernels.
        train_images: images in one epoch.
        constants: calibrated efficiencies, see `calibrate`; by default those of the device.

    Raises:
        DesignError: for a design that does not exist.
        UsageError: for unknown hardware, a precision the device lacks, sizes below 1, or a batch
            that does not divide over the GPUs.
    """
    design = Design.parse(design) if isinstance(design, str) else design
    device = resolve_hardware(hardware)
    execution = execution or Execution(device.default_precision)
    check_precision(device, execution.precision)
    check_sizes(batch_size, train_images)
    head = replace(head or Head(classes), kind=design.head)
    cost = cost_of(design, head, execution)
    known = constants or constants_of(device)
    placement = place(cost, device, execution, batch_size, gpus, micro_batch_size)
    step = step_seconds(cost, placement, device, known, execution) if placement else None
    images, most = micro_batch_size or 1, gpus or batch_size
    misfit = None if placement else explain_misfit(design, head, cost, device, execution, images, most)
    return CostEstimate(design, head, device, execution, known, batch_size, train_images, cost, placement, step, misfit)


def check_sizes(batch_size: int, train_images: int) -> None:
    """Raise UsageError for a batch or an epoch of an absurd size."""
    for label, value, largest in (
        ("batch size", batch_size, LARGEST_BATCH),
        ("train images", train_images, LARGEST_EPOCH),
    ):
        if not 1 <= value <= largest:
            raise UsageError(f"{label} must be 1 to {largest:,}, not {value}")
