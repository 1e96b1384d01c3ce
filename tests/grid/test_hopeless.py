"""Cells that are stopped since they cannot matter: asked, left alone, continued, and found in a real study."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.design import Cell, PatchStage, Study, study_to_toml
from scaling.grid import Board, find_device, plan_jobs, run_grid
from scaling.grid.crew import Crew
from scaling.grid.engine import Ended, Moved
from scaling.grid.hopeless import Judge
from scaling.grid.leases import Holder, file_system_time, take_lease
from scaling.grid.order import cheapest_first
from scaling.grid.status import grid_status
from scaling.records import Record, RunDirectory, Status, describe, load_records
from tests.conftest import small_study
from tests.grid.test_runner import PATIENCE_SECONDS

WHY = "hopeless: heading for more than another"


def command_line(study: Study, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = out.with_suffix(".toml")
    file.write_text(study_to_toml(study))
    command = [sys.executable, "-m", "scaling", "run-grid", str(file), "--out", str(out), "--workers", "1"]
    return subprocess.run(
        [*command, "--device", "cpu", *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def stop_after_first_loss(study: Study, run: RunDirectory) -> Record:
    """Run the only cell of a study and ask it to stop as a runner would."""
    place = find_device("cpu")
    (job,) = plan_jobs(study, place, 1)
    run.prepare(study)
    folder = run.begin(job.cell)
    crew = Crew(run, place, 1, 0)
    lease = take_lease(folder, Holder.here("cpu", crew.threads, 60.0), file_system_time(run.path))
    assert lease is not None
    crew.submit(job, lease)
    while True:
        for news in crew.news(0.1):
            if isinstance(news, Moved) and news.step == 1:
                crew.cancel(job.cell.id, WHY)
            if isinstance(news, Ended):
                return news.record


def test_a_stopped_cell_is_left_alone_until_a_run_stops_none_and_then_ends_as_if_undisturbed(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[4], recipe__steps=60, measure__log_every_steps=1, measure__fvcore=False)
    (cell,) = study.cells()
    run = RunDirectory(tmp_path / "run")
    record = stop_after_first_loss(study, run)
    assert record.status is Status.STOPPED
    assert record.error is not None
    assert record.error.startswith(f"{WHY}; asked to stop after step ")
    assert record.steps is not None
    assert 0 < record.steps < 60
    assert record.training_seconds
    assert run.record(cell.id) is None
    assert run.failure(cell.id) == record

    found = grid_status(run.path)
    assert (found.counts, found.is_finished, found.cpu_hours > 0) == ({"stopped": 1}, True, True)
    assert list(load_records(run.path)["status"]) == ["stopped"]
    again = command_line(study, run.path, "--stop-hopeless", "--format", "json")
    assert again.returncode == 0, again.stderr
    value = json.loads(again.stdout)
    assert (value["ran"], [each["status"] for each in value["records"]]) == ([], ["stopped"])
    assert f"stopped: {cell.design} seed 0: {WHY}" in again.stderr
    assert "without --stop-hopeless" in again.stderr

    (done,) = run_grid(study, run.path, device="cpu", workers=1).records
    (undisturbed,) = run_grid(study, tmp_path / "undisturbed", device="cpu", workers=1).records
    assert (done.status, done.test_loss) == (Status.DONE, undisturbed.test_loss)
    assert done.steps == 60
    curves = [RunDirectory(tmp_path / name).learning_curve(cell.id) for name in ("run", "undisturbed")]
    assert curves[0] == curves[1]
    assert not (run.cell_folder(cell.id) / "failure.json").exists()


@pytest.mark.slow
def test_a_hopeless_cell_of_a_real_study_is_stopped_and_the_others_finish(tmp_path: Path) -> None:
    never_learns = {"sizes": ["micro"], "learning_rate": 1e-7}
    study = small_study(
        grid__sizes=["micro", "nano"],
        grid__patch_sizes=[4],
        recipe__steps=400,
        recipe__by_size=[never_learns],
        measure__log_every_steps=8,
        measure__fvcore=False,
    )
    micro, nano = study.cells()
    run = RunDirectory(tmp_path / "run")
    first = command_line(study, run.path, "--stop-hopeless")
    assert first.returncode == 0, first.stderr
    assert "1 stopped" in first.stderr
    assert f"{nano.design} ended at" in first.stderr
    assert (run.status(micro.id), run.status(nano.id)) == (Status.STOPPED, Status.DONE)
    stopped = run.failure(micro.id)
    assert stopped is not None
    assert stopped.steps is not None
    assert 200 <= stopped.steps < 400


class Judged:
    """Two cells of which the cheap one has ended at a loss of 0.3, and the other logs the same loss for ever."""

    def __init__(self, path: Path, loss: float = 1.0) -> None:
        study = small_study(grid__patch_sizes=[8, 4], recipe__steps=50)
        self.jobs = plan_jobs(study, find_device("cpu"), 1)
        self.cheap, self.dear = (job.cell for job in self.jobs)
        self.run = RunDirectory(path)
        self.run.prepare(study)
        self.log(self.cheap, 0.3, 50)
        self.log(self.dear, loss, 30)
        self.make_board()

    def log(self, cell: Cell, loss: float, steps: int) -> None:
        rows = [json.dumps({"step": step, "images": 8 * step, "loss": loss}) for step in range(1, steps + 1)]
        (self.run.begin(cell) / "metrics.jsonl").write_text("\n".join(rows) + "\n")

    def make_board(self) -> None:
        self.board = Board(self.jobs, 1)
        self.board.finish(Record(**describe(self.cheap), status=Status.DONE))
        self.judge = Judge(self.run, self.board)

    def change(self, **changes: object) -> None:
        """Of the dear cell."""
        self.jobs[1] = replace(self.jobs[1], cell=replace(self.dear, **changes))
        self.dear = self.jobs[1].cell
        self.log(self.dear, 1.0, 30)
        self.make_board()

    def find(self, step: int) -> tuple[str, str] | None:
        self.board.start(self.dear.id)
        self.board.progress(self.dear.id, step, 50, 1.0)
        return self.judge.find([self.dear.id])


def test_each_tenth_from_the_half_on_is_looked_at_once(tmp_path: Path) -> None:
    case = Judged(tmp_path / "run")
    assert case.find(24) is None
    found = case.find(30)
    assert found is not None
    assert found[0] == case.dear.id
    assert "deit-nano/8@16+linear ended at 0.3 for no more FLOPs" in found[1]
    assert case.find(34) is None
    assert case.find(35)
    assert case.find(50) is None


def test_only_comparable_losses_of_cells_that_stand_alone_are_judged(tmp_path: Path) -> None:
    changes = {
        "smoothed": {"recipe": "label_smoothing", "value": 0.1},
        "with another loss beside it": {"recipe": "auxiliary_loss", "value": 0.4},
        "checkpoint": {"recipe": "start_from", "value": "some.safetensors"},
        "schedule": {"recipe": "stages", "value": (PatchStage(patch_size=8, share=0.5),)},
    }
    for name, change in changes.items():
        case = Judged(tmp_path / name)
        case.change(recipe=case.dear.recipe.model_copy(update={change["recipe"]: change["value"]}))
        assert case.find(30) is None, name
    for name, fields in {"of another seed": {"seed": 1}, "stage": {"stage": "first"}}.items():
        case = Judged(tmp_path / name)
        case.change(**fields)
        assert case.find(30) is None, name
    case = Judged(tmp_path / "after")
    case.change(after=case.cheap)
    assert case.find(30) is None
    case = Judged(tmp_path / "same")
    case.change()
    assert case.find(30)


def test_a_curve_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    case = Judged(tmp_path / "run")
    (case.run.cell_folder(case.cheap.id) / "metrics.jsonl").write_text("no curve\n")
    assert case.find(30) is None
    (case.run.cell_folder(case.cheap.id) / "metrics.jsonl").unlink()
    assert case.find(35) is None


def test_what_must_be_beaten_is_trained_first(tmp_path: Path) -> None:
    case = Judged(tmp_path / "run")
    assert [job.cell.id for job in cheapest_first(case.jobs[::-1])] == [case.cheap.id, case.dear.id]
