"""Measure designs on this machine: a few training steps on synthetic images, beside what the estimator says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.cost import (
    DEFAULT_BATCH,
    DEFAULT_CLASSES,
    IMAGENET_IMAGES,
    SAFETY_MARGIN,
    Cost,
    CostEstimate,
    Execution,
    Head,
    cost_of,
    estimate,
    find_hardware,
    hardware_of_device,
)
from scaling.design import Design, Hardware, Precision, check_has_model, divisors
from scaling.errors import ScalingError, UsageError, nearest
from scaling.grid.devices import Device, find_device
from scaling.grid.doctor import require_training
from scaling.records import Status

if TYPE_CHECKING:
    from scaling.training.trials import Steps, Trial

WARM_UP_STEPS = 3
DEFAULT_STEPS = 10
MOST_CPU_IMAGES = 32  # a processor is no faster with more
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("bf16", "fp16", "fp32")}
COUNTERS = {
    "cpu": "counted: saved for backward; peak: resident set of the process",
    "cuda": "slope and peak of what the allocator gave out",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One design on this machine; what is not known is None. Ratios are the estimate over what was measured.

    A row of these fields is what `scaling estimate --calibration` reads.
    """

    design: str
    status: str
    error: str | None
    device: str | None
    hardware: str | None
    """Name of the device to the estimator."""
    precision: str
    attention: str | None
    scan: str | None
    checkpointing: bool
    classes: int
    gpus: int
    batch_size: int | None
    micro_batch_size: int | None
    """Images of a step: the batch, all at once."""
    threads: int | None
    steps: int
    """Timed ones; as many more warmed up as `WARM_UP_STEPS`."""
    images_per_second: float | None = None
    """Of the median step."""
    images_per_second_low: float | None = None
    """Of the slower quartile of steps."""
    images_per_second_high: float | None = None
    """Of the faster quartile."""
    flops_per_second: float | None = None
    """Training FLOPs by the closed form, nothing recomputed counted."""
    peak_share: float | None = None
    """Of the data sheet's rate, where the estimator knows the device."""
    device_hours_per_epoch: float | None = None
    """For ImageNet-1k's 1,281,167 images on one device, without waiting for data."""
    memory_bytes_per_image: int | None = None
    peak_memory_bytes: int | None = None
    memory_counter: str | None = None
    """How the two were measured."""
    estimated_device_hours_per_epoch: float | None = None
    estimated_memory_bytes_per_image: int | None = None
    """Saved for backward."""
    estimated_peak_memory_bytes: int | None = None
    """Of a step, or where it failed, of one image: what was needed."""
    hours_ratio: float | None = None
    memory_ratio: float | None = None
    measured_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Measuring:
    """How designs are measured; the same for all of them."""

    device: Device
    hardware: Hardware | None
    precision: Precision
    checkpointing: bool
    classes: int
    micro_batch_size: int | None
    steps: int

    def rows(self, designs: Sequence[Design]) -> Iterator[Measured]:
        """Each design in a process of its own; one that crashes or does not fit is a row that says so.

        Raises:
            UsageError: for a design that cannot be trained, before any is measured.
        """
        for design in designs:
            check_has_model(design)
        return map(self._row, designs)

    def _row(self, design: Design) -> Measured:
        from scaling.training.fresh import Failure, FreshProcess
        from scaling.training.probe import DoesNotFitError
        from scaling.training.trials import start

        trial = self._trial(design)
        cost = cost_of(design, trial.head, trial.execution)
        size, results = None, {}
        status, error = Status.DONE, None
        with FreshProcess(partial(start, trial)) as process:
            try:
                size, slope = self._fit(trial, cost, process.call)
                taken = process.call(size, WARM_UP_STEPS + self.steps)
                if isinstance(taken, Failure):
                    status, error = taken.status, taken.reason
                else:
                    results = self._results(trial, cost, size, taken, slope)
            except DoesNotFitError as reason:
                status, error = Status.OOM, str(reason)
            except ScalingError as reason:
                status, error = Status.FAILED, str(reason)
        return Measured(**self._known(trial, cost, size, status, error) | results)

    def _trial(self, design: Design) -> "Trial":
        from scaling.training.trials import Trial, scan_of

        execution = Execution(self.precision, scan=scan_of(self.device.kind), checkpointing=self.checkpointing)
        return Trial(design, Head(self.classes, design.head), execution, self.device.kind, self._usable)

    @property
    def _usable(self) -> int:
        return int((1 - SAFETY_MARGIN) * self.device.memory_bytes)

    def _fit(self, trial: "Trial", cost: Cost, call: Any) -> tuple[int, int | None]:
        """Images per step and memory per image: on CUDA tried, on a CPU by the estimator and counted."""
        from scaling.training.probe import search
        from scaling.training.trials import saved_bytes_per_image

        sizes = [self.micro_batch_size] if self.micro_batch_size else divisors(DEFAULT_BATCH)
        fitting = [size for size in sizes if cost.training_bytes(size) <= self._usable] or sizes[:1]
        if self.device.kind == "cuda":
            probe = search(call, sizes, fitting[-1])
            return probe.micro_batch_size, probe.bytes_per_image
        largest = fitting[-1] if self.micro_batch_size else min(fitting[-1], MOST_CPU_IMAGES)
        return largest, saved_bytes_per_image(trial)

    def _known(self, trial: "Trial", cost: Cost, size: int | None, status: Status, error: str | None) -> dict[str, Any]:
        from scaling.training.provenance import device_name, kernels_of

        kernels = kernels_of(trial.design, self.precision, self.device.kind)
        return {
            "design": str(trial.design),
            "status": status.value,
            "error": error,
            "device": self.device.name or device_name("cpu"),
            "hardware": self.hardware.name if self.hardware else None,
            "precision": self.precision,
            "attention": kernels.get("attention"),
            "scan": kernels.get("scan"),
            "checkpointing": self.checkpointing,
            "classes": self.classes,
            "gpus": 1,
            "batch_size": size,
            "micro_batch_size": size,
            "threads": None,
            "steps": self.steps,
            "estimated_memory_bytes_per_image": cost.activation_bytes_per_image,
            "estimated_peak_memory_bytes": cost.training_bytes(size or self.micro_batch_size or 1),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _results(self, trial: "Trial", cost: Cost, size: int, taken: "Steps", slope: int | None) -> dict[str, Any]:
        fast, middle, slow = np.quantile(taken.seconds[WARM_UP_STEPS:], (0.25, 0.5, 0.75)).tolist()
        speed = size / middle
        flops = speed * cost.training_flops_per_image
        hours = IMAGENET_IMAGES / speed / 3600
        peak = self.hardware.peak_flops.get(self.precision) if self.hardware else None
        known = self._estimate(trial, size)
        expected = known.gpu_hours_per_epoch.estimate if known and known.gpu_hours_per_epoch else None
        return {
            "threads": taken.threads,
            "images_per_second": speed,
            "images_per_second_low": size / slow,
            "images_per_second_high": size / fast,
            "flops_per_second": flops,
            "peak_share": flops / peak if peak else None,
            "device_hours_per_epoch": hours,
            "memory_bytes_per_image": slope,
            "peak_memory_bytes": taken.peak_bytes,
            "memory_counter": COUNTERS[self.device.kind],
            "estimated_device_hours_per_epoch": expected,
            "hours_ratio": expected / hours if expected else None,
            "memory_ratio": cost.activation_bytes_per_image / slope if slope else None,
        }

    def _estimate(self, trial: "Trial", size: int) -> CostEstimate | None:
        """What the estimator says of the same step; None where it does not know the device or its precision."""
        if self.hardware is None or self.precision not in self.hardware.peak_flops:
            return None
        return estimate(
            trial.design,
            self.hardware,
            classes=self.classes,
            batch_size=size,
            gpus=1,
            micro_batch_size=size,
            execution=trial.execution,
        )


def measuring(
    device: str = "auto",
    precision: str | None = None,
    micro_batch_size: int | None = None,
    steps: int = DEFAULT_STEPS,
    checkpointing: bool = False,
    classes: int = DEFAULT_CLASSES,
    hardware: str | None = None,
) -> Measuring:
    """Settle how designs are measured on this machine.

    Args:
        device: 'auto', 'cpu' or 'cuda'.
        precision: by default bf16 on CUDA and fp32 on a CPU.
        micro_batch_size: images per step; by default the largest power of two that fits, up to 1,024, on a CPU 32.
        steps: timed steps.
        checkpointing: keep only block inputs for backward.
        classes: outputs of the head.
        hardware: what the estimator is to take the device for; by default what it knows of it, if anything.

    Raises:
        UsageError: for a precision the device cannot train in, numbers below 1, or hardware that does not exist.
        ScalingError: where there is no CUDA device, or torch is missing.
    """
    for name, value in (("micro-batch", micro_batch_size), ("steps", steps)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: {value}; at least 1 is needed")
    place = find_device(device)
    chosen = precision or PRECISIONS[place.kind][0]
    if chosen == "fp16" and place.kind == "cpu":
        raise UsageError("precision: fp16 needs a CUDA device; use fp32 or bf16 on a CPU")
    if chosen not in PRECISIONS[place.kind]:
        raise UsageError(f"unknown precision '{chosen}': {nearest(chosen, PRECISIONS[place.kind])}")
    Head(classes)
    known = hardware or (hardware_of_device(place.name) if place.name else None)
    found = find_hardware(known) if known else None
    require_training()
    return Measuring(place, found, chosen, checkpointing, classes, micro_batch_size, steps)  # pyright: ignore[reportArgumentType]
