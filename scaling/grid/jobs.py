"""From a study to jobs: which cells are left to run, what each costs, and how it fits the device."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from scaling.cost import (
    SAFETY_MARGIN,
    CellCost,
    Interval,
    Layout,
    Shape,
    cell_speed,
    cost_of_cell,
    find_backbone,
    find_hardware,
    hardware_of_device,
)
from scaling.design import (
    CELL_ID,
    PADDED_HEADS,
    Cell,
    Data,
    Design,
    DigitsData,
    Hardware,
    Study,
    check_has_model,
    matches,
    with_earlier_stages,
)
from scaling.errors import UsageError
from scaling.grid.devices import Device, scan_on
from scaling.records import FINISHED, Record, RunDirectory, Status, describe


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with its cost, the micro-batch that fits the device, and what is known of it so far."""

    cell: Cell
    cost: CellCost
    micro_batch_size: int
    """The smallest there is where none fits."""
    memory: "Memory"
    devices: int = 1
    """GPUs that train it; the CPU of a machine is one device for all its processes."""
    images_per_second: Interval | None = None
    """Of all its devices, by the roofline, where it knows them."""
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
        """Hours of all its devices for the whole training, without waiting for data."""
        speed, images = self.images_per_second, self.devices * self.cost.images / 3600
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
        error += memory.crowded if fits_alone else f"there is {_gib(memory.device_bytes)}"
        fields = unfit_fields(self.cost, self.micro_batch_size)
        return Record(**describe(self.cell), **fields, status=Status.FAILED if fits_alone else Status.OOM, error=error)


def unfit_fields(cost: CellCost, micro_batch_size: int) -> dict[str, Any]:
    """What the record of a cell says that does not fit even so many images at a time, by the closed form."""
    return {
        "memory_needed_bytes": cost.training_bytes(micro_batch_size),
        "micro_batch_size": micro_batch_size,
        "estimated_forward_flops_per_image": cost.forward_flops_per_image,
        "estimated_activation_bytes_per_image": cost.activation_bytes_per_image,
    }


@dataclass(frozen=True, slots=True)
class Memory:
    """What may be used of a device's memory: by one worker, and by a cell that has the device to itself."""

    worker_bytes: int
    device_bytes: int
    lone_workers: int = 1
    """With how many workers, at most, each has its devices to itself."""
    probed: bool = False
    """Whether cells are tried in it before they are trained, so that the closed form has not the last word."""
    is_limited: bool = False
    """Whether the user lets cells have a part only."""

    @property
    def is_shared(self) -> bool:
        """Whether a cell that does not fit beside others may yet fit alone, so that its failing is no result."""
        return self.worker_bytes < self.device_bytes

    @property
    def crowded(self) -> str:
        """What to say of a cell that does not fit beside others."""
        return f"a worker may use {_gib(self.worker_bytes)}; run again with --workers {self.lone_workers}" + (
            " and more --memory" if self.is_limited else ""
        )


def unless_crowded(record: Record, memory: Memory) -> Record:
    """A record whose `oom` is no result where others used the same device: such a cell is tried again."""
    if record.status is not Status.OOM or not memory.is_shared:
        return record
    return record.model_copy(update={"status": Status.FAILED, "error": f"{record.error}; {memory.crowded}"})


