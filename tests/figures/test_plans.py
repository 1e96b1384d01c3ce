"""Figures of plans and paths, by what is drawn in them."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from scaling.decisions.planning import Plan, Question, parse_budget, plan
from scaling.decisions.planning.path import OptimalPath, optimal_path
from scaling.errors import UsageError
from scaling.figures.growth_paths import draw_path, law_words, write_path_figure
from scaling.figures.plans import draw_plan, write_plan_figure
from tests.figures.checks import caption, check_text

HOURS = parse_budget("5000 gpu-hours")
QUESTIONS = {
    "hours": Question(budget=HOURS, gpus=64, draws=256),
    "flops": Question(budget=parse_budget("1e21 flops"), draws=256),
    "dollars": Question(budget=parse_budget("$20000"), price=2.0, draws=256),
    "target": Question(target=0.84, draws=256),
    "free": Question(budget=HOURS, free_sizes=True, epochs=300.0, input_sizes=(128, 224), draws=256),
    "digits": Question(
        "runs/digits-quick", budget=parse_budget("0.5 gpu-hours"), hardware="cpu", precision="fp32", scan="recomputed",
        calibration="runs/digits-quick", draws=256,
    ),
}  # fmt: skip


@cache
def planned(name: str) -> Plan:
    return plan(QUESTIONS[name] if name == "digits" else replace(QUESTIONS[name], study="paper"))


@cache
def path(name: str) -> OptimalPath:
    return optimal_path(planned(name))


def labels(drawn: Figure) -> set[str]:
    return {str(text.get_text()) for axis in drawn.axes for text in axis.texts}


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_text_is_small_cut_off_or_overlapping(name: str) -> None:
    check_text(draw_plan(planned(name)))
    check_text(draw_path(path(name)))


def test_a_plan_shows_designs_frontier_budget_and_choice() -> None:
    found = planned("hours")
    drawn = draw_plan(found)
    (axis,) = drawn.axes
    assert axis.get_xlabel() == "GPU-hours"
    assert axis.get_ylabel() == "Error (%): 100 − accuracy"
    lines = {str(line.get_label()): line for line in axis.lines}
    frontier = np.column_stack([np.asarray(lines["frontier"].get_xdata()), np.asarray(lines["frontier"].get_ydata())])
    expected = [(each.cost, 100 * (1 - each.prediction.estimate)) for each in found.frontier]
    assert frontier == pytest.approx(np.array(expected))
    assert float(np.asarray(lines["chosen"].get_xdata())[0]) == pytest.approx(found.chosen.gpu_hours.estimate)
    assert {found.chosen.design, "5,000 GPU-hours"} <= labels(drawn)
    small = [line for line in axis.lines if line.get_alpha() is not None]
    assert sum(len(np.asarray(line.get_xdata())) for line in small) == 81
    assert "the 81 designs within all limits but the budget, of 798" in caption(drawn)
    measured = np.asarray(lines["DeiT, measured"].get_ydata())
    assert min(abs(measured - 100 * (1 - 0.781))) < 1e-9  # deit-base/16@128


def test_architectures_differ_in_mark_and_colour() -> None:
    (axis,) = draw_plan(planned("hours")).axes
    looks = [
        (str(line.get_marker()), to_hex(line.get_color())) for line in axis.lines if "expected" in str(line.get_label())
    ]
    assert len({mark for mark, _ in looks}) == len({colour for _, colour in looks}) == 2


def test_units_and_targets_are_on_the_axes() -> None:
    assert draw_plan(planned("flops")).axes[0].get_xlabel() == "Training FLOPs"
    assert draw_plan(planned("dollars")).axes[0].get_xlabel() == "Cost of the training (dollars)"
    assert "target 84 %" in labels(draw_plan(planned("target")))
    drawn = draw_plan(planned("digits"))
    assert drawn.axes[0].get_title() == "Digits segmentation, 38,400 images, as the records were"
    assert drawn.axes[0].get_ylabel() == "Error (%): 100 − mean IoU"


def test_a_path_has_a_panel_for_each_scale_with_its_power_law() -> None:
    found = path("free")
    drawn = draw_path(found)
    assert [axis.get_ylabel().split("\n")[0] for axis in drawn.axes] == [
        "Best patch size", "Best model size", "Best input size", "Best sequence",
    ]  # fmt: skip
    patch = drawn.axes[0]
    growth = found.growth["patch_size"]
    assert patch.get_title(loc="right") == law_words("p", growth)
    (law,) = [line for line in patch.lines if line.get_label() == "power law of the best"]
    x, y = np.asarray(law.get_xdata(), float), np.asarray(law.get_ydata(), float)
    assert tuple(x) == growth.budgets
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(growth.exponent.estimate)
    marks = np.concatenate([line.get_ydata() for line in patch.lines if "best, " in str(line.get_label())])
    assert sorted(marks) == sorted(point.scales["patch_size"].estimate for point in found.points)


def test_scales_without_a_power_law_say_why() -> None:
    drawn = draw_path(path("digits"))
    titles = [axis.get_title(loc="right") for axis in drawn.axes]
    assert titles[1] == "no power law: 0 model sizes between the smallest and the largest, of 3 needed"
    assert len(titles) == 3
    assert "the same everywhere: input size" in caption(drawn)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_files_are_written_in_the_format_of_their_suffix(kind: str, tmp_path: Path) -> None:
    for place, write in enumerate(
        (lambda f: write_plan_figure(planned("digits"), f), lambda f: write_path_figure(path("digits"), f))
    ):
        first, again = tmp_path / "new" / f"{place}.{kind}", tmp_path / f"{place}.{kind}"
        write(first)
        write(again)
        assert first.read_bytes() == again.read_bytes()
        assert first.read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")


@pytest.mark.parametrize(("name", "words"), [("a.jpg", "not as '.jpg'"), ("a", "not as 'a file without a suffix'")])
def test_other_suffixes_are_refused(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        write_plan_figure(planned("digits"), tmp_path / name)
    with pytest.raises(UsageError, match=r"written as \.png, \.pdf, \.svg"):
        write_path_figure(path("digits"), tmp_path / name)
