"""The heat map, costs, extended tokens and isoFLOP profiles: what they show, and that all of it is on the page."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from scaling import figure, load_records
from scaling.figures import FIGURES, FigureError
from scaling.figures.grids import grids_of
from scaling.figures.heatmap import BETTER_IS_DARKER
from scaling.figures.isoflop import Curve, budgets_of, curves_of
from scaling.figures.layout import ARCHITECTURES
from scaling.figures.results import results
from scaling.figures.values import METRICS
from tests.figures.studies import extended, study

NAMES = ("heatmap", "cost", "extension", "isoflop")


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    return load_records("paper")


def panel_of(drawn: Figure, title: str) -> Axes:
    return next(axis for axis in drawn.axes if axis.get_title().startswith(title))


def words(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def line(axis: Axes, label: str) -> np.ndarray:
    found = next(line for line in axis.lines if str(line.get_label()).startswith(label))
    return np.asarray(found.get_xydata(), float)


def test_the_four_are_figures_with_titles() -> None:
    assert all(FIGURES[name].title for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["paper", "made"])
def test_no_text_is_off_the_page_or_below_6_points(name: str, source: str, paper: pd.DataFrame) -> None:
    drawn = figure(paper if source == "paper" else extended(), name)
    drawn.draw_without_rendering()
    width, height = drawn.get_size_inches()
    drawing = drawn.get_tightbbox()
    assert min(drawing.x0, drawing.y0) >= -0.01
    assert drawing.x1 <= width + 0.01
    assert drawing.y1 <= height + 0.01
    assert width / len([axis for axis in drawn.axes if axis.get_title() or axis.get_xlabel()]) <= 3.5
    texts = [text for text in drawn.findobj(Text) if text.get_text().strip()]
    assert len(texts) > 10
    assert min(float(text.get_fontsize()) for text in texts) >= 6


def test_a_heat_map_has_the_papers_accuracies_in_its_cells(paper: pd.DataFrame) -> None:
    drawn = figure(paper, "heatmap")
    assert [axis.get_title() for axis in drawn.axes[:3]] == [
        *("Adventurer, 64×64 input", "Adventurer, 128×128 input", "Adventurer, 224×224 input")
    ]
    middle = panel_of(drawn, "Adventurer, 128")
    assert [label.get_text() for label in middle.get_yticklabels()] == ["Tiny", "Small", "Base", "Large"]
    assert [label.get_text() for label in middle.get_xticklabels()] == ["16", "8", "4", "2", "1"]
    assert words(middle)[:5] == ["72.6", "78.5", "80.4", "80.6", "80.7"]
    assert words(panel_of(drawn, "Adventurer, 224")).count("not\nreported") == 4


def test_cells_without_a_result_are_hatched_and_say_why() -> None:
    table = study()
    drawn = figure(table[~table["design"].eq("deit-nano/8@64")], "heatmap")
    texts = words(drawn.axes[0])
    assert {"oom", "not\nrun"} <= set(texts)
    assert "±0.3\n1 diverged" in texts
    assert sum(bool(patch.get_hatch()) for patch in drawn.axes[0].patches) == 2


def test_better_is_darker_also_in_grey_and_for_losses() -> None:
    greys = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b, _ in BETTER_IS_DARKER(np.linspace(0, 1, 64))]
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(greys))
    drawn = figure(study("test_loss", seeds=1), "heatmap")
    values = {text.get_text(): text for text in drawn.axes[0].texts if text.get_text()[0].isdigit()}
    cells = [patch for patch in drawn.axes[0].patches if isinstance(patch, Rectangle)]
    shades = {cell.get_xy(): sum(to_rgb(cell.get_facecolor()[:3])) for cell in cells}  # pyright: ignore
    spots = {text: spot.get_position() for text, spot in values.items()}
    at = {text: shades[(column - 0.5, row - 0.5)] for text, (column, row) in spots.items()}
    assert at["0.472"] < at["0.478"] < at["0.558"]
    assert "lower test loss" in drawn.get_supxlabel()


def test_costs_are_the_printed_ones_and_the_estimators(paper: pd.DataFrame) -> None:
    memory, hours = figure(paper, "cost").axes
    assert line(memory, "DeiT-Base").shape == (5, 2)
    marks = [line for line in memory.lines if line.get_label() == "DeiT-Base"]
    assert list(marks[0].get_ydata()) == [62, 252, 1024, 4057, 16118]  # pyright: ignore
    assert line(memory, "Adventurer-Base, estimated")[-1, 1] == pytest.approx(20_615, abs=1)
    assert "Adventurer-Base" not in [line.get_label() for line in memory.lines]
    ends = {str(line.get_label()): line.get_ydata()[-1] for line in hours.lines}  # pyright: ignore
    assert ends["DeiT-Base"] == 967.99
    assert ends["DeiT-Base, estimated"] == pytest.approx(967.99, rel=0.1)
    assert ends["Adventurer-Base, estimated"] == pytest.approx(115.08, rel=0.1)
    colours = {line.get_color() for line in hours.lines if str(line.get_label()).startswith("DeiT")}
    assert {to_rgb(colour) for colour in colours} == {to_rgb(ARCHITECTURES["deit"])}


def test_slopes_are_drawn_as_steep_as_growth_is(paper: pd.DataFrame) -> None:
    for axis in figure(paper, "cost").axes:
        (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        keys = [line for line in axis.lines if line.get_label() == "_slope"]
        for slope, key in zip((1, 2), keys, strict=True):
            (x0, y0), (x1, y1) = np.asarray(key.get_xydata(), float)
            rise = (y1 - y0) * math.log(top / bottom) / ((x1 - x0) * math.log(right / left))
            assert rise == pytest.approx(slope)


def test_a_detector_is_one_model_with_one_cost() -> None:
    records = load_records(Path(__file__).parents[2] / "runs" / "digits-detection")
    assert records.groupby("cell")["task"].nunique().eq(2).all()
    for axis in figure(records, "cost").axes:
        labels = [str(line.get_label()) for line in axis.lines if not str(line.get_label()).startswith("_")]
        assert len({label.removesuffix(", estimated") for label in labels}) == 1


def test_a_measured_study_has_bytes_and_milliseconds() -> None:
    memory, time = figure(study(architectures=("deit", "adventurer")), "cost").axes
    assert memory.get_ylabel() == "Memory (MiB per image)"
    assert time.get_ylabel() == "Training time (ms per image)"
    assert line(memory, "DeiT-Nano").tolist() == [[16, 4096 * 16 / 2**20], [64, 0.25], [256, 1]]
    assert line(time, "DeiT-Nano")[0].tolist() == [16, 27]
    assert not any("estimated" in str(line.get_label()) for line in memory.lines)


def test_extension_has_the_papers_gaps(paper: pd.DataFrame) -> None:
    drawn = figure(paper, "extension")
    assert [axis.get_title() for axis in drawn.axes] == [
        *("DeiT-Base/16, 128×128 input", "Adventurer-Base/16, 224×224 input")
    ]
    assert [words(axis)[-1] for axis in drawn.axes] == ["+4.1 points", "+1.7 points"]
    assert words(drawn.axes[0])[:4] == ["p=16", "p=8", "p=4", "p=2"]


def test_a_loss_falls_and_what_was_lost_is_in_the_caption() -> None:
    table = extended()
    table = table.assign(test_loss=1 - table["accuracy"], accuracy=None)
    table.loc[table["patch_size"] == 4, ["status", "test_loss"]] = ["oom", None]
    drawn = figure(table, "extension")
    assert drawn.axes[0].get_ylabel() == "Test loss"
    assert words(drawn.axes[0])[-1] == "−0.079"
    assert drawn.get_supxlabel().replace("\n", " ").endswith("DeiT-Nano with 256 tokens: oom")


def test_isoflop_points_lie_on_the_curves_and_within_them(paper: pd.DataFrame) -> None:
    for grid in grids_of(
        [r for r in results(paper) if r.value(METRICS["accuracy"]).known and not r["extended_length"]]
    ):
        curves = curves_of(grid, METRICS["accuracy"])
        for budget in budgets_of(curves):
            reached = [curve for curve in curves if curve.reaches(budget)]
            assert len(reached) > 1
            for curve in reached:
                patch, value = curve.at(budget)
                assert min(curve.patches) <= patch <= max(curve.patches)
                assert min(curve.values) <= value <= max(curve.values)
    curve = Curve("nano", (1e6, 4e6, 16e6), (16.0, 8.0, 4.0), (40.0, 50.0, 55.0))
    assert curve.at(4e6) == pytest.approx((8.0, 50.0))
    assert curve.at(2e6)[0] == pytest.approx(8 * 2**0.5)
    assert not curve.reaches(17e6)


def test_isoflop_rings_the_best_of_each_budget(paper: pd.DataFrame) -> None:
    drawn = figure(paper, "isoflop")
    assert [axis.get_title() for axis in drawn.axes] == ["Adventurer, 128×128 input", "Adventurer, 224×224 input"]
    for axis in drawn.axes:
        legend = axis.get_legend()
        assert legend is not None
        rings = [line for line in axis.lines if line.get_markersize() == 9]
        assert len(rings) == len(legend.get_texts()) <= 6
        for ring in rings:
            same = [line for line in axis.lines if line.get_color() == ring.get_markeredgecolor()]
            heights = [y for line in same for y in np.atleast_1d(np.asarray(line.get_ydata(), float))]
            assert float(ring.get_ydata()[0]) == max(heights)  # pyright: ignore
    assert "by the closed forms" in drawn.get_supxlabel()


def test_what_a_study_lacks_is_said_with_the_cells_to_run() -> None:
    table = study()
    for name in ("heatmap", "isoflop"):
        with pytest.raises(FigureError, match=r"(?s)grid.sizes.*run-grid STUDY --only '\*-micro/\*'"):
            figure(table[table["size"] == "nano"], name)
    with pytest.raises(FigureError, match=r"--only '\*\+extend=\*'"):
        figure(table, "extension")
    with pytest.raises(FigureError, match=r"two sequence lengths.*\n.*run-grid STUDY"):
        figure(table[table["patch_size"] == 8], "cost")
    apart = table.assign(
        training_flops_per_image=table["training_flops_per_image"].where(table["size"] == "nano", 1e20)
    )
    with pytest.raises(FigureError, match="no two model sizes spend the same"):
        figure(apart, "isoflop")
