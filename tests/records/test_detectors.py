"""A detector's record is one training and two tasks: what laws, comparisons and tables read of it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scaling import fit_groups
from scaling.errors import UsageError
from scaling.records import Record, RunDirectory, Status, count_records, describe, load_records, save_table
from tests.conftest import small_study


def finished(path: Path) -> RunDirectory:
    """A run of four detectors, the last out of memory."""
    run, study = RunDirectory(path), small_study(data__task="detection", grid__patch_sizes=[8, 4, 2, 1])
    run.prepare(study)
    for cell in study.cells():
        patch = cell.design.patch_size
        known: dict[str, Any] = {"images_seen": 48, "training_flops_per_image": 10, "status": Status.DONE}
        known |= {"box_ap": 0.5, "box_ap50": 0.7, "mask_ap": 0.4, "mask_ap50": 0.6}
        known |= {"test_loss": 1 + 0.1 * patch, "test_loss_standard_error": 0.01}
        known |= {"mask_test_loss": 2 + 0.1 * patch, "mask_test_loss_standard_error": 0.02}
        kept: dict[str, Any] = known if patch > 1 else {"status": Status.OOM}
        run.begin(cell)
        run.finish(Record(**describe(cell), **kept))
    return run


def test_each_record_is_a_row_of_boxes_and_one_of_masks(tmp_path: Path) -> None:
    table = load_records(finished(tmp_path / "run").path)
    assert list(table["task"]) == ["detection", "instance-segmentation"] * 4
    assert list(table["design"].drop_duplicates()) == [f"deit-nano/{patch}@16+cascade" for patch in (8, 4, 2, 1)]
    boxes, masks = table.iloc[0], table.iloc[1]
    assert (boxes["test_loss"], boxes["test_loss_standard_error"]) == (1.8, 0.01)
    assert (masks["test_loss"], masks["test_loss_standard_error"]) == (2.8, 0.02)
    assert (boxes["box_ap"], boxes["box_ap50"], boxes["mask_ap"], boxes["mask_ap50"]) == (0.5, 0.7, 0.4, 0.6)
    assert (masks["mask_ap"], masks["mask_ap50"]) == (0.4, 0.6)
    assert masks[["box_ap", "box_ap50", "box_ap75"]].isna().all()
    assert boxes["cell"] == masks["cell"]
    assert list(table["status"][-2:]) == ["oom", "oom"]
    assert table["test_loss"][-2:].isna().all()
    assert not any(str(name).startswith("mask_test_loss") for name in table)


def test_records_are_still_single_where_each_stage_is_asked_for_and_count_once(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    each = load_records(run.path, each_stage=True)
    assert len(each) == 4
    assert list(each["mask_test_loss"][:3]) == [2.8, 2.4, 2.2]
    assert count_records(load_records(run.path)) == 4


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("each_stage", [True, False])
def test_an_exported_table_gives_the_same_rows(suffix: str, each_stage: bool, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    save_table(load_records(run.path, each_stage), tmp_path / f"table{suffix}")
    columns = ["cell", "task", "status", "test_loss", "test_loss_standard_error", "box_ap", "mask_ap"]
    again = load_records(tmp_path / f"table{suffix}")
    pd.testing.assert_frame_equal(again[columns], load_records(run.path)[columns], check_dtype=False)


def test_published_detections_and_other_tasks_are_as_they_were() -> None:
    paper = load_records("paper")
    assert count_records(paper) == len(paper)
    assert paper["task"].eq("instance-segmentation").sum() == 5


def test_boxes_and_masks_are_two_curves_and_never_one(tmp_path: Path) -> None:
    table = load_records(finished(tmp_path / "run").path)
    boxes, masks = fit_groups(table)
    assert (boxes.group["task"], masks.group["task"]) == ("detection", "instance-segmentation")
    with pytest.raises(UsageError, match="boxes and masks of the same cells; add task to --group-by"):
        fit_groups(table, group_by=["size"])
