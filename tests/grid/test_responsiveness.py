"""What looking at a large grid and starting one of its cells touch, counted in files and listings, not in seconds."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.data import data_fingerprint
from scaling.errors import UsageError
from scaling.grid import Device, grid_status, plan_jobs, run_grid, with_status
from scaling.grid.jobs import check_same_data
from scaling.grid.leases import Holder, file_system_time, take_lease
from scaling.records import Record, RunDirectory, Status, describe
from tests.conftest import small_study
from tests.data import made

STUDY = small_study(grid__seeds=list(range(10)))  # twenty cells of two designs
ROOMY = Device("cpu", count=4, memory_bytes=8 << 30)
FIRST = {
    "name": "first",
    "input_size": 8,
    "patch_size": 8,
    "recipe": {"steps": 4, "batch_size": 8, "learning_rate": 1e-3},
}
listening: list[tuple[str, Path]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.scandir") and isinstance(arguments[0], str | Path):
        listening.append((event, Path(arguments[0])))


sys.addaudithook(_note)  # hooks stay until the process ends


def touched_by(look: Callable[[], object], run: RunDirectory) -> tuple[list[str], list[str]]:
    """Files opened and folders listed below `cells/`, by path from there."""
    listening.clear()
    look()
    cells = run.path / "cells"
    events = [(event, str(path.relative_to(cells))) for event, path in listening if path.is_relative_to(cells)]
    return [path for event, path in events if event == "open"], [path for event, path in events if event != "open"]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Ten cells with records, one that runs, one that failed, and eight that nobody began."""
    run = RunDirectory(tmp_path / "run")
    run.prepare(STUDY)
    cells = STUDY.cells()
    for cell in cells[:10]:
        run.begin(cell)
        run.finish(Record(**describe(cell), status=Status.DONE, test_loss=0.5))
    assert take_lease(run.begin(cells[10]), Holder.here("cpu", 1, 60.0), file_system_time(run.path)) is not None
    run.begin(cells[11])
    run.fail(Record(**describe(cells[11]), status=Status.FAILED, error="no luck"), "")
    return run


def test_a_look_opens_each_record_once_and_lists_only_what_is_at_work(run: RunDirectory) -> None:
    ids = [cell.id for cell in STUDY.cells()]
    opened, listed = touched_by(lambda: grid_status(run.path), run)
    assert grid_status(run.path).counts == {"done": 10, "running": 1, "failed": 1, "planned": 8}
    assert listed.count(".") == 1
    assert {path for path in listed if path != "."} <= {*ids[10:12], *(f"{cell}/resume" for cell in ids[10:12])}
    assert [path for path in opened if path[:12] in ids[:10]] == [f"{cell}/record.json" for cell in ids[:10]]
    assert not [path for path in opened if path[:12] in ids[12:]]


def test_a_folder_that_is_moved_away_is_seen_at_the_next_look(run: RunDirectory, tmp_path: Path) -> None:
    assert grid_status(run.path).counts["done"] == 10
    run.cell_folder(STUDY.cells()[3].id).rename(tmp_path / "aside")
    found = grid_status(run.path)
    assert (found.cells[3].state, found.counts["done"]) == ("planned", 9)


def test_one_cell_is_planned_without_a_look_at_the_others(run: RunDirectory) -> None:
    cell, ran = STUDY.cells()[4], []
    opened, listed = touched_by(lambda: ran.append(run_grid(STUDY, run.path, device="cpu", only=cell.id)), run)
    assert [record.cell for record in ran[0].records] == [cell.id]
    assert {path[:12] for path in opened} == {cell.id}
    assert set(listed) == {"."}


def test_an_id_selects_its_cell_and_what_that_starts_from() -> None:
    study = small_study(pretraining=[FIRST], grid__seeds=[0, 1])
    pretraining, other, *own = study.all_cells()
    assert (pretraining.stage, other.stage, len(own)) == ("first", "first", 4)
    for asked, expected in ((pretraining, [pretraining]), (own[0], [pretraining, own[0]]), (own[3], [other, own[3]])):
        assert [job.cell for job in plan_jobs(study, ROOMY, 1, only=asked.id)] == expected
    with pytest.raises(UsageError, match="--only '0123456789ab' matches none of the 4 cells of 'small'"):
        plan_jobs(study, ROOMY, 1, only="0123456789ab")


def test_one_cell_is_compared_with_the_images_of_one_record_and_all_with_all(tmp_path: Path) -> None:
    study, run = made.image_study(made.make_folder(tmp_path / "images")), RunDirectory(tmp_path / "run")
    study = study.model_copy(update={"grid": study.grid.model_copy(update={"seeds": tuple(range(8))})})
    run.prepare(study)
    *finished, own = study.cells()
    for cell in finished:
        run.begin(cell)
        run.finish(Record(**describe(cell), status=Status.DONE, data_fingerprint=data_fingerprint(cell.data)))
    for only, count in ((own.id, 1), (None, len(finished))):
        jobs = with_status(plan_jobs(study, ROOMY, 1, only=only), run)
        opened, _ = touched_by(lambda jobs=jobs: check_same_data(jobs, run), run)
        assert len(opened) == count
