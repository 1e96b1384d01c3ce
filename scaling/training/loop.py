"""The training loop of one cell, through accelerate: precision, accumulation, clipping, checkpoints, rollback."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from scaling.data import training_batches
from scaling.design import Cell
from scaling.errors import ScalingError
from scaling.records import RESUME
from scaling.scenes import Scenes
from scaling.training.building import Training, begin, capture, plain_model, starting_checkpoint
from scaling.training.objectives import arguments, loss_of_guessing, objective
from scaling.training.parallel import agree, autocast, is_finite, share_of, sum_over
from scaling.training.resume import Position, ResumeFolder, Saved

EXPLODED = 5.0  # times the loss of guessing: the mean of a logged interval above it is no training
GO_ON, SAVE, STOP = 0, 1, 2

Progress = Callable[[int, int, float | None], None]
"""Called with the step, the number of steps and the mean training loss since the last call; None at the begin."""
Stop = Callable[[], bool]
"""Asked after every optimiser step whether to save and stop."""


class DivergedError(Exception):
    """The training loss is not finite, or far above that of guessing."""


class PreemptedError(Exception):
    """Training was asked to stop, and has saved itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell in one process: what stays the same while it is trained."""

    cell: Cell
    accelerator: Accelerator
    micro_batch_size: int
    folder: Path
    """Of the cell; metrics.jsonl and resume/ are written there, by the first process."""
    started: float
    """time.time() at which this try was handed out."""
    report: Progress
    stop: Stop

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.cell.recipe.training_steps(self.cell.data.epoch_images)

    @property
    def curve(self) -> Path:
        """Training losses as they are logged."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoints(self) -> ResumeFolder:
        """What an unfinished training continues from."""
        return ResumeFolder(self.folder / RESUME, self.cell.id)


def train(task: Task, position: Position) -> nn.Module:
    """Train a cell from its last checkpoint or from the start; returns the model that is to be tested.

    With a patch schedule there is one schedule of the learning rate, and no logged loss spans two stages. A training
    that diverges is rolled back once to its last checkpoint, and goes on with the images that come after those that
    it diverged on.

    Args:
        task: what to train, and where.
        position: a new one; it says how far the training is, also when this raises.

    Raises:
        DivergedError: when the training diverges again.
        PreemptedError: when it was asked to stop; it has saved itself.
        ScalingError: when a checkpoint cannot be written.
    """
    saved, note = _load(task)
    if saved is not None:
        _check_same_images(saved.position, position, task)
        position.become(saved.position)
    position.resume_note = "; ".join(filter(None, (position.resume_note, note))) or None
    while True:
        training = begin(task.cell, task.accelerator, position, saved, starting_checkpoint(task.cell, task.folder))
        try:
            _run(training, task, position)
        except DivergedError:
            if position.rolled_back_steps is not None:
                raise
        else:
            return plain_model(training, task.cell, task.accelerator)
        del training
        task.accelerator.free_memory()
        saved, _ = _load(task)
        _roll_back(position, saved.position if saved else Position())


def _load(task: Task) -> tuple[Saved | None, str | None]:
    """The last good checkpoint; every process must find the same, on a file system that may show it to one later."""
    saved, note = task.checkpoints.load(task.curve, remove=task.accelerator.is_main_process)
    step = saved.position.step if saved is not None else 0
    if agree(step, task.accelerator) != -agree(-step, task.accelerator):
        raise ScalingError(f"{task.checkpoints.path}: the processes of the cell see different checkpoints there")
    return saved, note


def _check_same_images(saved: Position, now: Position, task: Task) -> None:
    if saved.data_fingerprint not in (None, now.data_fingerprint):
        raise ScalingError(
            f"{task.checkpoints.path}: was trained on other images (fingerprint {saved.data_fingerprint}) than there "
            f"are now ({now.data_fingerprint}); put those back, or remove it to train the cell anew"
        )


def _roll_back(position: Position, kept: Position) -> None:
    """Return to an earlier position, and leave out the images since then."""
    undone = position.step - kept.step
    skipped = position.skipped_steps + undone
    notes: dict[str, Any] = {name: getattr(position, name) for name in ("resume_note", "earlier_seconds")}
    notes["data_fingerprint"] = position.data_fingerprint
    position.become(replace(kept, skipped_steps=skipped, rolled_back_steps=undone, **notes))


