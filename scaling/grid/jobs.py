"""From a study to jobs: which cells are left to run, what each costs, and how it fits the device."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from scaling.cost import (
    SAFETY_MARGIN,
    CellCost,
    Interval,
    Scan,
    cell_speed,
    cost_of_cell,
    find_hardware,
    hardware_of_device,
)
from scaling.design import Cell, Hardware, Study, divisors, matches
from scaling.errors import UsageError
from scaling.grid.devices import Device, scan_on
from scaling.records import RunDirectory, Status

# Architectures with a model, not only closed forms.
TRAINABLE = ("deit", "adventurer")


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with its cost, the micro-batch that fits the device, and what is known of it so far."""

    cell: Cell
    cost: CellCost
    micro_batch_size: int
    images_per_second: Interval | None = None
    """By the roofline, where it knows the device."""
    status: Status = Status.PLANNED

    @property
    def training_flops(self) -> int:
        """Forward and backward FLOPs of the whole training."""
        return self.cost.training_flops

    @property
    def device_hours(self) -> Interval | None:
        """Hours of one device for the whole training, without waiting for data."""
        speed, images = self.images_per_second, self.cost.images / 3600
        return speed and Interval(images / speed.estimate, images / speed.high, images / speed.low)

    @property
    def memory_bytes(self) -> int:
        """Expected memory of a training step, without the framework's own."""
        return self.cost.training_bytes(self.micro_batch_size)


def plan_jobs(study: Study, device: Device, workers: int, only: str | None = None) -> list[Job]:
    """Every job of a study that `only` selects, in the order of its axes.

    Raises:
        UsageError: if `only` matches nothing, a precision needs another device, or a cell does
            not fit the device even one image at a time.
    """
    if study.recipe.precision == "fp16" and device.kind == "cpu":
        raise UsageError("recipe.precision: fp16 needs a CUDA device; use fp32 or bf16 on a CPU")
    cells = [cell for cell in study.cells() if only is None or matches(str(cell.design), only)]
    if not cells:
        raise UsageError(f"--only '{only}' matches none of the {len(study.cells())} cells of '{study.name}'")
    sharing = workers if device.kind == "cpu" else math.ceil(workers / device.count)
    memory_bytes, hardware = int((1 - SAFETY_MARGIN) * device.memory_bytes / sharing), _hardware(device, study)
    scan = scan_on(device)
    return [_job(cell, memory_bytes, hardware, scan) for cell in cells]


def check_trainable(jobs: Iterable[Job]) -> None:
    """Raise UsageError for a design that can be costed but not trained, or a checkpoint that is not there."""
    for job in jobs:
        start = job.cell.starting_checkpoint
        if start is not None and not start.is_file():
            raise UsageError(f"recipe.start_from: {job.cell.design} starts from {start}, and there is no such file")
        if job.cell.design.architecture not in TRAINABLE:
            raise UsageError(
                f"{job.cell.design}: '{job.cell.design.architecture}' cannot be trained by this version; "
                f"use {' or '.join(TRAINABLE)} designs (--dry-run shows costs of all)"
            )


def _hardware(device: Device, study: Study) -> Hardware | None:
    """What the estimator knows of a device: from the study, or from what ships."""
    own = (hardware for hardware in study.hardware.values() if device.name in hardware.torch_names)
    shipped = hardware_of_device(device.name) if device.name else None
    return next(own, find_hardware(shipped) if shipped else None)


def _job(cell: Cell, memory_bytes: int, hardware: Hardware | None, scan: Scan) -> Job:
    cost = cost_of_cell(cell, scan)
    micro_batch_size = fitting_micro_batch(cell, cost, memory_bytes)
    speed = cell_speed(cell, cost, hardware, micro_batch_size) if hardware else None
    return Job(cell, cost, micro_batch_size, speed)


def with_status(jobs: list[Job], run: RunDirectory) -> list[Job]:
    """The same jobs, with what a run directory knows of them.

    Raises:
        RecordError: if a record already there cannot be read.
    """
    return [replace(job, status=run.status(job.cell.id)) for job in jobs]


def fitting_micro_batch(cell: Cell, cost: CellCost, memory_bytes: int) -> int:
    """The study's micro-batch, or else the largest divisor of the batch that fits the memory."""
    batch_size = cell.recipe.batch_size
    asked = cell.recipe.micro_batch_size
    candidates = [asked] if asked else divisors(batch_size)[::-1]
    for size in candidates:
        if cost.training_bytes(size) <= memory_bytes:
            return size
    needed = cost.training_bytes(candidates[-1])
    raise UsageError(
        f"{cell.design}: needs {needed / 2**30:.1f} GiB for {candidates[-1]} image(s) per step, a worker may use "
        f"{memory_bytes / 2**30:.1f} GiB;\n"
        "leave it out with an [[exclude]] rule, or use fewer --workers or another device"
    )
