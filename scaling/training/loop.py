"""The training loop of one cell, through accelerate: precision, accumulation, clipping."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from scaling.data import DigitStream
from scaling.design import Cell
from scaling.models import change_patch_size
from scaling.training.optimizer import build_optimizer, build_schedule, replace_parameters

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the mean training loss since the last call."""


class DivergedError(Exception):
    """The training loss is not finite."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and how long it took."""

    model: nn.Module
    steps: int
    seconds: float
    data_seconds: float


def build_accelerator(cell: Cell, device: str, micro_batch_size: int) -> Accelerator:
    """Accelerate for one process, with the recipe's precision and accumulation."""
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=MIXED_PRECISION[cell.recipe.precision],
        gradient_accumulation_steps=cell.recipe.batch_size // micro_batch_size,
    )


def train(model: nn.Module, cell: Cell, accelerator: Accelerator, micro_batch_size: int, report: Progress) -> Trained:
    """Train a model as its cell says.

    With a patch schedule, the model comes with the patches of the first stage and leaves with the design's own;
    there is one schedule of the learning rate, and no logged loss spans two stages.

    Raises:
        DivergedError: when the training loss stops being finite.
    """
    recipe, data = cell.recipe, cell.data
    steps = recipe.training_steps(data.epoch_images)
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, steps, recipe.warmup(data.epoch_images))
    switches = {stage.first_step: stage.design.patch_size for stage in cell.stages[1:]}
    model, optimizer = accelerator.prepare(model, optimizer)
    stream = DigitStream(data, cell.seed, cell.design.input_size)
    model.train()
    started, data_seconds = time.perf_counter(), 0.0
    loss_sum, loss_count = torch.zeros((), device=accelerator.device), 0
    for step in range(steps):
        if step in switches:
            replace_parameters(optimizer, change_patch_size(accelerator.unwrap_model(model), switches[step]))
        for start in range(step * recipe.batch_size, (step + 1) * recipe.batch_size, micro_batch_size):
            asked = time.perf_counter()
            scenes = stream.batch(start, micro_batch_size)
            data_seconds += time.perf_counter() - asked
            with accelerator.accumulate(model):
                logits = model(scenes.images.to(accelerator.device))
                labels = scenes.labels.to(accelerator.device)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
                accelerator.backward(loss)
                if accelerator.sync_gradients and recipe.gradient_clip:
                    accelerator.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
                optimizer.step()
                optimizer.zero_grad()
            loss_sum += loss.detach()
            loss_count += 1
        schedule.step()
        if (step + 1) % cell.measure.log_every_steps == 0 or step + 1 in {steps, *switches}:
            mean_loss = float(loss_sum) / loss_count
            if not torch.isfinite(loss_sum):
                raise DivergedError(f"training loss is {mean_loss} at step {step + 1} of {steps}")
            report(step + 1, steps, mean_loss)
            loss_sum, loss_count = torch.zeros_like(loss_sum), 0
    seconds = time.perf_counter() - started
    return Trained(model, steps, seconds, data_seconds)
