"""The order of cells that start from others, and what happens when one gives no checkpoint."""

from pathlib import Path

import pytest

from scaling.errors import UsageError
from scaling.grid import Board, Conduct, Device, plan_jobs, run_grid
from scaling.grid.order import by_urgency, by_value, check_checkpoints, not_started
from scaling.records import Record, RunDirectory, Status, describe, load_records
from tests.conftest import small_study

ROOMY = Device("cpu", count=4, memory_bytes=8 << 30)
RECIPE = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3}
FIRST = {"name": "first", "input_size": 8, "patch_size": 8, "recipe": RECIPE}


def test_what_long_chains_wait_for_comes_first_and_nothing_before_its_start() -> None:
    jobs = plan_jobs(small_study(pretraining=[FIRST], grid__seeds=[0, 1], grid__patch_sizes=[8, 2]), ROOMY, 1)
    order = [job.cell for job in by_urgency(jobs)]
    flops = {job.cell.id: job.training_flops for job in jobs}
    assert flops[order[0].id] < min(flops[cell.id] for cell in order if cell.stage is None)
    assert len(order) == len(jobs) == 6
    assert [cell.stage for cell in order[:2]] == ["first"] * 2  # cheaper than what follows, and yet first
    assert [cell.design.patch_size for cell in order[2:]] == [2, 2, 8, 8]
    for place, cell in enumerate(order):
        assert cell.after is None or cell.after in order[:place]


def test_what_is_worth_most_comes_first_with_what_it_starts_from() -> None:
    study = small_study(
        pretraining=[{key: value for key, value in FIRST.items() if key != "patch_size"}],
        grid__seeds=[0, 1],
        grid__patch_sizes=[8, 4, 2],
    )
    jobs = plan_jobs(study, ROOMY, 1)
    values = {"deit-nano/8@16+linear": 0.5, "deit-nano/4@16+linear": 2.0, "deit-nano/2@8+linear": 99.0}
    order = [job.cell for job in by_value(jobs, values)]
    assert [(cell.stage, cell.design.patch_size) for cell in order] == [
        *([("first", 4)] * 2 + [(None, 4)] * 2),
        *([("first", 8)] * 2 + [(None, 8)] * 2),
        *([("first", 2)] * 2 + [(None, 2)] * 2),  # without a value: that of its pretraining alone is none
    ]
    for place, cell in enumerate(order):
        assert cell.after is None or cell.after in order[:place]
    assert by_value(jobs, {}) == by_urgency(jobs)


def test_a_start_that_several_share_has_the_most_of_their_values() -> None:
    jobs = plan_jobs(small_study(pretraining=[FIRST], grid__patch_sizes=[8, 2]), ROOMY, 1)
    order = [job.cell for job in by_value(jobs, {"deit-nano/8@16+linear": 1.0})]
    assert [(cell.stage, cell.design.patch_size) for cell in order] == [("first", 8), (None, 8), (None, 2)]


def test_a_cell_whose_start_was_stopped_is_no_failure() -> None:
    first, own = plan_jobs(small_study(pretraining=[FIRST], grid__patch_sizes=[8]), ROOMY, 1)
    assert not_started(own.cell, Record(**describe(first.cell), status=Status.PREEMPTED)).status is Status.PREEMPTED


@pytest.mark.parametrize("status", [Status.OOM, Status.DIVERGED, Status.FAILED])
def test_a_cell_whose_start_failed_says_so_and_is_tried_again(status: Status) -> None:
    first, own = plan_jobs(small_study(pretraining=[FIRST], grid__patch_sizes=[8]), ROOMY, 1)
    record = not_started(own.cell, Record(**describe(first.cell), status=status, error="no luck"))
    assert record.status is Status.FAILED
    assert record.error == f"not started: deit-nano/8@8+linear seed 0 (first) is {status} (no luck)"


def test_only_selects_what_the_cells_need_too() -> None:
    jobs = plan_jobs(small_study(pretraining=[FIRST], grid__seeds=[0, 1]), ROOMY, 1, only="*/4@*")
    assert [(job.cell.stage, job.cell.design.patch_size) for job in jobs] == [("first", 8)] * 2 + [(None, 4)] * 2
    with pytest.raises(UsageError, match="--only '\\*/8@8' matches none of the 2 cells"):
        plan_jobs(small_study(pretraining=[FIRST]), ROOMY, 1, only="*/8@8")  # a pretraining is no design of the grid


def test_costs_before_a_cell_are_those_of_its_chain() -> None:
    first, *own = plan_jobs(small_study(pretraining=[FIRST]), ROOMY, 1)
    assert first.cost.earlier_training_flops == 0
    assert [job.cost.earlier_training_flops for job in own] == [first.training_flops] * 2


@pytest.mark.slow
def test_cells_after_one_that_diverged_are_not_started_and_say_why(tmp_path: Path) -> None:
    wild = FIRST | {"recipe": RECIPE | {"steps": 40, "learning_rate": 1e30, "gradient_clip": 0.0}}
    result = run_grid(small_study(pretraining=[wild]), tmp_path / "run", device="cpu", workers=2)
    first, *own = result.records
    assert first.status is Status.DIVERGED
    assert [record.status for record in own] == [Status.FAILED] * 2
    for record in own:
        assert record.error is not None
        assert record.error.startswith("not started: deit-nano/8@8+linear seed 0 (first) is diverged (training loss is")
        assert not (tmp_path / "run" / "cells" / record.cell / "metrics.jsonl").exists()
    again = run_grid(small_study(pretraining=[wild]), tmp_path / "run", device="cpu", workers=2)
    assert set(again.ran) == {record.cell for record in own}  # what diverged is a result, and is not tried again
    assert list(load_records(tmp_path / "run")["status"]) == ["failed", "failed"]


def test_a_checkpoint_that_is_gone_is_asked_for_before_anything_starts(tmp_path: Path) -> None:
    study = small_study(pretraining=[FIRST], grid__patch_sizes=[8])
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    first, own = study.all_cells()
    run.begin(first)
    run.finish(Record(**describe(first), status=Status.DONE))
    with pytest.raises(UsageError, match=r"starts from .*model.safetensors, which is gone;\nmove .*is trained again"):
        run_grid(study, run.path, device="cpu")
    assert not run.cell_folder(own.id).exists()
    run.begin(own)
    run.finish(Record(**describe(own), status=Status.DONE))
    assert run_grid(study, run.path, device="cpu").ran == ()  # nothing needs it any more


def test_a_checkpoint_that_is_there_is_enough(tmp_path: Path) -> None:
    study = small_study(pretraining=[FIRST], grid__patch_sizes=[8])
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    first, _ = study.all_cells()
    run.begin(first)
    run.finish(Record(**describe(first), status=Status.DONE))
    run.checkpoint(first.id).parent.mkdir()
    run.checkpoint(first.id).write_bytes(b"")
    check_checkpoints(plan_jobs(study, ROOMY, 1), run)


def test_a_run_takes_the_most_valuable_cell_first(tmp_path: Path) -> None:
    study, begun = small_study(), []

    def note(board: Board) -> None:
        begun.extend(cell for cell, row in board.rows.items() if row.started is not None and cell not in begun)

    values = {"deit-nano/8@16+linear": 1.0}  # which costs less than the other
    run_grid(study, tmp_path / "run", device="cpu", workers=1, observer=note, conduct=Conduct(values=values))
    assert begun == [cell.id for cell in study.cells()]
    with pytest.raises(UsageError, match="--plan: --stop-hopeless runs the cheapest cells first"):
        run_grid(study, tmp_path / "other", device="cpu", conduct=Conduct(values=values, stop_hopeless=True))
