"""From one stage to the next: the same weights, fitted to another input or patch, and a loss that goes on."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scaling.data import Share, training_batches
from scaling.design import Cell
from scaling.models import load_checkpoint
from scaling.models.resampling import resample_positions, resize_patches
from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from scaling.training.cells import model_of
from scaling.training.objectives import objective
from tests.conftest import small_study

pytestmark = [pytest.mark.usefixtures("fresh_accelerate"), pytest.mark.slow]
LONG = {"steps": 150, "batch_size": 16, "learning_rate": 3e-3, "warmup_steps": 5}


def train(run: RunDirectory, cell: Cell) -> Record:
    folder = run.begin(cell)
    record = run_cell(cell, folder, "cpu", cell.recipe.batch_size, time.time(), lambda step, steps, loss: None)
    run.finish(record)
    assert record.status is Status.DONE, record.error
    return record


def losses(run: RunDirectory, cell: Cell) -> list[float]:
    rows = (run.cell_folder(cell.id) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


@torch.no_grad()
def loss_on(cell: Cell, of: Cell, weights: Path) -> float:
    """Loss of a checkpoint, fitted to a cell's model, on the first training scenes of a stage at the cell's input."""
    model = model_of(cell)
    load_checkpoint(model, weights, "flexivit")
    share = Share(of.recipe.batch_size, of.recipe.batch_size)
    scenes = next(training_batches(replace(of, design=cell.design), share))
    return float(objective(model(scenes.images), scenes.labels, of.recipe))


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [({}, 1e-4), ({"input_size": 8}, 0.1), ({"patch_size": 8}, 0.1)],
    ids=["as it was", "finer input", "finer patch"],
)
def test_the_loss_goes_on_where_the_stage_before_ended(
    keys: dict[str, Any], tolerance: float, architecture: str, tmp_path: Path
) -> None:
    study = small_study(
        pretraining=[{"name": "first", "recipe": LONG} | keys],
        recipe={"steps": 1, "batch_size": 64, "learning_rate": 1e-9},
        grid__architectures=[architecture],
        grid__patch_sizes=[4],
        measure__log_every_steps=1,
    )
    run = RunDirectory(tmp_path / "run")
    first, own = study.all_cells()
    train(run, first)
    record = train(run, own)
    start, (first_loss,) = losses(run, first)[0], losses(run, own)
    before = loss_on(first, own, run.checkpoint(first.id))  # at its own input and patch, on the same scenes
    assert first_loss == pytest.approx(loss_on(own, own, run.checkpoint(first.id)), rel=1e-4)
    assert abs(first_loss - before) < tolerance * (start - before)
    assert record.started_from is not None
    assert record.started_from["file"] == str(run.checkpoint(first.id))


def test_positions_and_kernel_are_resampled_as_a_checkpoint_s_are(tmp_path: Path) -> None:
    study = small_study(
        pretraining=[{"name": "first", "input_size": 8, "patch_size": 4, "recipe": LONG | {"steps": 5}}],
        recipe={"steps": 1, "batch_size": 2, "learning_rate": 1e-12, "weight_decay": 0.0},
        grid__patch_sizes=[2],
    )
    run = RunDirectory(tmp_path / "run")
    first, own = study.all_cells()
    train(run, first)
    started = train(run, own).started_from
    before, after = (load_file(run.checkpoint(cell.id)) for cell in (first, own))
    position, kernel = "backbone.pos_embed", "backbone.patch_embed.proj.weight"
    expected = {
        position: resample_positions(before[position], (2, 2), (8, 8), class_token_last=False),
        kernel: resize_patches(before[kernel], 2, "flexivit"),
    }
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, expected.get(name, before[name]), rtol=0, atol=1e-6)
    assert started is not None
    assert started["positions"] == "from 2 x 2 to 8 x 8, bicubic"
    assert started["patches"] == "from 4 to 2 pixels, flexivit"
    assert started["head"] == "loaded"


def test_a_new_head_starts_anew(tmp_path: Path) -> None:
    study = small_study(
        data__task="classification",
        data__digits=1,
        pretraining=[{"name": "first", "recipe": LONG | {"steps": 5}}],
        recipe={"steps": 1, "batch_size": 2, "learning_rate": 1e-12, "new_head": True},
        grid__patch_sizes=[8],
    )
    run = RunDirectory(tmp_path / "run")
    first, own = study.all_cells()
    train(run, first)
    started = train(run, own).started_from
    assert started is not None
    assert started["head"] == "new"
    before, after = (load_file(run.checkpoint(cell.id)) for cell in (first, own))
    assert not torch.allclose(before["head.weight"], after["head.weight"])
