"""Signals that a scheduler sends to every process of a job, helpers of the cells included."""

import os
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from scaling.design import study_to_toml
from scaling.records import RunDirectory, Status
from tests.conftest import small_study
from tests.data import made
from tests.grid.test_runner import PATIENCE_SECONDS, wait_until

LONG: dict[str, Any] = {"grid__patch_sizes": [4], "recipe__steps": 4000, "measure__log_every_steps": 1}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("helpers", ["ranks", "loaders"])
def test_cells_save_although_their_helpers_get_the_signal_too(
    helpers: str, number: signal.Signals, tmp_path: Path
) -> None:
    if helpers == "ranks":
        study = small_study(**LONG, resources__processes=2)
    else:
        study = made.image_study(made.make_folder(tmp_path / "images"), **LONG, resources__data_workers=2)
    file, run = tmp_path / "small.toml", RunDirectory(tmp_path / "run")
    file.write_text(study_to_toml(study))
    (cell,) = study.cells()
    command = [sys.executable, "-m", "scaling", "run-grid", str(file), "--out", str(run.path), "--workers", "1"]
    process = Popen(command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True)
    curve = run.cell_folder(cell.id) / "metrics.jsonl"
    wait_until(lambda: curve.is_file() and curve.read_text().count("\n") > 2, process)
    os.killpg(process.pid, number)
    _out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert "died" not in err
    failure = run.failure(cell.id)
    assert failure is not None
    assert failure.status is Status.PREEMPTED
    assert (failure.error or "").startswith("asked to stop after step "), failure.error
    assert list((run.cell_folder(cell.id) / "resume").glob("step-*/about.json"))
