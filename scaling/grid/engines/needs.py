"""What a cell asks of a scheduler: from the study where it says so, else from the estimator and from what was measured.

How much more than its closed form a cell takes was measured on two cores, from `run-grid --workers 1` to the record, as
proportional set sizes over all processes: 0.7 to 1.1 GiB for one training process and 1.8 GiB for two, of DeiT nano to
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
PROCESS_BYTES = GIB  # of a training process on a CPU, beside what the estimator counts
RUNNER_BYTES = GIB  # of the command that runs the cell and of the process that it forks workers from
GPU_PROCESS_BYTES = 8 * GIB  # of host memory for each GPU's process and its loaders; not measured
LOADERS = 3  # for each GPU's process where images are in files and the study says nothing; not measured
START_SECONDS = 600  # to start, measure the model and test it
ESTIMATE_MARGIN = 1.5  # over the upper end of the estimated time, which knows nothing of waiting for data
MEASURED_MARGIN = 1.2


def needs_of(job: Job, device: Device) -> Needs:
    """What a job asks for on devices of this kind; `resources` of the study win over everything else.

    Time is not limited where neither the study nor the estimator knows it.
    """
    resources, on_gpus = job.cell.resources, device.kind == "cuda"
    processes = resources.processes // resources.nodes
    cores = resources.cpus or (1 + _loaders(job.cell) if on_gpus else 1)
    return Needs(
        cpus=processes * cores,
        gpus=processes if on_gpus else 0,
        nodes=resources.nodes,
        processes=processes,
        memory_bytes=_memory_bytes(job, processes, on_gpus),
        seconds=_seconds(job),
    )


def corrected(needs: Needs, job: Job, records: Iterable[Record]) -> Needs:
    """The same with the time that finished cells of the same design took, where any ran on as many processes and cores.

    Host memory is not corrected, since no record states it.

    Args:
        needs: of the job.
        job: whose cell is not finished.
        records: of its run directory.
    """
    taken = [seconds for record in records if (seconds := _seconds_of_another(record, needs, job)) is not None]
    if not taken or job.cell.resources.hours is not None:
        return needs
    return replace(needs, seconds=START_SECONDS + math.ceil(MEASURED_MARGIN * max(taken)))


def grown(needs: Needs, lack: Lack, times: int) -> Needs:
    """The same for a cell that had too little so many times: each time twice as much of it, where it was limited."""
    factor = 2**times
    if lack is Lack.MEMORY and needs.memory_bytes is not None:
        return replace(needs, memory_bytes=factor * needs.memory_bytes)
    if lack is Lack.TIME and needs.seconds is not None:
        return replace(needs, seconds=factor * needs.seconds)
    return needs


def _loaders(cell: Cell) -> int:
    if isinstance(cell.data, DigitsData):  # drawn in the process itself
        return 0
    return LOADERS if cell.resources.data_workers is None else cell.resources.data_workers


def _memory_bytes(job: Job, processes: int, on_gpus: bool) -> int:
    if (asked := job.cell.resources.memory_gib) is not None:
        return processes * math.ceil(asked * GIB)
    if on_gpus:
        return processes * GPU_PROCESS_BYTES
    return RUNNER_BYTES + processes * (PROCESS_BYTES + math.ceil(job.memory_bytes / (1 - SAFETY_MARGIN)))


def _seconds(job: Job) -> int | None:
    if (asked := job.cell.resources.hours) is not None:
        return math.ceil(3600 * asked)
    if job.device_hours is None:
        return None
    return START_SECONDS + math.ceil(ESTIMATE_MARGIN * 3600 * job.device_hours.high / job.devices)


def _seconds_of_another(record: Record, needs: Needs, job: Job) -> float | None:
    """What a cell took from its start to its record, if that says how long the job's will take."""
    cell, ran_on = job.cell, record.resources or {}
    alike = (
        record.status is Status.DONE
        and (record.design, record.stage) == (str(cell.design), cell.stage)
        and ran_on.get("processes", 1) == cell.resources.processes
        and (record.gpu_hours is not None) == (needs.gpus > 0)
        and (needs.gpus > 0 or record.threads == needs.cpus // needs.processes)
    )
    if not alike or record.training_seconds is None:
        return None
    return record.training_seconds + (record.evaluation_seconds or 0.0) + (record.overhead_seconds or 0.0)
