"""The published records against the publication's tables, which lie beside the tests as they were printed."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from scaling import load_records
from scaling.cost import estimate
from scaling.records import RecordError, Status, published_studies, published_study

PRINTED = Path(__file__).parent / "paper"


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    return load_records("paper")


def printed(name: str) -> list[dict[str, str]]:
    with (PRINTED / name).open() as file:
        return list(csv.DictReader(file))


def one(table: pd.DataFrame, **values: object) -> pd.Series:
    for key, value in values.items():
        table = table[table[key].isna()] if value is None else table[table[key] == value]
    assert len(table) == 1, values
    return table.iloc[0]


@pytest.mark.parametrize(
    "name", ["table1_imagenet_accuracy.csv", "table4_patch_by_model_accuracy.csv", "readme_adventurer_accuracy.csv"]
)
def test_every_printed_accuracy_is_a_record(paper: pd.DataFrame, name: str) -> None:
    for row in printed(name):
        found = one(
            paper,
            design=f"{row['architecture']}-{row['size']}/{row['patch_size']}@{row['input_size']}",
            source="published",
        )
        assert f"{100 * found['accuracy']:.1f}" == row["top1_accuracy_percent"]
        assert found["metric_reading_error"] == 0.0005


def test_every_digitised_loss_is_a_record_with_its_reading_error(paper: pd.DataFrame) -> None:
    rows = printed("figure1_digitised.csv")
    for row in rows:
        found = one(paper, reference=f"Figure 1{row['panel']}", patch_size=int(row["patch_size"]))
        assert found["test_loss"] == float(row["test_loss"])
        assert found["test_loss_reading_error"] == float(row["test_loss_uncertainty"])
        assert found["source"] == "digitised"
    assert len(rows) == (paper["source"] == "digitised").sum() == 45


def test_costs_are_the_estimators(paper: pd.DataFrame) -> None:
    found = one(paper, design="adventurer-base/4@224", source="published")
    cost = estimate("adventurer-base/4@224").cost
    assert found["estimated_parameters"] == cost.parameters.total
    assert found["estimated_training_flops_per_image"] == cost.training_flops_per_image
    assert found["gpu_hours_per_epoch"] == 6.86
    assert found["estimated_gpu_hours_per_epoch"] == pytest.approx(7.1, abs=0.01)
    assert pd.isna(found["training_flops_per_image"])


def test_costs_of_dense_tasks_are_the_estimators(paper: pd.DataFrame) -> None:
    for design, classes in (("adventurer-base/64@800+cascade", 80), ("adventurer-tiny/16@512+upernet", 150)):
        found, cost = one(paper, design=design), estimate(design, classes=classes).cost
        assert found["estimated_training_flops_per_image"] == cost.training_flops_per_image
        assert found["estimated_parameters"] == cost.parameters.total
        assert pd.isna(found["estimated_gpu_hours_per_epoch"])


def test_estimated_parameters_are_those_printed_with_and_without_a_decoder(paper: pd.DataFrame) -> None:
    """At patch 16: at smaller patches those printed lack the larger tables of positions."""
    at_16 = paper[paper["task"].eq("segmentation") & paper["patch_size"].eq(16) & paper["parameters"].notna()]
    assert len(at_16) == 4
    assert (at_16["estimated_parameters"] - at_16["parameters"]).abs().max() < 0.5e6


def test_an_unnamed_model_has_no_cost(paper: pd.DataFrame) -> None:
    assert paper.loc[paper["design"].str.startswith("unnamed"), "architecture"].isna().all()


def test_a_published_cost_without_a_result_is_unreported(paper: pd.DataFrame) -> None:
    assert one(paper, design="deit-huge/16@224")["status"] == Status.UNREPORTED
    results = paper[["test_loss", "accuracy", "mean_iou", "box_ap"]].notna().any(axis=1)
    assert (results == (paper["status"] == "done")).all()


def test_ids_differ_and_the_order_is_the_papers(paper: pd.DataFrame) -> None:
    assert paper["cell"].is_unique
    assert paper["reference"].iloc[0] == "Table 1"


def test_notes_are_those_of_the_designs() -> None:
    study = published_study("paper")
    assert "paper" in published_studies()
    huge = study.notes_about(["adventurer-huge/16@224"])
    assert any("718.0M" in note for note in huge)
    assert not any("718.0M" in note for note in study.notes_about(["adventurer-base/16@224"]))
    assert any("half a pixel" in note for note in study.notes_about(["digitised"]))
    recipes = {record.recipe["name"] for record in study.records if record.recipe and record.size in ("base", "large")}
    assert len(recipes) > 3


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").mkdir()
    with pytest.raises(RecordError, match="not a run directory"):
        load_records("paper")
