"""Run one cell: build, measure, train, evaluate, and make its record."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scaling.cost import cost_of_cell
from scaling.data import held_out_scenes
from scaling.design import Cell, Design
from scaling.models import build_model, has_flash_attention, kernels_on, load_checkpoint, save_checkpoint
from scaling.records import Record, Status, describe
from scaling.training.evaluate import evaluate
from scaling.training.loop import DivergedError, Progress, Trained, build_accelerator, train
from scaling.training.measure import Example, activation_bytes_per_image, count_flops, peak_memory_bytes_per_image
from scaling.training.provenance import commit, device_name, versions

EVALUATION_BATCHES = 4  # micro-batches at once, since no activations are kept for backward
OUT_OF_MEMORY_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def run_cell(cell: Cell, folder: Path, device: str, micro_batch_size: int, started: float, report: Progress) -> Record:
    """Train, evaluate and measure a cell in this process.

    Args:
        cell: what to run.
        folder: of the cell; metrics.jsonl and checkpoint/ are written there.
        device: 'cpu' or 'cuda'.
        micro_batch_size: images per forward pass; divides the recipe's batch.
        started: time.time() at which the cell was handed out, for its overhead.
        report: called as training moves on.

    Returns:
        A record with status done, or oom or diverged, which are results too and keep what was
        measured before.
    """
    found: dict[str, Any] = describe(cell) | provenance(cell, device) | {"micro_batch_size": micro_batch_size}
    try:
        for part in _parts(cell, folder, device, micro_batch_size, report):
            found |= part
        status, error = Status.DONE, None
    except DivergedError as reason:
        status, error = Status.DIVERGED, str(reason)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as reason:
        if not _is_out_of_memory(reason):
            raise
        status, error = Status.OOM, str(reason).splitlines()[0] if str(reason) else "out of memory"
    spent = found.get("training_seconds", 0.0) + found.get("evaluation_seconds", 0.0)
    found["overhead_seconds"] = time.time() - started - spent if status is Status.DONE else None
    return Record(**found, status=status, error=error, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))


def model_of(cell: Cell, design: Design | None = None) -> nn.Module:
    """The untrained model of a cell, or of the design of one of its stages."""
    data, recipe = cell.data, cell.recipe
    return build_model(
        design or cell.design, data.classes, data.label_sides, recipe.drop_path, recipe.position_init, recipe.flip
    )


def example_of(cell: Cell) -> Example:
    """What one image of a cell and its label look like."""
    return Example(cell.design.input_sides, cell.data.label_sides)


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch's allocator on a CPU raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY_WORDS)


def _parts(cell: Cell, folder: Path, device: str, micro_batch_size: int, report: Progress) -> Iterator[dict[str, Any]]:
    """Fields of the record, as they become known."""
    torch.manual_seed(cell.seed)
    model = model_of(cell, cell.stages[0].design)
    if start := cell.starting_checkpoint:
        yield {
            "started_from": load_checkpoint(model, start, cell.recipe.resize_patches, cell.recipe.new_head).to_json()
        }
    # What is counted and tested; a patch schedule trains another model first, whose patches then shrink.
    final = model if len(cell.stages) == 1 else model_of(cell)
    yield _costs(final, cell)
    accelerator = build_accelerator(cell, device, micro_batch_size)
    final.to(accelerator.device)
    slope = peak_memory_bytes_per_image(final, example_of(cell), micro_batch_size, lambda: accelerator.autocast())
    del final
    yield {"peak_memory_bytes_per_image": slope}
    model.to(accelerator.device)
    # Measuring must not move the random state that training starts from.
    torch.manual_seed(cell.seed)
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:

        def note(step: int, steps: int, loss: float) -> None:
            row = {"step": step, "images": step * cell.recipe.batch_size, "loss": loss}
            print(json.dumps(row), file=log, flush=True)
            report(step, steps, loss)

        trained = train(model, cell, accelerator, micro_batch_size, note)
    (folder / "checkpoint").mkdir(exist_ok=True)
    weights = folder / "checkpoint" / "model.safetensors"
    save_checkpoint(accelerator.unwrap_model(trained.model), cell.design, weights)
    yield _times(trained, cell, device)
    asked = time.perf_counter()
    batches = held_out_scenes(cell.data, cell.design.input_size, EVALUATION_BATCHES * micro_batch_size)
    dense = cell.data.task != "classification"
    result = asdict(evaluate(trained.model, batches, cell.data.classes, dense, accelerator.device))
    if not math.isfinite(result["test_loss"]):
        raise DivergedError(f"test loss is {result['test_loss']} after the last step")
    yield {"test_images": result.pop("images"), **result, "evaluation_seconds": time.perf_counter() - asked}


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
        raise RuntimeError(f"{cell.design}: the model has {total} parameters, the closed form says {parts.total}")
    saved = (activation_bytes_per_image(model, example, cell.recipe.precision) for model in (*earlier, final))
    return {
        "parameters": total,
        "parameters_without_positions": parts.without_positions,
        "parameters_without_embedding_and_head": parts.without_embedding_and_head,
        "forward_flops_per_image": flops.forward,
        "training_flops_per_image": round(training / cost.images),
        "fvcore_forward_flops_per_image": flops.fvcore_forward,
        "flops_note": flops.note,
        "activation_bytes_per_image": max(saved),
        "estimated_forward_flops_per_image": cost.forward_flops_per_image,
        "estimated_activation_bytes_per_image": cost.activation_bytes_per_image,
    }


def _times(trained: Trained, cell: Cell, device: str) -> dict[str, Any]:
    images_seen = trained.steps * cell.recipe.batch_size
    return {
        "steps": trained.steps,
        "images_seen": images_seen,
        "images_per_second": images_seen / trained.seconds,
        "training_seconds": trained.seconds,
        "data_seconds": trained.data_seconds,
        "gpu_hours": trained.seconds / 3600 if device == "cuda" else None,
    }


def _kernels(cell: Cell, device: str) -> dict[str, str]:
    if cell.design.architecture == "adventurer":
        kernels = kernels_on(device)
        return {"scan": kernels.scan, "convolution": kernels.convolution}
    flash = device == "cuda" and cell.recipe.precision != "fp32" and has_flash_attention()
    return {"attention": "flash-attn" if flash else "sdpa"}


def provenance(cell: Cell, device: str) -> dict[str, Any]:
    """Where and with what a cell runs."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        **_kernels(cell, device),
        "versions": versions(),
        "commit": commit(),
    }
