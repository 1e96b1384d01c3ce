"""Run one cell: build, measure, train, evaluate, and make its record."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn

from scaling.cost import estimate
from scaling.data import held_out_scenes
from scaling.design import Cell
from scaling.models import build_model, has_flash_attention
from scaling.records import Record, Status, describe
from scaling.training.evaluate import evaluate
from scaling.training.loop import DivergedError, Progress, Trained, build_accelerator, train
from scaling.training.measure import activation_bytes_per_image, count_flops, peak_memory_bytes_per_image
from scaling.training.provenance import commit, device_name, versions

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
        A record with status done, or oom or diverged, which are results too.
    """
    known = describe(cell) | provenance(device)
    try:
        record = _measured(cell, folder, device, micro_batch_size, started, report)
        return Record(**known, **record, status=Status.DONE, finished_at=_now())
    except DivergedError as error:
        return Record(**known, status=Status.DIVERGED, error=str(error), finished_at=_now())
    except (torch.OutOfMemoryError, MemoryError) as error:
        return Record(**known, status=Status.OOM, error=_first_line(error), finished_at=_now())
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in OUT_OF_MEMORY_WORDS):
            raise
        return Record(**known, status=Status.OOM, error=_first_line(error), finished_at=_now())


def _measured(
    cell: Cell, folder: Path, device: str, micro_batch_size: int, started: float, report: Progress
) -> dict[str, Any]:
    torch.manual_seed(cell.seed)
    model = build_model(cell.design, cell.data, cell.recipe)
    costs = _costs(model, cell)
    accelerator = build_accelerator(cell, device, micro_batch_size)
    peak = peak_memory_bytes_per_image(
        model.to(accelerator.device), cell, micro_batch_size, lambda: accelerator.autocast()
    )
    # Measuring must not move the random state that training starts from.
    torch.manual_seed(cell.seed)
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:

        def note(step: int, steps: int, loss: float) -> None:
            print(
                json.dumps({"step": step, "images": step * cell.recipe.batch_size, "loss": loss}), file=log, flush=True
            )
            report(step, steps, loss)

        trained = train(model, cell, accelerator, micro_batch_size, note)
    asked = time.perf_counter()
    scenes = held_out_scenes(cell.data, cell.design.input_size)
    batch_size = max(micro_batch_size, min(256, cell.recipe.batch_size))
    result = evaluate(trained.model, scenes, cell.data.classes, batch_size, accelerator.device)
    evaluation_seconds = time.perf_counter() - asked
    _save_weights(accelerator.unwrap_model(trained.model), folder / "checkpoint")
    images_seen = trained.steps * cell.recipe.batch_size
    results = asdict(result)
    return (
        costs
        | {"test_images": results.pop("images"), **results, "peak_memory_bytes_per_image": peak}
        | _times(trained, device, images_seen)
        | {
            "evaluation_seconds": evaluation_seconds,
            "overhead_seconds": time.time() - started - trained.seconds - evaluation_seconds,
        }
    )


def _costs(model: nn.Module, cell: Cell) -> dict[str, Any]:
    flops = count_flops(model, cell)
    label_pixels = 1 if cell.data.task == "classification" else cell.data.canvas**2
    parts = estimate(cell.design, cell.data.classes, label_pixels, cell.recipe.precision).parameters
    total = sum(parameter.numel() for parameter in model.parameters())
    if total != parts.total:
        raise RuntimeError(f"{cell.design}: the model has {total} parameters, the closed form says {parts.total}")
    return {
        "parameters": total,
        "parameters_without_positions": parts.without_positions,
        "parameters_without_embedding_and_head": parts.without_embedding_and_head,
        "forward_flops_per_image": flops.forward,
        "training_flops_per_image": flops.training,
        "fvcore_forward_flops_per_image": flops.fvcore_forward,
        "flops_note": flops.note,
        "activation_bytes_per_image": activation_bytes_per_image(model, cell),
    }


def _times(trained: Trained, device: str, images_seen: int) -> dict[str, Any]:
    return {
        "steps": trained.steps,
        "micro_batch_size": trained.micro_batch_size,
        "images_seen": images_seen,
        "images_per_second": images_seen / trained.seconds,
        "training_seconds": trained.seconds,
        "data_seconds": trained.data_seconds,
        "gpu_hours": trained.seconds / 3600 if device == "cuda" else None,
    }


def _save_weights(model: nn.Module, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    part = folder / ".model.safetensors.part"
    save_model(model, str(part))
    part.replace(folder / "model.safetensors")


def provenance(device: str) -> dict[str, Any]:
    """Where and with what a cell runs."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "attention": "flash-attn" if device == "cuda" and has_flash_attention() else "sdpa",
        "versions": versions(),
        "commit": commit(),
    }


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