def plan_jobs(
    study: Study, device: Device, workers: int, only: str | None = None, processes: int | None = None
) -> list[Job]:
    """Every job of a study that `only` selects, in the order of its axes, after the pretrainings that they need.

    Args:
        study: whose cells.
        device: that they run on.
        workers: cells at a time.
        only: pattern of design names, or the id of one cell, which may be of a pretraining.
        processes: of a cell on this machine; all of them by default.

    Raises:
        UsageError: if `only` matches nothing, a precision needs another device, or a cell needs more machines.
    """
    if processes is None and study.resources.nodes > 1:
        raise UsageError(
            f"resources.nodes: cells on {study.resources.nodes} machines need --engine slurm or ray, "
            "or torchrun on each (docs/training.md)"
        )
    cells, processes = with_earlier_stages(selected_cells(study, only)), processes or study.resources.processes
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
    alone, lone_workers = (processes, 1) if device.kind == "cpu" else (1, device.count // processes)
    limited = device.machine_bytes is not None
    whole = (1 - SAFETY_MARGIN) * (device.machine_bytes or device.memory_bytes)
    memory = Memory(int(usable / sharing), int(whole / alone), lone_workers, probed, limited)
    hardware, scan = _hardware(device, study), scan_on(device)
    devices = study.resources.processes // (1 if probed else processes)
    costs: dict[tuple[Design, str | None], CellCost] = {}  # the same for every seed
    for cell in cells:
        if (cell.design, cell.stage) not in costs:
            costs[cell.design, cell.stage] = cost_of_cell(cell, scan)
    return [_job(cell, costs[cell.design, cell.stage], memory, hardware, devices) for cell in cells]


def selected_cells(study: Study, only: str | None) -> list[Cell]:
    """The cells of an id, or else those of the study itself whose designs match a pattern; all without either.

    Raises:
        UsageError: if there are none.
    """
    if only is not None and CELL_ID.fullmatch(only):
        cells = [cell for cell in study.all_cells() if cell.id == only]
    else:
        cells = [cell for cell in study.cells() if only is None or matches(str(cell.design), only)]
    if not cells:
        raise UsageError(f"--only '{only}' matches none of the {len(study.cells())} cells of '{study.name}'")
    return cells


def check_trainable(jobs: Iterable[Job]) -> None:
    """Raise UsageError for a design that can be costed but not trained, or a checkpoint or data that are not there."""
    sets: list[Data] = []
    for job in jobs:
        if job.cell.data not in sets:
            sets.append(job.cell.data)
        start = job.cell.starting_checkpoint
        if start is not None and not start.is_file():
            raise UsageError(f"recipe.start_from: {job.cell.design} starts from {start}, and there is no such file")
        check_has_model(job.cell.design)
        _check_lengths(job.cell)
    for place, data in enumerate(data for data in sets if not isinstance(data, DigitsData)):
        from scaling.data import open_data  # late: it imports torch, which drawn scenes do not need here

        open_data(data, anew=place == 0)


def _check_lengths(cell: Cell) -> None:
    """Raise UsageError where blocks whose parameters depend on the sequence length would see several."""
    design, shape = cell.design, Shape.of(cell.design)
    costs, longer = find_backbone(design.architecture), replace(shape, tokens=shape.tokens + 1)
    if costs.block_parameters(shape).total == costs.block_parameters(longer).total:
        return
    before = (cell.after.design,) if cell.after is not None else ()
    lengths = {each.sequence_length for each in (*(stage.design for stage in cell.stages), *before)}
    if design.head in PADDED_HEADS or len(lengths) > 1:
        raise UsageError(
            f"{design}: the blocks of '{design.architecture}' have parameters per token, and fit one length;"
            "\nno detector, patch schedule or pretraining of another length can use them"
        )


def check_same_data(jobs: Sequence[Job], run: RunDirectory) -> None:
    """Raise UsageError where open jobs would train on other images than the cells that a run directory has.

    For each data set as many records are read as there are jobs, theirs first: the start of one cell must not cost
    those of thousands.
    """
    sets: list[Data] = []
    for job in jobs:
        if job.status not in FINISHED and not isinstance(job.cell.data, DigitsData) and job.cell.data not in sets:
            sets.append(job.cell.data)
    if not sets or not run.study_file.exists():
        return
    from scaling.data import data_fingerprint  # late: it imports torch

    own, begun, compared = {job.cell.id for job in jobs}, run.begun(), [0] * len(sets)
    for cell in sorted(run.study().all_cells(), key=lambda cell: cell.id not in own):
        place = sets.index(cell.data) if cell.id in begun and cell.data in sets else None
        if place is None or compared[place] >= len(jobs):
            continue
        record = run.record(cell.id) or run.failure(cell.id)
        if record is None or record.data_fingerprint is None:
            continue
        compared[place] += 1
        now = data_fingerprint(cell.data)
        if record.data_fingerprint != now:
            raise UsageError(
                f"data.path: {getattr(cell.data, 'path', cell.data.name)} holds other images (fingerprint {now})\n"
                f"than {record.design} seed {record.seed} in {run.path} was trained on ({record.data_fingerprint});\n"
                "put those back, or choose another --out"
            )


def _hardware(device: Device, study: Study) -> Hardware | None:
    """What the estimator knows of a device: from the study, or from what ships."""
    own = (hardware for hardware in study.hardware.values() if device.name in hardware.torch_names)
    shipped = hardware_of_device(device.name) if device.name else None
    return next(own, find_hardware(shipped) if shipped else None)


def _job(cell: Cell, cost: CellCost, memory: Memory, hardware: Hardware | None, devices: int) -> Job:
    micro_batch_size = fitting_micro_batch(cell, cost, memory.worker_bytes)
    layout = Layout(devices, micro_batch_size, cell.recipe.batch_size // (devices * micro_batch_size))
    speed = cell_speed(cost, layout, hardware) if hardware else None
    return Job(cell, cost, micro_batch_size, memory, devices, speed)


def with_status(jobs: list[Job], run: RunDirectory) -> list[Job]:
    """The same jobs, with what a run directory knows of them.

    Raises:
        RecordError: if a record already there cannot be read.
    """
    begun = run.begun()
    return [replace(job, status=run.status(job.cell.id)) if job.cell.id in begun else job for job in jobs]


def fitting_micro_batch(cell: Cell, cost: CellCost, memory_bytes: int) -> int:
    """The study's micro-batch, or else the largest divisor of a process's batch that fits the memory, at least 1."""
    sizes = cell.micro_batch_sizes
    return max((size for size in sizes if cost.training_bytes(size) <= memory_bytes), default=sizes[0])


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
