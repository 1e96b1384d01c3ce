"""Run one cell: build, measure, train, evaluate, and make its record."""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from scaling.cost import cost_of_cell
from scaling.data import data_fingerprint, held_out_batches
from scaling.design import Cell
from scaling.design.plugins import origin_of
from scaling.errors import ScalingError
from scaling.models import save_checkpoint
from scaling.processes import peak_resident_bytes
from scaling.records import Record, Status, describe
from scaling.scenes import Scenes
from scaling.training.building import checkpoint_activations, example_of, model_of
from scaling.training.check import reentrant_checkpoints
from scaling.training.evaluate import Evaluation, evaluate, windows_of
from scaling.training.fresh import is_out_of_memory
from scaling.training.launch import run_on_processes
from scaling.training.loop import DivergedError, PreemptedError, Progress, Stop, Task, train
from scaling.training.measure import activation_bytes_per_image, count_flops
from scaling.training.parallel import build_accelerator, part
from scaling.training.provenance import commit, device_name, kernels_of, versions
from scaling.training.resume import Position

EVALUATION_BATCHES = 4  # micro-batches at once, since no activations are kept for backward


def never() -> bool:
    """Nobody asks to stop."""
    return False


def run_cell(
    cell: Cell,
    folder: Path,
    device: str,
    micro_batch_size: int,
    started: float,
    report: Progress,
    stop: Stop = never,
) -> Record:
    """Train, evaluate and measure a cell in this process, or in as many as its study says; see docs/training.md.

    A cell that was begun before continues from its last checkpoint. In a process that was started for a rank, by RANK
    and WORLD_SIZE in the environment, it takes this rank's part; then the record of rank 0 is the cell's.

    Args:
        cell: what to run.
        folder: of the cell; metrics.jsonl, resume/ and checkpoint/ are written there.
        device: 'cpu' or 'cuda'.
        micro_batch_size: images per forward pass of one process; times the processes, it divides the recipe's batch.
        started: time.time() at which the cell was handed out, for its overhead.
        report: called as training moves on.
        stop: asked after every optimiser step whether to save and stop.

    Returns:
        A record with status done, preempted if it was stopped, or oom or diverged, which are results too and keep
        what was measured before.

    Raises:
        ScalingError: when a checkpoint cannot be written or read, or a process of the cell died.
        UsageError: when the batch cannot be divided among the processes.
    """
    if cell.resources.processes > 1 and "RANK" not in os.environ:
        return run_on_processes(run_cell, (cell, folder, device, micro_batch_size, started), report, stop)
    found: dict[str, Any] = describe(cell) | provenance(cell, device) | {"micro_batch_size": micro_batch_size}
    position = Position()
    try:
        for known in _parts(cell, folder, device, micro_batch_size, started, report, stop, position):
            found |= known
        status, error = Status.DONE, None
    except DivergedError as reason:
        status, error = Status.DIVERGED, str(reason)
    except PreemptedError as reason:
        status, error = Status.PREEMPTED, str(reason)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as reason:
        if not is_out_of_memory(reason):
            raise
        status, error = Status.OOM, str(reason).splitlines()[0] if str(reason) else "out of memory"
    found |= _times(position, cell, device)
    found |= {key: getattr(position, key) for key in ("started_from", "rolled_back_steps", "resume_note")}
    spent = position.seconds + found.get("evaluation_seconds", 0.0)
    found["peak_host_memory_bytes"] = peak_resident_bytes()
    found["overhead_seconds"] = position.earlier_seconds + time.time() - started - spent
    return Record(**found, status=status, error=error, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))


