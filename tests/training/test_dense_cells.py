"""Cells of the dense tasks from begin to end: trained, tested, recorded, tested again from their files, and tried."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.cost import Execution, Head, head_of
from scaling.data import DigitStream
from scaling.design import Cell, Design, DigitsData, Recipe
from scaling.grid.saved_models import find_saved
from scaling.models import load_checkpoint
from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from scaling.training.building import build_for, model_of
from scaling.training.evaluate import evaluate
from scaling.training.evaluate_saved import evaluate_saved
from scaling.training.objectives import arguments, loss_of_guessing, objective
from scaling.training.trials import Trial, start
from tests.conftest import small_study

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
FEW = {"strides": [2, 4], "proposals": 16, "sampled_regions": 8}
KINDS: dict[str, dict[str, Any]] = {
    "upernet": {"grid__heads": ["upernet"], "recipe__auxiliary_loss": 0.4},
    "cascade": {"data__task": "detection", "recipe__detector": FEW},
}
OF_SEGMENTATION = {"mean_iou", "pixel_accuracy"}
OF_DETECTION = {"mask_test_loss", "mask_test_loss_standard_error"} | {
    f"{kind}_ap{overlap}" for kind in ("box", "mask") for overlap in ("", "50", "75")
}


def small_cell(kind: str, **changes: Any) -> Cell:
    axes = {"grid__patch_sizes": [8], "data__test_images": 8, "measure__fvcore": False}
    return small_study(**axes, **KINDS[kind], **changes).cells()[0]


def trained(cell: Cell, folder: Path) -> tuple[RunDirectory, Record]:
    study = small_study(**{f"data__{key}": value for key, value in cell.data.model_dump().items()})
    run = RunDirectory(folder / "run")
    run.prepare(study)
    record = run_cell(cell, run.begin(cell), "cpu", 4, time.time(), lambda step, steps, loss: None)
    run.finish(record)
    return run, record


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_trained_tested_and_tested_again(kind: str, architecture: str, tmp_path: Path) -> None:
    cell = small_cell(kind, grid__architectures=[architecture])
    run, record = trained(cell, tmp_path)
    assert record.status is Status.DONE, record.error
    assert record.test_loss is not None
    assert record.test_loss_standard_error is not None
    assert math.isclose(record.test_loss, loss_of_guessing(cell.data, cell.recipe), rel_tol=0.6)
    assert record.forward_flops_per_image == record.estimated_forward_flops_per_image
    assert record.activation_bytes_per_image == record.estimated_activation_bytes_per_image
    known = {name for name in OF_SEGMENTATION | OF_DETECTION if getattr(record, name) is not None}
    assert known == (OF_DETECTION if kind == "cascade" else OF_SEGMENTATION)

    saved = find_saved(run.cell_folder(cell.id))
    again = evaluate_saved(saved.cell, saved.weights, "cpu", 3).result
    assert again.test_loss == pytest.approx(record.test_loss, rel=1e-5)
    for name in known:
        assert getattr(again, name) == pytest.approx(getattr(record, name), rel=1e-5), name


def test_the_auxiliary_head_learns_and_is_kept(tmp_path: Path) -> None:
    """After training it is another than at the start; a model without it has no place for it."""
    cell = small_cell("upernet")
    run, _ = trained(cell, tmp_path)
    weights = run.checkpoint(cell.id)
    first, model = model_of(cell).state_dict(), model_of(cell)
    load_checkpoint(model, weights)
    auxiliary = [name for name in first if "auxiliary" in name]
    assert auxiliary
    assert any(not first[name].equal(model.state_dict()[name]) for name in auxiliary)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trial_steps_are_taken_of_every_head(kind: str, precision: str) -> None:
    cell = small_cell(kind)
    trial = Trial(cell.design, head_of(cell), Execution(precision), "cpu", recipe=cell.recipe)  # pyright: ignore[reportArgumentType]
    taken = start(trial)(2, 2)
    assert len(taken.seconds) == 2


def test_trial_steps_of_a_detector_of_coco() -> None:
    """With its own settings, of classes and strides that fit no digits."""
    cell = small_cell("cascade")
    taken = start(Trial(cell.design, Head(80, "cascade"), Execution("fp32"), "cpu"))(1, 1)
    assert taken.seconds[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit-nano/1@16+linear", "deit-nano/4@16+upernet"])
def test_eight_scenes_are_learned_by_heart(name: str) -> None:
    """A linear head at single pixels, and a decoder at patches of 4."""
    data, design = DigitsData(task="segmentation", canvas=16, digits=2, clutter=0, noise=0.05), Design.parse(name)
    recipe = Recipe(steps=300, batch_size=8, learning_rate=5e-3, position_init="sincos")
    torch.manual_seed(0)
    model = build_for(design, Head(data.classes, design.head, data.label_sides), recipe).train()
    scenes = DigitStream(data, 0, 16).batch(0, 8)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=300)
    for _ in range(300):
        objective(model(*arguments(scenes)), scenes.labels, recipe).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    result = evaluate(model, [scenes], data.classes, "segmentation", torch.device("cpu"))
    assert result.mean_iou is not None
    assert result.mean_iou > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_detector_is_trained_on_two_processes(sharding: str, tmp_path: Path) -> None:
    """Each draws regions of its own, so losses differ from those of one process, and the test does not."""
    cell = small_cell("cascade", resources__processes=2, resources__sharding=sharding)
    run, record = trained(cell, tmp_path)
    assert record.status is Status.DONE, record.error
    saved = find_saved(run.cell_folder(cell.id))
    again = evaluate_saved(saved.cell, saved.weights, "cpu", 8).result
    assert again.test_loss == pytest.approx(record.test_loss, rel=1e-5)
    assert again.mask_ap == record.mask_ap
