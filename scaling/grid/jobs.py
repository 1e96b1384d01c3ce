"""From a study to jobs: which cells are left to run, what each costs, and how it fits the device."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec

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
from scaling.design import Cell, DigitsData, Hardware, Study, divisors, matches, with_earlier_stages
from scaling.errors import UsageError
from scaling.grid.devices import Device, scan_on
from scaling.records import Record, RunDirectory, Status, describe

# Architectures with a model, not only closed forms.
TRAINABLE = ("deit", "adventurer")


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with its cost, the micro-batch that fits the device, and what is known of it so far."""

    cell: Cell
    cost: CellCost
    micro_batch_size: int
    """The smallest there is where none fits."""
    memory: "Memory"
    images_per_second: Interval | None = None
    """By the roofline, where it knows the device."""
    status: Status = Status.PLANNED

    @property
    def training_flops(self) -> int:
        """Forward and backward FLOPs of the whole training."""
        return self.cost.training_flops

    @property
    def training_flops_of_all_stages(self) -> int:
        """The same with the trainings that this one starts from."""
        return self.training_flops + self.cost.earlier_training_flops

    @property
    def device_hours(self) -> Interval | None:
        """Hours of one device for the whole training, without waiting for data."""
        speed, images = self.images_per_second, self.cost.images / 3600
        return speed and Interval(images / speed.estimate, images / speed.high, images / speed.low)

    @property
    def memory_bytes(self) -> int:
        """Expected memory of a training step, without the framework's own."""
        return self.cost.training_bytes(self.micro_batch_size)

    @property
    def misfit(self) -> Record | None:
        """The record of a cell that is not begun, since it would run out of memory; None of one that fits.

        That it would fit with fewer workers is no result, so such a cell is tried again.
        """
        needed, memory = self.memory_bytes, self.memory
        if needed <= memory.worker_bytes or memory.probed:
            return None
        fits_alone = needed <= memory.device_bytes
        error = f"needs {_gib(needed)} for {self.micro_batch_size} image(s) per step, "
        if fits_alone:
            error += f"a worker may use {_gib(memory.worker_bytes)}; use fewer --workers"
        else:
            error += f"there is {_gib(memory.device_bytes)}"
        return Record(
            **describe(self.cell),
            status=Status.FAILED if fits_alone else Status.OOM,
            error=error,
            memory_needed_bytes=needed,
            micro_batch_size=self.micro_batch_size,
            estimated_forward_flops_per_image=self.cost.forward_flops_per_image,
            estimated_activation_bytes_per_image=self.cost.activation_bytes_per_image,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What may be used of a device's memory: by one worker, and by a cell that has the device to itself."""

    worker_bytes: int
    device_bytes: int
    probed: bool = False
    """Whether cells are tried in it before they are trained, so that the closed form has not the last word."""


def plan_jobs(
    study: Study, device: Device, workers: int, only: str | None = None, processes: int | None = None
) -> list[Job]:
    """Every job of a study that `only` selects, in the order of its axes, after the pretrainings that they need.

    Args:
        study: whose cells.
        device: that they run on.
        workers: cells at a time.
        only: pattern of design names.
        processes: of a cell on this machine; all of them by default.

    Raises:
        UsageError: if `only` matches nothing, or a precision needs another device.
    """
    cells = [cell for cell in study.cells() if only is None or matches(str(cell.design), only)]
    if not cells:
        raise UsageError(f"--only '{only}' matches none of the {len(study.cells())} cells of '{study.name}'")
    cells, processes = with_earlier_stages(cells), processes or study.resources.processes
    if device.kind == "cpu" and any(cell.recipe.precision == "fp16" for cell in cells):
        raise UsageError("recipe.precision: fp16 needs a CUDA device; use fp32 or bf16 on a CPU")
    if device.kind == "cuda" and processes > device.count:
        raise UsageError(f"resources.processes: {processes} processes need a GPU each, there are {device.count}")
    eight_bit = any(cell.recipe.optimizer == "adamw-8bit" for cell in cells)
    if eight_bit and not (device.kind == "cuda" and find_spec("bitsandbytes")):
        raise UsageError("recipe.optimizer: 'adamw-8bit' needs a CUDA device and the package bitsandbytes; use 'adamw'")
    sharing = workers * processes if device.kind == "cpu" else math.ceil(workers * processes / device.count)
    usable, probed = (1 - SAFETY_MARGIN) * device.memory_bytes, device.kind == "cuda"
    # A cell that has the device to itself still shares a CPU's memory among its processes.
    alone = processes if device.kind == "cpu" else 1
    memory = Memory(int(usable / sharing), int(usable / alone), probed)
    hardware, scan = _hardware(device, study), scan_on(device)
    return [_job(cell, memory, hardware, scan) for cell in cells]


def check_trainable(jobs: Iterable[Job]) -> None:
    """Raise UsageError for a design that can be costed but not trained, or a checkpoint or data that are not there."""
    data = None
    for job in jobs:
        data = job.cell.data
        start = job.cell.starting_checkpoint
        if start is not None and not start.is_file():
            raise UsageError(f"recipe.start_from: {job.cell.design} starts from {start}, and there is no such file")
        if job.cell.design.architecture not in TRAINABLE:
            raise UsageError(
                f"{job.cell.design}: '{job.cell.design.architecture}' cannot be trained by this version; "
                f"use {' or '.join(TRAINABLE)} designs (--dry-run shows costs of all)"
            )
    if data is not None and not isinstance(data, DigitsData):
        from scaling.data import open_data  # late: it imports torch, which drawn scenes do not need here

        open_data(data)


def _hardware(device: Device, study: Study) -> Hardware | None:
    """What the estimator knows of a device: from the study, or from what ships."""
    own = (hardware for hardware in study.hardware.values() if device.name in hardware.torch_names)
    shipped = hardware_of_device(device.name) if device.name else None
    return next(own, find_hardware(shipped) if shipped else None)


def _job(cell: Cell, memory: Memory, hardware: Hardware | None, scan: Scan) -> Job:
    cost = cost_of_cell(cell, scan)
    micro_batch_size = fitting_micro_batch(cell, cost, memory.worker_bytes)
    speed = cell_speed(cell, cost, hardware, micro_batch_size) if hardware else None
    return Job(cell, cost, micro_batch_size, memory, speed)


def with_status(jobs: list[Job], run: RunDirectory) -> list[Job]:
    """The same jobs, with what a run directory knows of them.

    Raises:
        RecordError: if a record already there cannot be read.
    """
    return [replace(job, status=run.status(job.cell.id)) for job in jobs]


def fitting_micro_batch(cell: Cell, cost: CellCost, memory_bytes: int) -> int:
    """The study's micro-batch, or else the largest divisor of a process's batch that fits the memory, at least 1."""
    if cell.recipe.micro_batch_size:
        return cell.recipe.micro_batch_size
    sizes = divisors(cell.recipe.batch_size // cell.resources.processes)[::-1]
    return next((size for size in sizes if cost.training_bytes(size) <= memory_bytes), 1)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
