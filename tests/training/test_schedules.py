"""Cells whose patches shrink, trained for real on a few steps."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.cost import Execution, cost_of, cost_of_cell, head_of
from scaling.design import Cell, build_study
from scaling.grid import run_grid
from scaling.models import load_checkpoint
from scaling.records import Record, RecordError, Status, load_learning_curves, load_records
from scaling.training import run_cell
from scaling.training.cells import example_of, model_of
from scaling.training.loop import Task, train
from scaling.training.measure import count_flops
from scaling.training.parallel import build_accelerator
from scaling.training.resume import Position
from tests.conftest import study_values

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
both = pytest.mark.parametrize("architecture", ["deit", "adventurer"])
STAGES = [{"patch_size": 8, "share": 0.5}, {"patch_size": 4, "share": 0.25}]


def staged_cell(**changes: Any) -> Cell:
    values = {"grid__patch_sizes": [2], "recipe__steps": 8, "recipe__stages": STAGES, "measure__log_every_steps": 3}
    return build_study(study_values(**(values | changes))).cells()[0]


def run(cell: Cell, folder: Path, micro_batch_size: int = 8) -> Record:
    folder.mkdir(exist_ok=True)
    return run_cell(cell, folder, "cpu", micro_batch_size, time.time(), lambda step, steps, loss: None)


@both
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_the_record_of_a_schedule(task: str, architecture: str, tmp_path: Path) -> None:
    cell = staged_cell(data__task=task, data__digits=1, grid__architectures=[architecture])
    record = run(cell, tmp_path)
    assert record.status is Status.DONE, record.error
    coarse, middle, fine = (
        count_flops(model_of(cell, stage.design), example_of(cell), fvcore=False) for stage in cell.stages
    )
    by_hand = (4 * coarse.training + 2 * middle.training + 2 * fine.training) / 8
    assert record.training_flops_per_image == round(by_hand)
    assert record.training_flops_per_image == cost_of_cell(cell, scan="recomputed").training_flops_per_image
    assert record.forward_flops_per_image == record.fvcore_forward_flops_per_image == fine.forward
    closed_form = cost_of(cell.design, head_of(cell), Execution("fp32", scan="recomputed"))
    assert record.activation_bytes_per_image == closed_form.activation_bytes_per_image
    assert record.parameters == closed_form.parameters.total
    assert record.recipe is not None
    assert record.recipe["stages"] == STAGES
    model = model_of(cell)
    load_checkpoint(model, tmp_path / "checkpoint" / "model.safetensors")


@both
def test_the_model_shrinks_its_patches_at_the_stages_steps(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, seen = staged_cell(grid__architectures=[architecture]), []
    accelerator = build_accelerator(cell, "cpu", 4)
    forward = torch.nn.Conv2d.forward

    def note(layer: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        seen.append(layer.kernel_size[0])
        return forward(layer, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", note)
    logged = []

    def note_step(step: int, steps: int, loss: float | None) -> None:
        if loss is not None:
            logged.append((step, steps))

    train(Task(cell, accelerator, 4, tmp_path, time.time(), note_step, lambda: False), Position())
    assert seen == [8] * 8 + [4] * 4 + [2] * 4  # two micro-batches a step
    assert logged == [(3, 8), (4, 8), (6, 8), (8, 8)]  # no loss spans a switch


@both
def test_a_schedule_trains_to_the_same_bit_twice_and_with_accumulation(architecture: str, tmp_path: Path) -> None:
    cell = staged_cell(grid__architectures=[architecture])
    first, again, split = run(cell, tmp_path), run(cell, tmp_path), run(cell, tmp_path, micro_batch_size=2)
    assert first.test_loss == again.test_loss
    assert split.test_loss == pytest.approx(first.test_loss, rel=1e-4)


def test_a_switch_keeps_what_was_learned(tmp_path: Path) -> None:
    """The first losses after a switch go on below those before it; a fresh model's are far above."""
    options = {"recipe__steps": 160, "recipe__learning_rate": 3e-3, "recipe__position_init": "sincos"}
    stages = [{"patch_size": 4, "share": 0.75}]
    run(staged_cell(recipe__stages=stages, measure__log_every_steps=1, **options), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    before, after, fresh = (sum(losses[start : start + 10]) / 10 for start in (110, 120, 0))
    assert before < 0.7 * fresh
    assert after < before


def test_a_stage_starts_from_a_checkpoint(tmp_path: Path) -> None:
    first = run(staged_cell(), tmp_path / "first")
    assert first.status is Status.DONE
    source = str(tmp_path / "first" / "checkpoint" / "model.safetensors")
    record = run(staged_cell(recipe__start_from=source, recipe__resize_patches="flexivit"), tmp_path / "second")
    assert record.started_from is not None
    assert record.started_from["patches"] == "from 2 to 8 pixels, flexivit"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_schedules_on_cuda_agree_with_the_cpu(precision: str, tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    expected = run(staged_cell(recipe__steps=20), tmp_path).test_loss
    AcceleratorState._reset_state(True)
    cell = staged_cell(recipe__steps=20, recipe__precision=precision)
    record = run_cell(cell, tmp_path, "cuda", 8, time.time(), lambda step, steps, loss: None)
    assert record.status is Status.DONE, record.error
    assert record.test_loss == pytest.approx(expected, rel=0.03)


def test_a_grid_trains_records_and_resumes_schedules(tmp_path: Path) -> None:
    values = {"grid__patch_sizes": [2], "recipe__steps": 8, "recipe__stages": STAGES, "grid__seeds": [0, 1]}
    study, out = build_study(study_values(**values)), tmp_path / "run"
    first = run_grid(study, out, device="cpu", workers=1, only="*")
    assert [record.status for record in first.records] == [Status.DONE] * 2
    (out / "cells" / first.ran[1] / "record.json").unlink()
    again = run_grid(study, out, device="cpu", workers=1)
    assert again.ran == first.ran[1:]
    assert [record.test_loss for record in again.records] == [record.test_loss for record in first.records]
    with pytest.raises(RecordError, match=r"was made with recipe.stages = .*, the study now says \(\)"):
        run_grid(build_study(study_values(**(values | {"recipe__stages": []}))), out, device="cpu")
    table, curves = load_records(out), load_learning_curves(out)
    cost = cost_of_cell(study.cells()[0], scan="recomputed")
    first_cell = curves[curves["seed"].eq(0)]
    assert list(first_cell["images_seen"]) == [16, 32, 48, 64]
    assert list(first_cell["trained_patch_size"]) == [8, 8, 4, 2]
    per_image = [stage.cost.training_flops_per_image for stage in cost.stages]
    spent = [16 * per_image[0], 32 * per_image[0], 32 * per_image[0] + 16 * per_image[1], cost.training_flops]
    assert list(first_cell["training_flops"]) == spent
    assert list(table["training_flops_per_image"] * table["images_seen"]) == [cost.training_flops] * 2
