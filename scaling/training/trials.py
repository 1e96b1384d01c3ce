"""Trial steps of a training on synthetic images: how long they take, and how much memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scaling.cost import Execution, Head, Scan
from scaling.design import Design, Recipe, Resources
from scaling.models import kernels_on
from scaling.scenes import Scenes
from scaling.training.building import build_for
from scaling.training.check import configure, reentrant_checkpoints
from scaling.training.measure import Example, activation_bytes_per_image
from scaling.training.objectives import arguments, objective
from scaling.training.optimizer import build_optimizer
from scaling.training.parallel import shard
from scaling.training.synthetic import random_scenes

HALF = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PLAIN, ALONE = Recipe(steps=1, batch_size=1, learning_rate=1e-3), Resources()
PROCESS_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is trained on trial, and where.

    Args:
        design: of the model.
        head: classes, and of a segmenter the sides of its label maps.
        execution: precision, checkpointing, averaged weights and sharding.
        device: 'cpu' or 'cuda'.
        memory_bytes: most that PyTorch may take of a GPU; None for all of it.
        recipe: optimiser, average of the weights, stochastic depth and the like; AdamW alone unless given.
        resources: how many processes the model lies on, of which one is tried, and whether it is compiled.
        sides: height and width of the images, where they differ from the design's input.
    """

    design: Design
    head: Head
    execution: Execution
    device: str
    memory_bytes: int | None = None
    recipe: Recipe = PLAIN
    resources: Resources = ALONE
    sides: tuple[int, int] | None = None

    @property
    def example(self) -> Example:
        """What one image and its label look like."""
        return Example.of(self.design, self.head)


@dataclass(frozen=True, slots=True)
class Steps:
    """Optimiser steps that were taken: seconds of each, and the peak memory of the last.

    `peak_bytes` is what CUDA's allocator gave out; on a CPU the most that the process ever held in memory, and None
    where the system does not say.
    """

    seconds: tuple[float, ...]
    peak_bytes: int | None
    threads: int


def scan_of(device: str) -> Scan:
    """How this installation runs an Adventurer's scan on a device, as the estimator counts it."""
    return "recomputed" if kernels_on(device).scan == "torch" else "fused"


def start(trial: Trial) -> Callable[[int, int], Steps]:
    """Build a trial's model and optimiser as a training does; the function takes so many steps of so many images.

    Of several processes it is one: with FSDP its part of the model, with DDP the whole and the gradients' buckets.
    Gradients stay allocated between steps, as under accumulation, so that the peak of a step grows with its images
    by activations alone.
    """
    torch.manual_seed(0)
    cuda, execution = trial.device == "cuda", trial.execution
    if cuda and trial.memory_bytes is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, trial.memory_bytes / total))
    model = _model(trial)
    model.to(trial.device).train()
    average = ModelEmaV3(model, trial.recipe.ema_decay) if trial.recipe.ema_decay is not None else None
    if trial.resources.compile:
        model.compile(dynamic=False)  # as for the one size of a training
    spread = _spread(model, trial)
    optimizer = build_optimizer(model, trial.recipe)
    scaler = torch.amp.GradScaler(trial.device, enabled=execution.precision == "fp16")

    def step(scenes: Scenes) -> None:
        with torch.autocast(trial.device, HALF[execution.precision], enabled=execution.autocast):
            outputs = spread(*arguments(scenes))
        scaler.scale(objective(outputs, scenes.labels, trial.recipe)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=False)
        if average is not None:
            average.update(model)

    def run(batch_size: int, steps: int) -> Steps:
        scenes = random_scenes(trial.design, trial.head, batch_size, trial.device, trial.sides)
        seconds = []
        for _ in range(steps):
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            step(scenes)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated() if cuda else _peak_resident_bytes()
        return Steps(tuple(seconds), peak, torch.get_num_threads())

    return run


def saved_bytes_per_image(trial: Trial) -> int:
    """Bytes that autograd saves for backward, counted on the model; an Adventurer's with torch's scan."""
    with torch.device("meta"):
        model = _model(trial)
    with reentrant_checkpoints():
        return activation_bytes_per_image(model, trial.example, trial.execution.precision)


def _model(trial: Trial) -> nn.Module:
    model = build_for(trial.design, trial.head, trial.recipe)
    configure(model, trial.execution)
    return model


def _spread(model: nn.Module, trial: Trial) -> nn.Module:
    """The model as it lies in one process of several, the others being absent.

    FSDP's collectives do nothing in a fake group. DDP is alone in a real one: its buckets, which hold a copy of all
    gradients, do not depend on the number of processes.
    """
    count = trial.resources.processes
    if count == 1:
        return model
    if trial.resources.sharding == "fsdp":
        from torch.testing._internal.distributed.fake_pg import FakeStore  # no public module has it

        dist.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
        return shard(model, trial.device, count)
    backend = "nccl" if trial.device == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())  # pyright: ignore[reportPrivateImportUsage]
    return DistributedDataParallel(model)


def _peak_resident_bytes() -> int | None:
    """Most memory this process ever held (VmHWM); Linux only."""
    if not PROCESS_STATUS.is_file():
        return None
    (line,) = (line for line in PROCESS_STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
