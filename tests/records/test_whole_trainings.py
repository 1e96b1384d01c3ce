"""Costs of trainings in several stages: what records hold, and what laws and comparisons read."""

from pathlib import Path

import pandas as pd
import pytest

from scaling.design import Cell, Study
from scaling.records import Record, RecordError, RunDirectory, Status, describe, load_records, save_table
from tests.conftest import small_study

RECIPE = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3}
STAGES = [
    {"name": "first", "input_size": 8, "patch_size": 8, "recipe": RECIPE},
    {"name": "second", "patch_size": 8, "recipe": RECIPE},
]


def finish(run: RunDirectory, cell: Cell, images: int, flops: int, seconds: float, hours: float | None) -> Record:
    known = {"images_seen": images, "training_flops_per_image": flops, "training_seconds": seconds, "gpu_hours": hours}
    record = Record(**describe(cell), **known, **run.earlier_costs(cell), status=Status.DONE, test_loss=1.0)
    run.begin(cell)
    run.finish(record)
    return record


def finished(path: Path, study: Study, hours: float | None = 2.0) -> RunDirectory:
    """A run in which stage k of K sees 10^k images at k FLOPs each for k seconds."""
    run = RunDirectory(path)
    run.prepare(study)
    for cell in study.all_cells():
        k = 1 + len(earlier(cell))
        finish(run, cell, 10**k, k, float(k), hours)
    return run


def earlier(cell: Cell) -> list[Cell]:
    return [] if cell.after is None else [*earlier(cell.after), cell.after]


def test_records_count_every_stage_before(tmp_path: Path) -> None:
    study = small_study(pretraining=STAGES)
    records = {record.cell: record for record in finished(tmp_path / "run", study).records()}
    assert set(records) == {cell.id for cell in study.all_cells()}
    first, second, *own = (records[cell.id] for cell in study.all_cells())
    assert (first.stage, first.started_from_cell, first.earlier_training_flops) == ("first", None, None)
    assert (second.stage, second.started_from_cell, second.earlier_images_seen) == ("second", first.cell, 10)
    for record in own:
        assert (record.stage, record.started_from_cell) == (None, second.cell)
        assert record.earlier_training_flops == 10 * 1 + 100 * 2
        assert (record.earlier_images_seen, record.earlier_training_seconds) == (110, 3.0)
        assert record.earlier_gpu_hours == 4.0


def test_a_row_is_a_whole_training_unless_each_stage_is_asked_for(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", small_study(pretraining=STAGES))
    whole, each = load_records(run.path), load_records(run.path, each_stage=True)
    assert list(each["stage"].isna()) == [False, False, True, True]
    assert list(whole["design"]) == ["deit-nano/8@16+linear", "deit-nano/4@16+linear"]
    assert list(whole["images_seen"]) == [1110, 1110]
    total = whole["training_flops_per_image"] * whole["images_seen"]
    assert list(total) == pytest.approx([10 * 1 + 100 * 2 + 1000 * 3] * 2)  # the shared one in full for both
    assert list(whole["training_seconds"]) == [6.0, 6.0]
    assert list(whole["gpu_hours"]) == [6.0, 6.0]


def test_a_part_that_is_not_known_makes_no_sum(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", small_study(pretraining=STAGES), hours=None)
    whole = load_records(run.path)
    assert whole["gpu_hours"].isna().all()
    assert whole["training_seconds"].notna().all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("each_stage", [True, False])
def test_an_exported_table_is_read_as_the_run_is(suffix: str, each_stage: bool, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", small_study(pretraining=STAGES))
    save_table(load_records(run.path, each_stage), tmp_path / f"table{suffix}")
    again, there = load_records(tmp_path / f"table{suffix}"), load_records(run.path)
    for column in ("design", "images_seen", "training_flops_per_image", "training_seconds", "gpu_hours"):
        assert list(again[column]) == list(there[column])


def test_a_study_without_pretrainings_and_a_table_of_others_stay_as_they_are(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", small_study())
    whole, each = load_records(run.path), load_records(run.path, each_stage=True)
    assert whole.equals(each[list(whole)])
    assert not {"stage", "started_from_cell"} & set(whole)
    pd.DataFrame({"stage": ["a", "b"], "loss": [1.0, 2.0]}).to_csv(tmp_path / "own.csv", index=False)
    assert list(load_records(tmp_path / "own.csv")["stage"]) == ["a", "b"]


def test_pretrainings_alone_are_no_result_yet(tmp_path: Path) -> None:
    study = small_study(pretraining=STAGES)
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    finish(run, study.all_cells()[0], 10, 1, 1.0, None)
    assert len(load_records(run.path, each_stage=True)) == 1
    with pytest.raises(RecordError, match="only pretrainings are finished so far"):
        load_records(run.path)


def test_other_stages_are_another_experiment(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(small_study(pretraining=STAGES))
    run.prepare(small_study(pretraining=STAGES, grid__seeds=[0, 1]))
    for stages, key in (
        (STAGES[:1], r"pretraining\[1\].name = second, the study now says None"),
        ([STAGES[0] | {"input_size": 16}, STAGES[1]], r"pretraining\[0\].input_size = 8, the study now says 16"),
        ([STAGES[0] | {"recipe": RECIPE | {"steps": 5}}, STAGES[1]], r"pretraining\[0\].recipe.steps = 4"),
    ):
        with pytest.raises(RecordError, match=key):
            run.check(small_study(pretraining=stages))
    micro = STAGES[0] | {"recipe": RECIPE | {"micro_batch_size": 2}}
    run.check(small_study(pretraining=[micro, STAGES[1]]))
