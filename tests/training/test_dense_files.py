"""Cells trained for real on images of files with label maps, boxes and masks, of other sides than the input."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scaling.design import Cell
from scaling.errors import ScalingError, UsageError
from scaling.grid.saved_models import find_saved
from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from scaling.training.evaluate_saved import evaluate_saved
from tests.data import made_dense

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
FEW = {"strides": [4, 8], "proposals": 16, "sampled_regions": 8}
QUICK: dict[str, Any] = {"measure__fvcore": False, "resources__data_workers": 0}


def run(cell: Cell, folder: Path) -> Record:
    folder.mkdir(exist_ok=True)
    return run_cell(cell, folder, "cpu", 4, time.time(), lambda step, steps, loss: None)


def of_maps(root: Path, **changes: Any) -> Cell:
    return made_dense.dense_study(root, "segmentation-folder", **QUICK, **changes).cells()[0]


@pytest.mark.parametrize("inference", ["whole", "slide"])
def test_the_grey_of_a_pixel_tells_its_class(inference: str, tmp_path: Path) -> None:
    """Four quarters of other classes; edges between them are within a patch."""
    root = made_dense.make_maps(tmp_path / "maps")
    recipe = {"recipe__steps": 80, "recipe__learning_rate": 1e-2, "recipe__resize_range": [0.8, 1.2]}
    cell = of_maps(root, data={"inference": inference}, grid__patch_sizes=[4], grid__heads=["linear"], **recipe)
    record = run(cell, tmp_path / "cell")
    assert record.status is Status.DONE, record.error
    assert record.test_images == made_dense.TEST
    assert record.mean_iou is not None
    assert record.mean_iou > 0.7


def test_windows_are_of_the_input_and_change_the_result(tmp_path: Path) -> None:
    root = made_dense.make_maps(tmp_path / "maps")
    study = made_dense.dense_study(root, "segmentation-folder", **QUICK)
    directory = RunDirectory(tmp_path / "run")
    directory.prepare(study)
    cell = study.cells()[0]
    record = run(cell, directory.begin(cell))
    directory.finish(record)
    folder = directory.cell_folder(cell.id)
    found = {}
    for inference in ("whole", "slide"):
        saved = find_saved(folder, data={"inference": inference})
        found[inference] = evaluate_saved(saved.cell, saved.weights, "cpu", 2).result.test_loss
    assert found["whole"] == pytest.approx(record.test_loss, rel=1e-6)
    assert found["slide"] != found["whole"]
    with pytest.raises(UsageError, match=r"--crop-ratio: images of segmentation are not cropped; leave it out"):
        find_saved(folder, crop_ratio="0.5")


def test_boxes_and_masks_in_coco_s_format(tmp_path: Path) -> None:
    root = made_dense.make_coco(tmp_path / "things")
    (cell,) = made_dense.dense_study(root, "coco-format", **QUICK, recipe__detector=FEW).cells()
    record = run(cell, tmp_path / "cell")
    assert record.status is Status.DONE, record.error
    assert record.test_images == made_dense.TEST
    assert record.mask_test_loss is not None
    assert record.box_ap is not None
    assert record.mask_ap is not None
    assert record.data_fingerprint is not None


def test_a_test_set_without_labels_ends_a_cell_with_one_line(tmp_path: Path) -> None:
    root = made_dense.make_maps(tmp_path / "maps")
    for file in (root / "annotations" / "val").iterdir():
        with Image.open(file) as stored:
            Image.fromarray(np.full_like(np.asarray(stored), 255)).save(file)
    with pytest.raises(ScalingError, match="the test set has no labelled pixel"):
        run(of_maps(root, recipe__steps=1), tmp_path / "cell")
