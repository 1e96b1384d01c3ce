"""Studies through a real Slurm: what it does to jobs, and a driver that dies."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from scaling.design import Study, study_to_toml
from scaling.grid import run_grid
from scaling.grid.engines.journal import FILE, last_jobs
from scaling.records import RunDirectory, Status
from tests.conftest import small_study
from tests.engines.slurm_server import install, missing, slurm_server
from tests.grid.test_runner import wait_until
from tests.grid.test_torchrun import losses

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
PATIENCE_SECONDS = 300.0


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Path]:
    if reason := install():
        pytest.skip(reason)
    with slurm_server() as folder:
        yield folder


def drive(study: Study, run: RunDirectory, *options: str) -> "Popen[str]":
    file = run.path.with_suffix(".toml")
    file.write_text(study_to_toml(study))
    command = [sys.executable, "-m", "scaling", "run-grid", str(file), "--out", str(run.path), "--device", "cpu"]
    return Popen([*command, "--engine", "slurm", *options], stdout=PIPE, stderr=PIPE, text=True)


def steps(run: RunDirectory, cell: str) -> int:
    return len(losses(run, cell)) if (run.cell_folder(cell) / "metrics.jsonl").exists() else 0


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_cells_are_trained_as_if_nothing_had_happened(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8, 4], recipe__steps=600, measure__log_every_steps=1)
    run, alone = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "alone")
    first, second = [cell.id for cell in study.cells()]
    driver = drive(study, run)
    wait_until(lambda: min(steps(run, first), steps(run, second)) > 20, driver)
    driver.kill()
    driver.communicate()
    jobs = {cell: submitted.job for cell, submitted in last_jobs(run.path / "engines" / "slurm").items()}
    slurm("scancel", "--signal=USR1", jobs[first])  # as before a time limit
    driver = drive(study, run)
    out, err = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 0, out + err
    assert (run.path / "engines" / "slurm" / FILE).read_text().count('"job"') == 2, "each was submitted once"
    history = slurm("sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State").split()
    assert f"{jobs[first]}|REQUEUED" in history
    assert f"{jobs[second]}|REQUEUED" not in history
    run_grid(study, alone.path, "cpu", 2)  # one thread each, as in the jobs
    for cell in (first, second):
        record = run.record(cell)
        assert record is not None
        assert record.status is Status.DONE
        assert losses(run, cell) == losses(alone, cell)


def test_a_cell_on_two_nodes_saves_and_goes_on(tmp_path: Path) -> None:
    study = small_study(
        **{"grid__patch_sizes": [4], "recipe__steps": 400, "measure__log_every_steps": 1},
        **{"resources__processes": 2, "resources__nodes": 2},
    )
    run = RunDirectory(tmp_path / "run")
    (cell,) = study.cells()
    driver = drive(study, run)
    wait_until(lambda: steps(run, cell.id) > 20, driver)
    job = last_jobs(run.path / "engines" / "slurm")[cell.id].job
    slurm("scancel", "--signal=USR1", job)
    out, err = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 0, out + err
    record = run.record(cell.id)
    assert record is not None
    assert (record.status, (record.resources or {})["processes"]) == (Status.DONE, 2)
    assert steps(run, cell.id) == 400
    assert f"{job}|REQUEUED" in slurm("sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State").split()