def _run(training: Training, task: Task, position: Position) -> None:
    """Train from a position to the end."""
    cell, accelerator, steps = task.cell, task.accelerator, task.steps
    switches = {stage.first_step: stage.design.patch_size for stage in cell.stages[1:]}
    share = share_of(cell, accelerator, task.micro_batch_size, position.step + position.skipped_steps)
    first, resources = accelerator.is_main_process, cell.resources
    batches = training_batches(cell, share, resources.data_workers)
    if first:
        _cut_back(task.curve, position.curve_bytes)
        task.report(position.step, steps, None)
    training.model.train()
    loss_sum = torch.tensor(position.loss_sum if first else 0.0, device=accelerator.device)
    last_save = time.perf_counter()
    while position.step < steps:
        with _counted(position):
            if position.step in switches:
                training.change_patch_size(switches[position.step], accelerator)
            for _ in range(share.micro_steps):
                loss_sum += share.micro_batch_size * _micro_step(training, task, _next(batches, position))
            position.loss_count += cell.recipe.batch_size
            training.schedule.step()
            position.step += 1
            if training.average is not None:
                training.average.update(accelerator.unwrap_model(training.model), position.step)
            if position.step % cell.measure.log_every_steps == 0 or position.step in {steps, *switches}:
                _log(_mean(loss_sum, position, task), position, task)
                loss_sum.zero_()
            late = time.perf_counter() - last_save > 60 * resources.save_every_minutes
            due = late or (resources.save_every_steps and position.step % resources.save_every_steps == 0)
            due = due or position.step == steps  # who is stopped while testing need not train again
            wish = agree(STOP if task.stop() else SAVE if due else GO_ON, accelerator)
            if wish == GO_ON:
                continue
            position.loss_sum = _healthy_loss_sum(loss_sum, training, position, task)
        _save(training, task, position)
        if wish == STOP:
            raise PreemptedError(f"asked to stop after step {position.step} of {steps}")
        last_save = time.perf_counter()


@contextmanager
def _counted(position: Position) -> Iterator[None]:
    """Count what passes as time of training, also where an error ends it."""
    mark = time.perf_counter()
    try:
        yield
    finally:
        position.seconds += time.perf_counter() - mark


def _next(batches: Iterator[Scenes], position: Position) -> Scenes:
    asked = time.perf_counter()
    scenes = next(batches)
    position.data_seconds += time.perf_counter() - asked
    return scenes


def _micro_step(training: Training, task: Task, scenes: Scenes) -> Tensor:
    """Forward and backward pass of one micro-batch, and in the last of a step the update; returns the loss."""
    accelerator, recipe, model = task.accelerator, task.cell.recipe, training.model
    scenes = scenes.to(accelerator.device)
    with accelerator.accumulate(model):
        with autocast(model, accelerator):
            outputs = model(*arguments(scenes))
        loss = objective(outputs, scenes.labels, recipe)
        accelerator.backward(loss)
        if accelerator.sync_gradients and recipe.gradient_clip:
            accelerator.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        training.optimizer.step()
        training.optimizer.zero_grad()
    return loss.detach()


def _mean(loss_sum: Tensor, position: Position, task: Task) -> float:
    return float(sum_over(loss_sum, task.accelerator)) / position.loss_count


def _log(loss: float, position: Position, task: Task) -> None:
    """Write a finite loss to the curve, and raise for one that is no training."""
    if math.isfinite(loss) and task.accelerator.is_main_process:
        row = {"step": position.step, "images": position.step * task.cell.recipe.batch_size, "loss": loss}
        with task.curve.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)
        task.report(position.step, task.steps, loss)
    _check(loss, position, task)
    position.loss_count = 0


def _check(loss: float, position: Position, task: Task) -> None:
    if not loss <= EXPLODED * loss_of_guessing(task.cell.data, task.cell.recipe):
        raise DivergedError(f"training loss is {loss:g} at step {position.step} of {task.steps}")


def _healthy_loss_sum(loss_sum: Tensor, training: Training, position: Position, task: Task) -> float:
    """The sum of losses that belongs into a checkpoint; raises where nothing should be continued from here."""
    if position.loss_count:
        _check(_mean(loss_sum, position, task), position, task)
    if not is_finite(training.model.parameters()):
        raise DivergedError(f"weights are not finite at step {position.step} of {task.steps}")
    return float(sum_over(loss_sum, task.accelerator))


def _save(training: Training, task: Task, position: Position) -> None:
    saved = capture(training, task.accelerator, position)
    if task.accelerator.is_main_process:
        with task.curve.open("a") as file:
            os.fsync(file.fileno())
        saved.position.curve_bytes = position.curve_bytes = task.curve.stat().st_size
        saved.position.earlier_seconds += time.time() - task.started
        task.checkpoints.save(saved)


def _cut_back(curve: Path, length: int) -> None:
    """Leave out of a learning curve what was logged after the checkpoint that training continues from."""
    curve.touch()
    os.truncate(curve, length)
