"""Trial steps of a training on synthetic images: how long they take, and how much memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.cost import Execution, Head
from scaling.design import Design, Flip, Precision
from scaling.models import build_model, kernels_on
from scaling.training.check import configure, reentrant_checkpoints
from scaling.training.measure import Example, activation_bytes_per_image

HALF = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROCESS_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is trained on trial, and where.

    Args:
        design: of the model.
        head: classes, and for a dense head the sides of its label maps.
        execution: precision and checkpointing.
        device: 'cpu' or 'cuda'.
        memory_bytes: most that PyTorch may take of a GPU; None for all of it.
        drop_path: stochastic depth.
        flip: of an Adventurer.
    """

    design: Design
    head: Head
    execution: Execution
    device: str
    memory_bytes: int | None = None
    drop_path: float = 0.0
    flip: Flip = "alternate"

    @property
    def example(self) -> Example:
        """What one image and its label look like."""
        return Example(self.design.input_sides, self.label_sides)

    @property
    def label_sides(self) -> tuple[int, int] | None:
        """Height and width of label maps; None for one label per image."""
        return (self.head.label_sides or self.design.input_sides) if self.head.dense else None


@dataclass(frozen=True, slots=True)
class Steps:
    """Optimiser steps that were taken: seconds of each, and the peak memory of the last.

    `peak_bytes` is what CUDA's allocator gave out; on a CPU the most that the process ever held in memory, and None
    where the system does not say.
    """

    seconds: tuple[float, ...]
    peak_bytes: int | None
    threads: int


def execution_on(device: str, precision: Precision, checkpointing: bool = False) -> Execution:
    """How this installation trains on a device, as the estimator counts it."""
    scan = "recomputed" if kernels_on(device).scan == "torch" else "fused"
    return Execution(precision, scan=scan, checkpointing=checkpointing)


def start(trial: Trial) -> Callable[[int, int], Steps]:
    """Build a trial's model and optimiser; the function trains so many images a step for so many steps.

    Gradients stay allocated between steps, as under accumulation, so that the peak of a step grows with its images
    by activations alone.
    """
    torch.manual_seed(0)
    cuda, execution = trial.device == "cuda", trial.execution
    if cuda and trial.memory_bytes is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, trial.memory_bytes / total))
    model = build_model(trial.design, trial.head.classes, trial.label_sides, trial.drop_path, flip=trial.flip)
    configure(model, execution)
    model.to(trial.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler(trial.device, enabled=execution.precision == "fp16")

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(trial.device, HALF[execution.precision], enabled=execution.autocast):
            logits = model(images)
        scaler.scale(F.cross_entropy(logits.float(), labels)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=False)

    def run(batch_size: int, steps: int) -> Steps:
        images, labels = trial.example.batch(batch_size, trial.device)
        images.normal_()  # zeros would cost a GPU less power, and so run faster
        labels.random_(trial.head.classes)
        seconds = []
        for _ in range(steps):
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            step(images, labels)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated() if cuda else _peak_resident_bytes()
        return Steps(tuple(seconds), peak, torch.get_num_threads())

    return run


def saved_bytes_per_image(trial: Trial) -> int:
    """Bytes that autograd saves for backward, counted on the model; an Adventurer's with torch's scan."""
    with torch.device("meta"):
        model = build_model(trial.design, trial.head.classes, trial.label_sides, trial.drop_path, flip=trial.flip)
    configure(model, trial.execution)
    with reentrant_checkpoints():
        return activation_bytes_per_image(model, trial.example, trial.execution.precision)


def _peak_resident_bytes() -> int | None:
    """Most memory this process ever held (VmHWM); Linux only."""
    if not PROCESS_STATUS.is_file():
        return None
    (line,) = (line for line in PROCESS_STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
