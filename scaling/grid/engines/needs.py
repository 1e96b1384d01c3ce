"""What a cell asks of a scheduler: from the study where it says so, else from the estimator and from what was measured.

How much more than its closed form a cell takes was measured on two cores, over all processes from `run-grid`
to the record (proportional set sizes): 0.7 to 1.1 GiB with one training process and 1.8 GiB with two, of DeiT nano to
base. `import torch` and the worker's other imports alone have a resident set of 0.9 GiB.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from scaling.cost import SAFETY_MARGIN
from scaling.design import Cell, DigitsData
from scaling.grid.devices import Device
from scaling.grid.engines.scheduler import Lack, Needs
from scaling.grid.jobs import Job
from scaling.records import Record, Status

GIB = 2**30
RUNNER_BYTES = GIB  # of the command that runs the cell and of the process that it forks workers from
PROCESS_BYTES = GIB  # of a training process on a CPU, beside its step
STEP_BYTES = GIB // 16  # more than the closed form of a step, which may be of a megabyte
GPU_PROCESS_BYTES = 8 * GIB  # of host memory for each GPU's process with its loaders; not measured
LOADERS = 3  # for each GPU's process where images are in files and the study says nothing; not measured
START_SECONDS = 600  # to start, measure the model and test it
ESTIMATE_MARGIN = 1.5  # over the upper end of the estimated time, which knows nothing of waiting for data
MEASURED_MARGIN = 1.2


def needs_of(job: Job, device: Device) -> Needs:
    """What a job asks for on machines like this one; `resources` of the study win over everything else.

    On a CPU a cell asks for no more than its share of the machine's memory by cores, as long as one micro-batch of the
    smallest size fits. Time is not limited where neither the study nor the estimator knows it.
    """
    resources, on_gpus = job.cell.resources, device.kind == "cuda"
    processes = resources.processes // resources.nodes
    cpus = processes * (resources.cpus or (1 + _loaders(job.cell) if on_gpus else 1))
    if resources.memory_gib is not None:
        memory = processes * math.ceil(resources.memory_gib * GIB)
    elif on_gpus:
        memory = processes * GPU_PROCESS_BYTES
    else:
        share = int(device.memory_bytes * min(1.0, cpus / device.count))
        most = max(share, _overhead(processes) + _steps(processes, _smallest_step(job)))
        memory = min(most, _overhead(processes) + _steps(processes, job.memory_bytes))
    gpus = processes if on_gpus else 0
    return Needs(cpus, gpus, resources.nodes, processes, memory, _seconds(job))


def memory_of_cell(job: Job, needs: Needs) -> int | None:
    """Bytes of a job's memory that its cell may plan its steps with on a CPU, the `--memory` of its `run-grid`.

    Enough for one micro-batch of the smallest size; what a job has beyond the step that was planned, such as after one
    that had too little, is for all else.
    """
    if needs.memory_bytes is None:
        return None
    left = needs.memory_bytes - _overhead(needs.processes)
    return max(_steps(needs.processes, _smallest_step(job)), min(left, _steps(needs.processes, job.memory_bytes)))


def corrected(needs: Needs, job: Job, records: Iterable[Record]) -> Needs:
    """The same with what finished cells of the same design took on as many processes and cores, if any did.

    Their time takes the place of the estimated one, and their memory that of one that is too low. What the study says
    stays.

    Args:
        needs: of the job.
        job: whose cell is not finished.
        records: of its run directory.
    """
    alike = [record for record in records if _tells_of(record, needs, job)]
    resources = job.cell.resources
    taken = [seconds for record in alike if (seconds := _seconds_of(record)) is not None]
    if taken and resources.hours is None:
        needs = replace(needs, seconds=START_SECONDS + math.ceil(MEASURED_MARGIN * max(taken)))
    peaks = [record.peak_host_memory_bytes for record in alike if record.peak_host_memory_bytes is not None]
    if peaks and resources.memory_gib is None and needs.memory_bytes is not None:
        measured = RUNNER_BYTES + needs.processes * math.ceil(MEASURED_MARGIN * max(peaks))
        needs = replace(needs, memory_bytes=max(needs.memory_bytes, measured))
    return needs


def grown(needs: Needs, lack: Lack) -> Needs:
    """The same with twice as much of what a job had too little of, where that was limited."""
    if lack is Lack.MEMORY and needs.memory_bytes is not None:
        return replace(needs, memory_bytes=2 * needs.memory_bytes)
    if lack is Lack.TIME and needs.seconds is not None:
        return replace(needs, seconds=2 * needs.seconds)
    return needs


def _loaders(cell: Cell) -> int:
    if isinstance(cell.data, DigitsData):  # drawn in the process itself
        return 0
    return LOADERS if cell.resources.data_workers is None else cell.resources.data_workers


def _smallest_step(job: Job) -> int:
    return job.cost.training_bytes(job.cell.micro_batch_sizes[0])


def _overhead(processes: int) -> int:
    return RUNNER_BYTES + processes * PROCESS_BYTES


def _steps(processes: int, step_bytes: int) -> int:
    """Memory with which a cell plans so large a step in each of its processes."""
    return processes * (STEP_BYTES + math.ceil(step_bytes / (1 - SAFETY_MARGIN)))


def _seconds(job: Job) -> int | None:
    if (asked := job.cell.resources.hours) is not None:
        return math.ceil(3600 * asked)
    if job.device_hours is None:
        return None
    return START_SECONDS + math.ceil(ESTIMATE_MARGIN * 3600 * job.device_hours.high / job.devices)


def _tells_of(record: Record, needs: Needs, job: Job) -> bool:
    """Whether a record is of a cell that took what the job's will take."""
    cell, ran_on = job.cell, record.resources or {}
    return (
        record.status is Status.DONE
        and (record.design, record.stage) == (str(cell.design), cell.stage)
        and ran_on.get("processes", 1) == cell.resources.processes
        and (record.gpu_hours is not None) == (needs.gpus > 0)
        and (needs.gpus > 0 or record.threads == needs.cpus // needs.processes)
    )


def _seconds_of(record: Record) -> float | None:
    """From the start of a cell to its record."""
    if record.training_seconds is None:
        return None
    return record.training_seconds + (record.evaluation_seconds or 0.0) + (record.overhead_seconds or 0.0)
