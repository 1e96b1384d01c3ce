"""Test weights from a file, as their cell was tested."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from scaling.data import held_out_batches
from scaling.design import Cell, task_of_head
from scaling.errors import ScalingError
from scaling.models import CheckpointError, load_checkpoint
from scaling.models.checkpoints import HEAD, read_weights
from scaling.scenes import Scenes
from scaling.training.building import model_of
from scaling.training.evaluate import Evaluation, evaluate, windows_of
from scaling.training.parallel import build_accelerator


@dataclass(frozen=True, slots=True)
class SavedResult:
    """How weights did on a test set.

    Args:
        result: loss and metrics.
        positions: how the position embeddings were fitted to the input.
        missing_classes: classes of which the test set has no label. Average precision is of the others; in mean IoU one
            that is predicted nevertheless counts as 0.
    """

    result: Evaluation
    positions: str
    missing_classes: tuple[int, ...]


def evaluate_saved(cell: Cell, weights: Path, device_kind: str, batch_size: int) -> SavedResult:
    """Test weights with the data, the input and the precision of a cell; positions are resampled to its input.

    Raises:
        CheckpointError: for no checkpoint, one of another design or task, or with other classes than the data.
        ScalingError: for data with more classes than they say.
    """
    _check_outputs(weights, cell)
    accelerator = build_accelerator(cell, device_kind, cell.recipe.batch_size)
    model = model_of(cell)
    loaded = load_checkpoint(model, weights)
    if loaded.head != "loaded":
        raise CheckpointError(f"{weights}: is a classifier's checkpoint, and has no head for {cell.data.task}")
    seen = torch.zeros(cell.data.classes, dtype=torch.bool)
    batches = _watched(held_out_batches(cell, batch_size), seen)
    windows, device = windows_of(cell, at_once=batch_size), accelerator.device
    with accelerator.autocast():
        result = evaluate(model.to(device), batches, cell.data.classes, cell.data.task, device, windows)
    return SavedResult(result, loaded.positions, tuple((~seen).nonzero().flatten().tolist()))


def _check_outputs(path: Path, cell: Cell) -> None:
    task = task_of_head(cell.design.head)
    if task != cell.data.task:
        raise CheckpointError(f"{path}: is of {cell.design}, and has no head for {cell.data.task}; give data of {task}")
    bias, classes = read_weights(path)[0].get(f"{HEAD}bias"), cell.data.classes
    if bias is None and cell.design.head is None:
        raise CheckpointError(f"{path}: has no classifier to evaluate")
    if bias is not None and len(bias) != classes:
        raise CheckpointError(
            f"{path}: tells {len(bias)} classes apart, and the data have {classes}; give data of its own classes"
        )


def _watched(batches: Iterable[Scenes], seen: torch.Tensor) -> Iterator[Scenes]:
    """The same batches, while the classes of their labels are noted."""
    for scenes in batches:
        labels = _classes_in(scenes)
        if len(labels) and int(labels.max()) >= len(seen):
            raise ScalingError(f"the test set has a label {int(labels.max())}, and the data {len(seen)} classes")
        seen[labels] = True
        yield scenes


def _classes_in(scenes: Scenes) -> torch.Tensor:
    """Numbers of the classes in a batch, each once."""
    if isinstance(scenes.labels, torch.Tensor):
        return scenes.labels[scenes.labels >= 0].unique()
    return torch.cat([each.classes for each in scenes.labels]).unique()
