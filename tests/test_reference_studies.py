"""The committed studies: they load, belong to the built-in study, and carry what their figures show."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from scaling import figure
from scaling.design import load_study
from scaling.records import RunDirectory, Status, load_records
from tests.test_demo import halvings

RUNS = Path(__file__).parents[1] / "runs"
ANALYSIS = Path(__file__).parents[1] / "analysis"


@pytest.mark.parametrize("name", sorted(path.name for path in RUNS.iterdir() if path.is_dir()))
def test_reference_study_is_whole(name: str) -> None:
    run = RunDirectory(RUNS / name)
    study = run.study()
    assert study == load_study(name)
    records = {record.cell: record for record in run.records()}
    assert set(records) == {cell.id for cell in study.all_cells()}
    assert {record.status for record in records.values()} == {Status.DONE}
    assert all(record.commit and not record.commit.endswith("+") for record in records.values())
    assert any((ANALYSIS / name).glob("*.png"))
    assert any((ANALYSIS / name).glob("*.json"))


def test_losses_of_boxes_and_masks_fall_at_every_halving_of_the_patch() -> None:
    records = load_records(RUNS / "digits-detection")
    losses = records.groupby(["task", "patch_size"])["test_loss"].agg(["mean", "max", "min"]).unstack("task")
    assert losses["mean"].shape == (3, 2)
    for smaller, larger in ((4, 8), (8, 16)):
        assert (losses["max"].loc[smaller] < losses["min"].loc[larger]).all()


def test_every_size_of_adventurer_gains_from_every_smaller_patch() -> None:
    records = load_records(RUNS / "digits-patch-by-size")
    for (architecture, size), rows in records.groupby(["architecture", "size"]):
        losses = rows.groupby("patch_size")["test_loss"].mean().sort_index(ascending=False)
        falls = bool((losses.diff().dropna() < 0).all())
        assert falls == (architecture == "adventurer" or size == "micro"), size


def test_as_many_tokens_are_worth_more_from_smaller_patches_than_extended() -> None:
    records = load_records(RUNS / "digits-extension")
    accuracies = records.groupby("design")["accuracy"].mean()
    for model in ("deit-nano", "adventurer-nano"):
        for patch, tokens in ((4, 16), (2, 64)):
            assert accuracies[f"{model}/{patch}@16"] > accuracies[f"{model}/8@16+extend={tokens}"]
    extended = {
        (model, tokens): accuracies[f"{model}/8@16+extend={tokens}"] - accuracies[f"{model}/8@16"]
        for model in ("deit-nano", "adventurer-nano")
        for tokens in (16, 64)
    }
    assert {which for which, gain in extended.items() if gain > 0} == {("deit-nano", 64)}
    assert extended["deit-nano", 64] == pytest.approx(0.034, abs=0.001)
    gaps = [text.get_text() for axis in figure(RUNS / "digits-extension", "extension").axes for text in axis.texts]
    assert [words for words in gaps if "points" in words] == ["+13 points", "+20 points"]


def test_digits_quick_falls_at_every_halving_of_the_patch() -> None:
    records = load_records(RUNS / "digits-quick")
    assert records["patch_size"].nunique() >= 4
    ratios = halvings(records)
    assert len(ratios) == 4  # 12 to 6 and 6 to 3, for two sizes
    assert max(ratios) < 0.95
    for _, curve in records.groupby("size"):
        assert curve.groupby("patch_size")["test_loss"].mean().is_monotonic_increasing


def test_larger_inputs_help_up_to_the_scenes_own_pixels() -> None:
    records = load_records(RUNS / "digits-input-size")
    assert set(records["sequence_length"]) == {16}
    losses = records.groupby(["size", "input_size"])["test_loss"].agg(["min", "max"])
    for size in ("nano", "micro"):
        at = losses.loc[size]
        assert at["max"][16] < at["min"][8]
        assert at["max"][32] < at["min"][64]
        assert at["max"][64] < at["min"][128]


def test_figure_4_keeps_studies_apart() -> None:
    records = load_records(RUNS / "digits-input-size")
    other = records.assign(study="other", test_loss=10 * records["test_loss"])
    alone, joined = (figure(table, 4) for table in (records, pd.concat([records, other], ignore_index=True)))
    panels = [axis for axis in joined.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == [
        f"deit-{size} linear\n{study}" for study in ("digits-input-size", "other") for size in ("nano", "micro")
    ]
    first = next(axis for axis in alone.axes if axis.get_title())
    assert np.array_equal(np.asarray(first.lines[-1].get_ydata()), np.asarray(panels[0].lines[-1].get_ydata()))


def test_figure_4_shows_the_patch_embeddings_share_of_the_parameters_that_were_counted() -> None:
    records = load_records(RUNS / "digits-input-size")
    drawn = figure(RUNS / "digits-input-size", 4)
    panels: dict[str, Axes] = dict(zip(("nano", "micro"), drawn.axes[2:], strict=True))
    for size, width in (("nano", 32), ("micro", 64)):
        rows = records[records["size"] == size].drop_duplicates("input_size").sort_values("input_size")
        counted = 100 * (3 * rows["patch_size"] ** 2 + 1) * width / rows["parameters"]
        (marked,) = (line for line in panels[size].lines if np.array_equal(line.get_xdata(), [8, 16, 32, 64, 128]))
        assert np.asarray(marked.get_ydata()) == pytest.approx(counted.to_numpy())
