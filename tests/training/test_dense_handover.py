"""Models of dense tasks start from the backbone of the classifier that their study trains before them."""

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from tests.conftest import small_study

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
CLASSIFIER = {
    "name": "classes",
    "data": {"name": "digits", "task": "classification", "canvas": 16, "test_images": 4},
    "recipe": {"steps": 3, "batch_size": 4, "learning_rate": 1e-2},
}


@pytest.mark.parametrize(
    ("task", "head", "architecture"),
    [
        ("segmentation", "linear", "deit"),
        ("segmentation", "upernet", "adventurer"),
        ("detection", "cascade", "deit"),
        ("detection", "cascade", "adventurer"),
    ],
)
def test_a_dense_cell_starts_from_the_classifier_s_backbone(
    task: str, head: str, architecture: str, tmp_path: Path
) -> None:
    """Its own training moves nothing, so that what it began with is what it keeps."""
    detector = {"strides": [2, 4], "proposals": 8, "sampled_regions": 8} if task == "detection" else None
    study = small_study(
        data={"name": "digits", "task": task, "canvas": 16, "digits": 2, "test_images": 4},
        grid__architectures=[architecture],
        grid__patch_sizes=[8],
        grid__heads=[head],
        recipe={"steps": 1, "batch_size": 2, "learning_rate": 1e-12} | ({"detector": detector} if detector else {}),
        measure__fvcore=False,
        pretraining=[CLASSIFIER],
    )
    run = RunDirectory(tmp_path / "run")
    classifier, own = study.all_cells()
    records: list[Record] = []
    for cell in (classifier, own):
        record = run_cell(cell, run.begin(cell), "cpu", cell.recipe.batch_size, time.time(), lambda *_: None)
        assert record.status is Status.DONE, record.error
        run.finish(record)
        records.append(record)
    before, after = (load_file(run.checkpoint(cell.id)) for cell in (classifier, own))
    backbone = {name.removeprefix("backbone."): value for name, value in after.items() if name.startswith("backbone.")}
    assert set(before) - set(backbone) == {"head.weight", "head.bias"}
    assert set(backbone) <= set(before)
    for name, value in backbone.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)
    assert records[1].started_from is not None
    assert records[1].started_from["file"] == str(run.checkpoint(classifier.id))
    assert records[1].started_from_cell == records[0].cell
