"""Weights tested again: the numbers of their record, other inputs and data, and files that are not theirs."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.data import draw_scenes
from scaling.design import Cell, DigitsData, study_to_toml
from scaling.errors import UsageError
from scaling.grid.saved_models import SavedModel, data_changes, find_saved
from scaling.models import CheckpointError, save_checkpoint
from scaling.records import RecordError, RunDirectory, Status, describe, read_cell
from scaling.records.schema import Record
from scaling.training import run_cell
from scaling.training.cells import EVALUATION_BATCHES, model_of
from scaling.training.evaluate_saved import SavedResult, evaluate_saved
from tests.cli.test_commands import scaling
from tests.conftest import small_study
from tests.data import made, made_dense

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
METRICS = ("accuracy", "accuracy_top5", "calibration_error", "mean_iou", "pixel_accuracy")


def trained(folder: Path, **changes: Any) -> tuple[RunDirectory, Cell, Record]:
    """A run directory whose first cell is trained."""
    study = small_study(recipe__steps=12, **changes)
    run = RunDirectory(folder / "run")
    run.prepare(study)
    cell = study.cells()[0]
    record = run_cell(cell, run.begin(cell), "cpu", 4, time.time(), lambda step, steps, loss: None)
    run.finish(record)
    return run, cell, record


def untrained(folder: Path, **changes: Any) -> tuple[RunDirectory, Cell]:
    """A run directory whose first cell has weights as they start."""
    study = small_study(**changes)
    run = RunDirectory(folder / "run")
    run.prepare(study)
    cell = study.cells()[0]
    (run.begin(cell) / "checkpoint").mkdir()
    save_checkpoint(model_of(cell), cell.design, run.cell_folder(cell.id) / "checkpoint" / "model.safetensors")
    return run, cell


def result_of(saved: SavedModel, batch_size: int = 16) -> SavedResult:
    return evaluate_saved(saved.cell, saved.weights, "cpu", batch_size)


@pytest.mark.parametrize(
    ("task", "architecture", "precision"),
    [("classification", "deit", "bf16"), ("classification", "adventurer", "fp32"), ("segmentation", "deit", "fp32")],
)
def test_a_checkpoint_gives_the_numbers_of_its_record(
    task: str, architecture: str, precision: str, tmp_path: Path
) -> None:
    axes = {"data__task": task, "data__digits": 1, "grid__architectures": [architecture]}
    run, cell, record = trained(tmp_path, recipe__precision=precision, **axes)
    folder = run.cell_folder(cell.id)
    for source in (folder, folder / "checkpoint" / "model.safetensors"):
        saved = find_saved(source)
        assert saved.cell.id == cell.id
        assert saved.record == record
    assert find_saved(run.path, design=str(cell.design)) == find_saved(folder)
    again = result_of(find_saved(folder), EVALUATION_BATCHES * 4)
    assert again.result.test_loss == record.test_loss
    assert again.result.test_loss_standard_error == record.test_loss_standard_error
    assert [getattr(again.result, name) for name in METRICS] == [getattr(record, name) for name in METRICS]
    assert again.positions == "as they are"


def test_other_inputs_and_other_data(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path, data__task="classification", data__digits=1)
    folder = run.cell_folder(cell.id)
    larger = result_of(find_saved(folder, input_size=32, data={"test_images": 30}))
    assert larger.positions == "from 2 x 2 to 4 x 4, bicubic"
    assert larger.result.test_images == 30
    other = tmp_path / "other.toml"
    other.write_text(study_to_toml(small_study(data__task="classification", data__digits=1, data__test_images=12)))
    assert result_of(find_saved(folder, study=str(other))).result.test_images == 12
    outside = tmp_path / "alone.safetensors"
    (folder / "checkpoint" / "model.safetensors").rename(outside)
    alone = find_saved(outside, study=str(other), data={"noise": 0.2})
    assert (alone.cell.design, alone.record) == (cell.design, None)
    assert isinstance(alone.cell.data, DigitsData)
    assert alone.cell.data.noise == 0.2
    assert result_of(alone).result.test_images == 12


def test_classes_that_the_test_set_lacks_are_named(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path, data__task="classification", data__digits=1, data__test_images=3)
    found = result_of(find_saved(run.cell_folder(cell.id)))
    assert len(found.missing_classes) >= 7
    labels = {int(label) for label in range(10)} - set(found.missing_classes)
    assert isinstance(cell.data, DigitsData)
    drawn = draw_scenes(cell.data, "test", 200, torch.Generator().manual_seed(0)).labels
    assert isinstance(drawn, torch.Tensor)
    assert labels <= set(drawn.tolist())


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = small_study(recipe__warmup_steps=2, recipe__betas=[0.9, 0.95], recipe__stages=[])
    run = RunDirectory(tmp_path / "run")
    for cell in study.cells():
        assert read_cell(run.begin(cell)).id == cell.id


def test_a_pretraining_is_named_by_its_stage(tmp_path: Path) -> None:
    recipe = {"steps": 2, "batch_size": 8, "learning_rate": 1e-3}
    first = {"name": "first", "input_size": 8, "patch_size": 8, "recipe": recipe}
    run, cell = untrained(tmp_path, pretraining=[first])
    before = cell.after
    assert before is not None
    (run.begin(before) / "checkpoint").mkdir()
    save_checkpoint(model_of(before), before.design, run.checkpoint(before.id))
    assert find_saved(run.path, design=str(cell.design)).cell.design == cell.design
    assert find_saved(run.path, stage="first", seed=0).cell.design == before.design
    with pytest.raises(UsageError, match=r"--stage frist: .* did you mean 'first'\?"):
        find_saved(run.path, stage="frist")
    with pytest.raises(UsageError, match=r"--stage first: .* is one cell's; leave it out"):
        find_saved(run.cell_folder(before.id), stage="first")


def test_a_stage_is_read_without_what_fitted_its_checkpoint(tmp_path: Path) -> None:
    first = {
        "name": "first",
        "input_size": 8,
        "patch_size": 8,
        "recipe": {"steps": 2, "batch_size": 8, "learning_rate": 1e-3},
    }
    study = small_study(pretraining=[first], recipe__new_head=True, recipe__resize_patches="bicubic")
    own, run = study.cells()[0], RunDirectory(tmp_path / "run")
    assert read_cell(run.begin(own)).design == own.design


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path)
    folder = run.cell_folder(cell.id)
    weights = folder / "checkpoint" / "model.safetensors"
    for asked in ("deit-micro/8@16+linear", "deit-nano/4@16+linear", "adventurer-nano/8@16+linear"):
        with pytest.raises(CheckpointError, match=r"is of deit-nano/8@16\+linear, not of " + asked.replace("+", r"\+")):
            find_saved(folder, design=asked)
    other = tmp_path / "classes.toml"
    other.write_text(study_to_toml(small_study(data__task="classification", data__digits=1)))
    with pytest.raises(CheckpointError, match=r"is of deit-nano/8@16\+linear, and has no head for classification"):
        result_of(find_saved(weights, study=str(other)))
    headless = tmp_path / "headless.pth"
    torch.save({"cls_token": torch.zeros(1)}, headless)
    with pytest.raises(CheckpointError, match="has no classifier to evaluate"):
        result_of(find_saved(headless, study=str(other), design="deit-nano/8@16"))
    weights.write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        find_saved(folder)


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_classifier_has_no_head_for_a_dense_task(task: str, tmp_path: Path) -> None:
    run, cell = untrained(tmp_path, data__task="classification", data__digits=1)
    dense = tmp_path / "dense.toml"
    dense.write_text(study_to_toml(small_study(data__task=task)))
    with pytest.raises(CheckpointError, match=rf"is of deit-nano/8@16, and has no head for {task}; give data of class"):
        result_of(find_saved(run.cell_folder(cell.id), study=str(dense)))


def test_a_classifier_of_other_classes_is_refused(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path, data__task="classification", data__digits=1)
    insects = tmp_path / "insects.toml"
    insects.write_text(study_to_toml(made.image_study(tmp_path)))
    with pytest.raises(CheckpointError, match=f"tells 10 classes apart, and the data have {len(made.CLASSES)}"):
        result_of(find_saved(run.cell_folder(cell.id), study=str(insects)))


def test_what_is_not_there_or_not_clear_is_named(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path, grid__seeds=[0, 1])
    folder = run.cell_folder(cell.id)
    with pytest.raises(RecordError, match="there is no such checkpoint, cell's folder or run directory"):
        find_saved(tmp_path / "none")
    with pytest.raises(UsageError, match="has 4 such cells; choose one by --design"):
        find_saved(run.path)
    with pytest.raises(UsageError, match="has 2 such cells; choose one by --seed"):
        find_saved(run.path, design=str(cell.design))
    with pytest.raises(UsageError, match="has no cell of this seed"):
        find_saved(run.path, design=str(cell.design), seed=5)
    with pytest.raises(UsageError, match="did you mean 'deit-nano/8@16"):
        find_saved(run.path, design="deit-nano/8@18")
    with pytest.raises(RecordError, match="the cell is not trained yet"):
        find_saved(run.begin(run.study().cells()[1]))
    with pytest.raises(UsageError, match="8 does not divide input size 20"):
        find_saved(folder, input_size=20)
    with pytest.raises(UsageError, match=r"data.canvas: 2: input should be"):
        find_saved(folder, data={"canvas": 2})
    alone = tmp_path / "alone.pth"
    alone.write_bytes(b"")
    with pytest.raises(UsageError, match="give --study, which says the data"):
        find_saved(alone)
    with pytest.raises(UsageError, match="does not say of which design it is; give --design"):
        find_saved(alone, study="digits-quick")
    (folder / "cell.json").write_text("{")
    with pytest.raises(RecordError, match="cut off or not the description of a cell"):
        find_saved(folder)


def test_changes_of_data_are_read_as_toml() -> None:
    assert data_changes(["test_images=12", "noise = 0.5", "task=segmentation", "name='digits'"]) == {
        "test_images": 12,
        "noise": 0.5,
        "task": "segmentation",
        "name": "digits",
    }
    with pytest.raises(UsageError, match="--data noise: write KEY=VALUE"):
        data_changes(["noise"])


def test_the_command_prints_json_and_its_errors(tmp_path: Path) -> None:
    import json

    run, cell = untrained(tmp_path)
    shown = scaling("evaluate", run.cell_folder(cell.id), "--format", "json", "--device", "cpu")
    assert shown.returncode == 0, shown.stderr
    values = json.loads(shown.stdout)
    assert (values["design"], values["test_images"], values["accuracy"]) == (str(cell.design), 40, None)
    assert 0 < values["mean_iou"] < values["pixel_accuracy"] < 1
    missing = scaling("evaluate", tmp_path / "none")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: ")


def test_images_of_any_sides_are_tested_one_at_a_time_and_absent_classes_are_told(tmp_path: Path) -> None:
    import json

    data = {"name": "segmentation-folder", "path": str(made_dense.make_maps(tmp_path / "maps")), "train_images": 6}
    run, cell = untrained(tmp_path, data=data | {"classes": made_dense.CLASSES + 1}, resources__data_workers=0)
    command = ("evaluate", run.cell_folder(cell.id), "--format", "json", "--device", "cpu")
    whole = scaling(*command)
    assert whole.returncode == 0, whole.stderr
    told = json.loads(whole.stdout)
    assert (told["batch_size"], told["missing_classes"]) == (1, [4])
    assert "no example of class 4; in mean IoU it counts as 0 where it is predicted" in whole.stderr
    refused = scaling(*command, "--batch-size", "4")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--batch-size 4: images of segmentation keep their sides, and are tested one at a time" in refused.stderr
    windows = scaling(*command, "--batch-size", "4", "--data", "inference=slide")
    assert windows.returncode == 0, windows.stderr
    assert json.loads(windows.stdout)["batch_size"] == 4


def test_a_record_of_a_failed_cell_does_not_hide_its_checkpoint(tmp_path: Path) -> None:
    run, cell = untrained(tmp_path)
    run.fail(Record(**describe(cell), status=Status.FAILED), "Traceback")
    assert find_saved(run.cell_folder(cell.id)).record is None
