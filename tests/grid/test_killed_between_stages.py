"""A grid in stages, killed with -9 between them and continued: nothing is trained twice, and the result is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.design import study_to_toml
from scaling.records import RunDirectory, Status
from tests.conftest import small_study

PATIENCE_SECONDS = 400
RECIPE = {"steps": 30, "batch_size": 8, "learning_rate": 1e-3}
STAGES = [
    {"name": "first", "input_size": 8, "patch_size": 8, "recipe": RECIPE},
    {"name": "second", "patch_size": 8, "recipe": RECIPE},
]


def start(file: Path, out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "scaling", "run-grid", str(file), "--out", str(out), "--workers", "1"]
    return subprocess.Popen(
        [*command, "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_runner_killed_between_stages_goes_on_where_it_was(tmp_path: Path) -> None:
    study = small_study(pretraining=STAGES, recipe=RECIPE, grid__patch_sizes=[8, 4])
    file = tmp_path / "small.toml"
    file.write_text(study_to_toml(study))
    whole, killed = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "killed")
    out, err = start(file, whole.path).communicate(timeout=PATIENCE_SECONDS)
    assert not json.loads(out)["interrupted"], err
    first, second, *_ = study.all_cells()
    before: dict[str, bytes] = {}
    for cell in (first, second):  # a kill after each of the first two stages
        process = start(file, killed.path)
        record = killed.cell_folder(cell.id) / "record.json"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not record.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_SECONDS)
        before[cell.id] = record.read_bytes()
    process = start(file, killed.path)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    for cell_id, content in before.items():
        assert (killed.cell_folder(cell_id) / "record.json").read_bytes() == content
    ends = [{record.cell: record for record in run.records()} for run in (whole, killed)]
    assert set(ends[0]) == set(ends[1]) == {cell.id for cell in study.all_cells()}
    for cell in study.all_cells():
        one, other = (end[cell.id] for end in ends)
        assert one.status is other.status is Status.DONE
        assert one.test_loss == other.test_loss
        assert one.earlier_training_flops == other.earlier_training_flops
    own = ends[0][study.cells()[0].id]
    assert own.earlier_training_flops == sum(ends[0][cell.id].training_flops or 0 for cell in (first, second))
