"""What `run-grid --dry-run` says of a device that this machine may not have."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scaling.cli.app import app
from scaling.cost import Head, cost_of
from scaling.cost.cells import execution_of
from scaling.design import study_to_toml
from scaling.grid import Device
from tests.conftest import small_study


def test_on_a_gpu_the_estimate_has_not_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run-grid", "digits-quick", "--dry-run", "--out", str(tmp_path / "run")]
    for kind, said in (("cpu", False), ("cuda", True)):
        monkeypatch.setattr("scaling.grid.find_device", lambda choice, kind=kind: Device(kind, 1, 8 << 30))
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert ("the probe before each cell decides" in " ".join(result.output.split())) is said


def test_a_classifier_before_two_segmenters_is_planned_once_and_costed_as_one(tmp_path: Path) -> None:
    classes = {"name": "digits", "task": "classification", "canvas": 16, "test_images": 40}
    recipe = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3}
    study = small_study(
        pretraining=[{"name": "classes", "input_size": 8, "data": classes, "recipe": recipe}],
        grid__heads=["linear", "upernet"],
        grid__patch_sizes=[4],
        recipe__auxiliary_loss=0.4,
    )
    path = tmp_path / "study.toml"
    path.write_text(study_to_toml(study))
    result = CliRunner().invoke(app, ["run-grid", str(path), "--dry-run", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "3 cells" in result.output
    assert result.output.count("deit-nano/4@8 seed 0 (classes)") == 1
    arguments = ["run-grid", str(path), "--dry-run", "--format", "json", "--out", str(tmp_path / "run")]
    rows = json.loads(CliRunner().invoke(app, arguments).stdout)
    heads = (Head(10), Head(11, "linear", (16, 16)), Head(11, "upernet", (16, 16), auxiliary=True))
    for row, cell, head in zip(rows, study.all_cells(), heads, strict=True):
        cost = cost_of(cell.design, head, execution_of(cell))
        assert (row["parameters"], row["forward_flops_per_image"]) == (
            cost.parameters.total,
            cost.forward_flops_per_image,
        )
    assert not (tmp_path / "run").exists()
