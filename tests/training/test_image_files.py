"""A cell trained for real on image files."""

import time
from pathlib import Path
from typing import Any

import pytest

from scaling.data import DataError
from scaling.design import Cell
from scaling.errors import UsageError
from scaling.grid.saved_models import find_saved
from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from scaling.training.evaluate_saved import evaluate_saved
from tests.data import made

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def run(cell: Cell, folder: Path) -> Record:
    folder.mkdir(exist_ok=True)
    return run_cell(cell, folder, "cpu", 4, time.time(), lambda step, steps, loss: None)


def test_a_nano_model_learns_the_classes_of_a_folder(tmp_path: Path) -> None:
    """The grey of an image tells its class; ten epochs find that out."""
    root = made.make_folder(tmp_path / "images")
    changes: dict[str, Any] = {
        "recipe__steps": None,
        "recipe__epochs": 10,
        "recipe__warmup_epochs": 1,
        "recipe__learning_rate": 3e-3,
        "recipe__crop_scale": [0.5, 1.0],
        "recipe__horizontal_flip": 0.5,
        "grid__patch_sizes": [8],
    }
    (cell,) = made.image_study(root, **changes).cells()
    record = run(cell, tmp_path / "cell")
    assert record.status is Status.DONE, record.error
    assert record.steps == 30
    assert record.test_images == made.TEST
    assert record.accuracy == 1.0
    assert record.data_fingerprint is not None
    assert record.dataset == "image-folder"
    assert record.recipe is not None
    assert record.recipe["crop_scale"] == [0.5, 1.0]


def test_mixed_repeated_and_smoothed(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path / "images")
    changes: dict[str, Any] = {"recipe__mixup": 0.8, "recipe__cutmix": 1.0, "recipe__label_smoothing": 0.1}
    cell = made.image_study(root, **changes, recipe__repeated_augmentation=2).cells()[0]
    assert run(cell, tmp_path / "cell").status is Status.DONE


def test_wrong_data_end_a_cell_before_anything_is_built(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path / "images")
    cell = made.image_study(root, data={"classes": 4}).cells()[0]
    with pytest.raises(DataError, match="write classes = 3"):
        run(cell, tmp_path / "cell")
    assert not (tmp_path / "cell" / "metrics.jsonl").exists()


def test_data_elsewhere_are_the_same_cells_and_the_same_run(tmp_path: Path) -> None:
    here, there = (made.image_study(tmp_path / place) for place in ("here", "there"))
    assert [cell.id for cell in here.cells()] == [cell.id for cell in there.cells()]
    directory = RunDirectory(tmp_path / "run")
    directory.prepare(here)
    directory.prepare(there)
    other = made.image_study(tmp_path / "here", data={"train_images": 25})
    assert other.cells()[0].id != here.cells()[0].id


def test_a_checkpoint_is_tested_again_with_another_crop(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path / "images")
    study = made.image_study(root)
    (cell, *_), directory = study.cells(), RunDirectory(tmp_path / "run")
    directory.prepare(study)
    folder = directory.begin(cell)
    record = run(cell, folder)
    directory.finish(record)
    saved = {ratio: find_saved(folder, crop_ratio=ratio) for ratio in (None, "1", "0.5")}
    losses = {
        ratio: evaluate_saved(each.cell, each.weights, "cpu", 16).result.test_loss for ratio, each in saved.items()
    }
    assert losses[None] == losses["1"] == record.test_loss
    assert losses["0.5"] != record.test_loss
    for bad in ("0", "1.5", "small"):
        with pytest.raises(UsageError, match=f"--crop-ratio {bad}: give a number above 0"):
            find_saved(folder, crop_ratio=bad)
