"""A grid whose cells have their processes from torchrun, on one machine and as if on two."""

import json
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from scaling.design import Study, study_to_toml
from scaling.errors import UsageError
from scaling.grid import run_grid
from scaling.records import Record, RunDirectory, Status
from scaling.torchrun import find_place
from scaling.training.launch import free_port
from tests.cli.command import scaling
from tests.conftest import small_study
from tests.grid.test_runner import PATIENCE_SECONDS, wait_until

LONG = small_study(grid__patch_sizes=[4], recipe__steps=4000, measure__log_every_steps=1)


def torchrun(study: Study, run: RunDirectory, *options: str) -> Popen[str]:
    run.path.parent.mkdir(parents=True, exist_ok=True)
    file = run.path.with_suffix(".toml")
    file.write_text(study_to_toml(study))
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "scaling", "run-grid", str(file)]
    command += ["--out", str(run.path), "--device", "cpu", "--format", "json"]
    return Popen(command, stdout=PIPE, stderr=PIPE, text=True)


def two_machines() -> list[str]:
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    return [*meeting, "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "two"]


def losses(run: RunDirectory, cell: str) -> list[float]:
    lines = (run.cell_folder(cell) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_two_machines_train_each_cell_as_one_process_does(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8, 4], recipe__steps=8, measure__log_every_steps=1)
    alone, both = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "both")
    run_grid(study, alone.path, "cpu", 1)
    meeting = two_machines()
    machines = [torchrun(study, both, *meeting) for _ in range(2)]
    outputs = [machine.communicate(timeout=PATIENCE_SECONDS) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    (answer,) = [out for out, _ in outputs if out]  # of the first process alone
    cells = [cell.id for cell in study.cells()]
    assert sorted(json.loads(answer)["ran"]) == sorted(cells)
    for cell in cells:
        record = both.record(cell)
        assert record is not None
        assert (record.status, (record.resources or {})["processes"]) == (Status.DONE, 2)
        assert losses(both, cell) == pytest.approx(losses(alone, cell), rel=1e-4)
    assert not list(both.path.glob("cells/*/lease-*"))


@pytest.mark.slow
def test_a_process_that_dies_fails_its_cell_and_the_grid_goes_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    study = small_study(grid__patch_sizes=[4], grid__seeds=[0, 1], recipe__steps=400, measure__log_every_steps=1)
    grid = torchrun(study, run, "--standalone", "--nproc-per-node", "2")
    first = _training(run, grid)
    _trainer(grid, rank=1).kill()
    _out, err = grid.communicate(timeout=PATIENCE_SECONDS)
    assert grid.returncode == 1, err
    failure = run.failure(first)
    assert failure is not None
    assert failure.status is Status.FAILED
    assert "process 1 of 2 was killed by signal 9 (on " in (failure.error or "")
    other = next(cell.id for cell in study.cells() if cell.id != first)
    assert run.status(other) is Status.DONE


@pytest.mark.slow
def test_what_torchrun_starts_again_meets_again(tmp_path: Path) -> None:
    """One of two machines loses its process; each counts restarts by itself, and the store is the old one."""
    run = RunDirectory(tmp_path / "run")
    study = small_study(grid__patch_sizes=[4], recipe__steps=400, measure__log_every_steps=1)
    meeting = [*two_machines(), "--max-restarts", "1"]
    machines = [torchrun(study, run, *meeting) for _ in range(2)]
    cell = _training(run, machines[0])
    follower = next(process for machine in machines for process in _started_by(machine, rank=1))
    follower.kill()
    outputs = [machine.communicate(timeout=PATIENCE_SECONDS) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert run.status(cell) is Status.DONE


@pytest.mark.slow
def test_torchrun_that_is_asked_to_stop_saves(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    grid = torchrun(LONG, run, "--standalone", "--nproc-per-node", "2")
    cell = _training(run, grid)
    grid.send_signal(signal.SIGTERM)
    _out, err = grid.communicate(timeout=PATIENCE_SECONDS)
    failure: Record | None = run.failure(cell)
    assert failure is not None, err
    assert (failure.error or "").startswith("asked to stop after step "), failure.error
    assert failure.status is Status.PREEMPTED


def _training(run: RunDirectory, grid: Popen[str]) -> str:
    """The cell that is being trained."""

    def curves() -> list[Path]:
        return [path for path in run.path.glob("cells/*/metrics.jsonl") if path.read_text().count("\n") > 2]

    wait_until(lambda: bool(curves()), grid)
    return curves()[0].parent.name


def _started_by(grid: Popen[str], rank: int) -> list[psutil.Process]:
    """The process that torchrun started for a rank, and those below it."""
    below = psutil.Process(grid.pid).children(recursive=True)
    return [process for process in below if process.environ().get("RANK") == str(rank)]


def _trainer(grid: Popen[str], rank: int) -> psutil.Process:
    """The process that trains a rank's part: the one that was forked for the process that torchrun started."""
    of_rank = _started_by(grid, rank)
    forked = [process for process in of_rank if "forkserver" in " ".join(process.cmdline())]
    (trainer,) = [process for process in forked if not process.children()]
    return trainer


def test_only_torchrun_may_give_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_place() is None
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="RANK is set, but not by torchrun"):
        find_place()


def test_what_torchrun_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "small.toml"
    file.write_text(study_to_toml(small_study()))
    place = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "test"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    refused = scaling("run-grid", file, "--device", "cpu")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "on 3 processes: resources.processes: 3 do not divide recipe.batch_size 8 evenly" in refused.stderr
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = scaling("run-grid", file, "--device", "cpu", "--workers", "2")
    assert refused.returncode == 2
    assert "--workers 2: under torchrun" in refused.stderr
