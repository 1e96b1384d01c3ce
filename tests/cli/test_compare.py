"""`scaling compare` and the other commands on the published records, as a user gives them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.command import scaling
from tests.decisions.test_compare import grid, row, steep_patch


def test_the_verdict_comes_first_and_doubts_last() -> None:
    result = scaling("compare", "paper")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("* From adventurer-base/16@224, the best of 4 axes is a larger input")
    assert "At 3.5x the training FLOPs per image, a smaller patch beats a larger model by 0.37 points" in result.stdout
    assert "adventurer-huge/16@224" in result.stdout
    assert "note: noise between seeds assumed" in result.stderr
    assert "another recipe" in result.stderr or "differ in the recipe" in result.stderr


def test_json_is_pure_and_complete() -> None:
    found = json.loads(scaling("compare", "paper", "--from", "adventurer-base/16@128", "--format", "json").stdout)
    assert found["base"]["design"] == "adventurer-base/16@128"
    assert {each["cost"] for each in found["differences"]} == {"flops", "memory", "hours"}
    steps = {axis["axis"]: axis["steps"] for axis in found["axes"]}
    assert steps["patch"][-1]["gain"]["estimate"] == pytest.approx(3.4)
    assert set(steps["patch"][0]["gain"]) == {"estimate", "low", "high", "chance"}
    assert found["verdict"][0].startswith("From adventurer-base/16@128")


def test_a_measured_run(tmp_path: Path) -> None:
    grid(steep_patch).to_csv(tmp_path / "t.csv", index=False)
    result = scaling("compare", "t.csv", "--y", "test_loss", "--seed-noise", "0.01", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "gains in loss taken off" in result.stdout
    assert "note: noise between seeds as given: 1.00%" in result.stderr
    assert "not compared: a larger input was not tried" in result.stderr


def test_gains_of_several_seeds_are_said_not_to_be_those_of_the_means_shown() -> None:
    words = "accuracy: mean of the seeds; gains are of the mean of their log odds"
    runs = Path(__file__).parents[2] / "runs"
    assert words in scaling("compare", runs / "digits-extension").stdout
    assert words not in scaling("compare", "paper").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("paper", "--from", "adventurer-base/17@224"), 2, "did you mean 'adventurer-base/1"),
        (("paper", "--from", "adventurer-huge/16@224"), 2, "has no accuracy"),
        (("paper", "--y", "accurracy"), 2, "did you mean 'accuracy'?"),
        (("paper", "--seed-noise", "-1"), 2, "--seed-noise"),
        (("paper", "--seed-noise", "inf"), 2, "less than or equal to 100"),
        (("nowhere",), 2, "no such run directory"),
        (("alone.csv",), 1, "one axis alone"),
        (("oom.csv",), 1, "nothing to compare"),
        (("plain.csv",), 1, "no column 'design'"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    pd.DataFrame([row(test_loss=1.0), row("micro", 4, test_loss=0.5)]).to_csv(tmp_path / "alone.csv", index=False)
    pd.DataFrame([row(status="oom", test_loss=None), row("micro", status="oom")]).to_csv(tmp_path / "oom.csv")
    pd.DataFrame({"patch_size": [1, 2], "test_loss": [1.0, 2.0]}).to_csv(tmp_path / "plain.csv", index=False)
    result = scaling("compare", *arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_fits_of_the_paper_leave_out_what_states_no_loss(tmp_path: Path) -> None:
    result = scaling("fit", "paper", "--format", "json", cwd=tmp_path)
    fits = json.loads(result.stdout)["fits"]
    assert len(fits) == 9
    assert all(each["points_used"] == 5 for each in fits)
    assert "90 published records state no test_loss" in result.stderr
    assert (tmp_path / "analysis" / "paper" / "fit.json").is_file()
    exponents = {tuple(each["group"].values()): each["parameters"]["b"]["estimate"] for each in fits}
    assert exponents["ade20k", "segmentation"] == pytest.approx(0.025, abs=0.001)
    assert exponents["coco", "detection"] == pytest.approx(0.091, abs=0.001)
    assert exponents["coco", "instance-segmentation"] == pytest.approx(0.088, abs=0.001)
