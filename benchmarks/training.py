"""What checkpoints cost, how soon a cell goes on, and our training step against a plain timm loop.

python -m benchmarks.training      # on a CPU, in minutes; rewrites its own page
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from timm.optim._param_groups import param_groups_weight_decay

from benchmarks.pages import write_page
from scaling.data import Share, training_batches
from scaling.design import Cell, build_study
from scaling.training.building import begin, capture
from scaling.training.loop import Task, train
from scaling.training.parallel import build_accelerator
from scaling.training.resume import Position, ResumeFolder

STEPS, BATCH, ROUNDS = 40, 32, 6
SAVE_EVERY_SECONDS = 600


def cell_of(size: str, **resources: Any) -> Cell:
    values: dict[str, Any] = {
        "name": "training",
        "data": {"name": "digits", "task": "classification", "canvas": 32},
        "grid": {"architectures": ["deit"], "sizes": [size], "patch_sizes": [4], "input_sizes": [32]},
        "recipe": {"steps": STEPS, "batch_size": BATCH, "learning_rate": 1e-3},
        "measure": {"log_every_steps": STEPS, "fvcore": False},
        "resources": resources,
    }
    return build_study(values).cells()[0]


def task_of(cell: Cell, folder: Path) -> Task:
    accelerator = build_accelerator(cell, "cpu", BATCH)
    return Task(cell, accelerator, BATCH, folder, time.time(), lambda step, steps, loss: None, lambda: False)


def seconds_to_save(size: str) -> tuple[float, float]:
    """Of one checkpoint, the fastest of a few, and its MB."""
    cell = cell_of(size)
    with tempfile.TemporaryDirectory() as temporary:
        task, position, taken = task_of(cell, Path(temporary)), Position(), []
        training = begin(cell, task.accelerator, position, None, None)
        checkpoints = ResumeFolder(Path(temporary) / "resume", cell.id)
        for parameter in training.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        training.optimizer.step()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            checkpoints.save(capture(training, task.accelerator, position))
            taken.append(time.perf_counter() - started)
        size_mb = sum(file.stat().st_size for file in checkpoints.path.rglob("*") if file.is_file()) / 1e6
    return min(taken), size_mb


def ours() -> float:
    with tempfile.TemporaryDirectory() as temporary:
        position = Position()
        train(task_of(cell_of("micro"), Path(temporary)), position)
    return STEPS * BATCH / (position.seconds - position.data_seconds)


def plain() -> float:
    """Images per second of timm's model in the shortest loop that trains it: forward, backward, clip, AdamW."""
    shape = cell_of("micro").design.shape
    ratio = shape.mlp_width / shape.width
    model = VisionTransformer(32, 4, 3, 10, "token", shape.width, shape.depth, shape.heads, ratio).train()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    batches, seconds = training_batches(cell_of("micro"), Share(BATCH, BATCH)), 0.0
    for _ in range(STEPS):
        scenes = next(batches)
        started = time.perf_counter()
        assert isinstance(scenes.labels, torch.Tensor)
        loss = F.cross_entropy(model(scenes.images), scenes.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        loss.item()  # a plain loop logs it
        seconds += time.perf_counter() - started
    return STEPS * BATCH / seconds


RESUME = """
import sys, time
from pathlib import Path
from benchmarks.training import BATCH, cell_of
from scaling.training import run_cell
cell, folder = cell_of("nano", save_every_steps=1), Path(sys.argv[1])
run_cell(cell, folder, "cpu", BATCH, time.time(), lambda *_: None, lambda: True)
"""


def seconds_to_resume() -> float:
    """From the start of a new interpreter to the end of the first step after a resume, and its checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", RESUME, temporary], check=True)
            taken.append(time.perf_counter() - started)
    return min(taken[1:])


def main() -> None:
    torch.set_num_threads(1)
    saving = []
    for size in ("nano", "small"):
        seconds, megabytes = seconds_to_save(size)
        saving.append((size, f"{megabytes / 2:.0f}", f"{seconds:.2f}", f"{seconds / SAVE_EVERY_SECONDS:.3%}"))
    speeds = [(ours(), plain()) for _ in range(ROUNDS)]
    best = [max(column) for column in zip(*speeds, strict=True)]
    speed = [(f"{best[0]:.0f}", f"{best[1]:.0f}", f"{best[0] / best[1]:.2f}")]
    resume = [(f"{seconds_to_resume():.1f}",)]
    tables = [
        ("Checkpoints every 10 minutes", ("size", "MB", "seconds", "share of the time"), saving),
        ("Training step, deit-micro/4@32, fp32, one thread", ("ours, images/s", "plain timm loop", "ratio"), speed),
        ("Interpreter to the first step after a resume, nano", ("seconds",), resume),
    ]
    write_page("training", "Checkpoints, resuming and the training step", tables)


if __name__ == "__main__":
    main()