def _parts(
    cell: Cell,
    folder: Path,
    device: str,
    micro_batch_size: int,
    started: float,
    report: Progress,
    stop: Stop,
    position: Position,
) -> Iterator[dict[str, Any]]:
    """Fields of the record, as they become known."""
    position.data_fingerprint = data_fingerprint(cell.data)  # first, since it finds what is wrong with the data
    yield {"data_fingerprint": position.data_fingerprint}
    accelerator = build_accelerator(cell, device, micro_batch_size)
    if accelerator.is_main_process:
        # What is counted and tested; a patch schedule trains another model first, whose patches then shrink.
        yield _costs(model_of(cell), cell)
    task = Task(cell, accelerator, micro_batch_size, folder, started, report, stop)
    model = train(task, position)
    if not part(accelerator):
        return
    (folder / "checkpoint").mkdir(exist_ok=True)
    save_checkpoint(model, cell.design, folder / "checkpoint" / "model.safetensors")
    asked = time.perf_counter()
    result = asdict(_test(model, cell, accelerator, micro_batch_size, stop))
    if not math.isfinite(result["test_loss"]):
        raise DivergedError(f"test loss is {result['test_loss']} after the last step")
    yield {**result, "evaluation_seconds": time.perf_counter() - asked}


def _test(model: nn.Module, cell: Cell, accelerator: Accelerator, micro_batch_size: int, stop: Stop) -> Evaluation:
    """Test with more images at once than were trained with, or with as few as memory asks for."""

    def tested(size: int) -> Evaluation:
        batches = _until(stop, held_out_batches(cell, size, cell.resources.data_workers))
        with accelerator.autocast():
            windows = windows_of(cell, at_once=size)
            return evaluate(model, batches, cell.data.classes, cell.data.task, accelerator.device, windows)

    try:
        return tested(EVALUATION_BATCHES * micro_batch_size)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"out of memory while testing ({error}); going on with {micro_batch_size} images at once", flush=True)
    return tested(micro_batch_size)


def _until(stop: Stop, batches: Iterable[Scenes]) -> Iterator[Scenes]:
    for scenes in batches:
        if stop():
            raise PreemptedError("asked to stop while testing")
        yield scenes


def _costs(final: nn.Module, cell: Cell) -> dict[str, Any]:
    """Of the final model what it is, and of the training the mean FLOPs and the most bytes over its stages."""
    # Counted on tensors without a device, where the scan is our own.
    cost, example = cost_of_cell(cell, scan="recomputed"), example_of(cell)
    with torch.device("meta"):
        earlier = [model_of(cell, stage.design) for stage in cost.stages[:-1]]
    flops = count_flops(final, example, cell.measure.fvcore)
    counts = [*(count_flops(model, example, fvcore=False) for model in earlier), flops]
    training = sum(count.training * stage.images for count, stage in zip(counts, cost.stages, strict=True))
    parts = cost.parameters
    total = sum(parameter.numel() for parameter in final.parameters())
    if total != parts.total:
        raise ScalingError(
            f"{cell.design}: {origin_of(cell.design.architecture)} has {total:,} parameters, its cost terms say "
            f"{parts.total:,}; 'scaling estimate {cell.design} --check' says where"
        )
    models = (*earlier, final)
    for model in models:
        checkpoint_activations(model, cell)
    with reentrant_checkpoints():
        saved = max(activation_bytes_per_image(model, example, cell.recipe.precision) for model in models)
    return {
        "parameters": total,
        "parameters_without_positions": parts.without_positions,
        "parameters_without_embedding_and_head": parts.without_embedding_and_head,
        "forward_flops_per_image": flops.forward,
        "training_flops_per_image": round(training / cost.images),
        "fvcore_forward_flops_per_image": flops.fvcore_forward,
        "flops_note": flops.note,
        "activation_bytes_per_image": saved,
        "estimated_forward_flops_per_image": cost.forward_flops_per_image,
        "estimated_activation_bytes_per_image": cost.activation_bytes_per_image,
    }


def _times(position: Position, cell: Cell, device: str) -> dict[str, Any]:
    """Steps and seconds of a training, however it ended; nothing of one that has not done a step."""
    if not position.step:
        return {}
    images_seen = position.step * cell.recipe.batch_size
    return {
        "steps": position.step,
        "images_seen": images_seen,
        "images_per_second": images_seen / position.seconds,
        "training_seconds": position.seconds,
        "data_seconds": position.data_seconds,
        "gpu_hours": cell.resources.processes * position.seconds / 3600 if device == "cuda" else None,
    }


def provenance(cell: Cell, device: str) -> dict[str, Any]:
    """Where and with what a cell runs."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        **kernels_of(cell.design, cell.recipe.precision, device),
        "versions": versions(),
        "commit": commit(),
    }
