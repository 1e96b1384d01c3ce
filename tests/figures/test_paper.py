"""Figures of the records `paper`: what they show, and pictures of them."""

import itertools
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scaling.figures import Material, draw
from scaling.figures.panels import panels_of
from scaling.laws import FitResult, Options, fit_groups
from scaling.records import load_records, published_study
from tests.figures.checks import caption, check_text

OFFSETS = published_study("paper").figure1_offsets
EXPONENTS = {"a": 1.05, "b": 0.58, "c": 0.93, "g": 1.05, "h": 1.06, "i": 1.42}
PLAIN = {"d": 0.025, "e": 0.091, "f": 0.088}
HALF_A_DIGIT = 0.0005  # of an offset


@cache
def drawn(name: str, law: str = "auto") -> Figure:
    return draw(Material(load_records("paper"), law=law), name)


def of_panel(letter: str) -> pd.DataFrame:
    records = load_records("paper")
    return records[records["reference"].eq(f"Figure 1{letter}")]


def exponent(table: pd.DataFrame, law: str, y: str = "test_loss", **options: object) -> float:
    (curve,) = fit_groups(table, law, "patch_size", y, **options)  # pyright: ignore[reportArgumentType]
    assert isinstance(curve, FitResult)
    return curve.parameters["b"].estimate


@pytest.mark.parametrize("letter", EXPONENTS)
def test_above_the_offsets_the_panels_are_power_laws_with_the_known_exponents(letter: str) -> None:
    rows = of_panel(letter)
    ends = [OFFSETS[letter] - HALF_A_DIGIT, OFFSETS[letter] + HALF_A_DIGIT]
    low, high = (exponent(rows.assign(above=rows["test_loss"] - end), "power", "above") for end in ends)
    assert low - 0.02 <= EXPONENTS[letter] <= high + 0.02


@pytest.mark.parametrize("letter", EXPONENTS)
def test_with_the_floor_fixed_and_reading_errors_as_weights_exponents_are_near(letter: str) -> None:
    floor = OFFSETS[letter]
    options = Options(bounds={"E": (floor, floor)})
    found = exponent(of_panel(letter), "saturating", errors="test_loss_reading_error", options=options)
    assert found == pytest.approx(EXPONENTS[letter], abs=0.045)


@pytest.mark.parametrize("letter", PLAIN)
def test_panels_without_an_offset_are_plain_power_laws(letter: str) -> None:
    assert exponent(of_panel(letter), "power") == pytest.approx(PLAIN[letter], abs=0.003)


def test_nine_panels_in_order_with_their_letters() -> None:
    figure = drawn("1")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert "".join(axes.get_title(loc="left") for axes in panels) == "abcdefghi"
    assert panels[0].get_title() == "ImageNet-1k classification\nDeiT-Base, 64×64 input"
    assert panels[5].get_title() == "COCO instance segmentation\nmodel not named"
    assert panels[7].get_title() == "ImageNet-1k classification\nAdventurer-Large, 128×128 input"
    positions = [(round(-axes.get_position().y1, 3), axes.get_position().x0) for axes in panels]
    assert positions == sorted(positions)
    assert [len(axes.containers) for axes in panels] == [1] * 9


def test_the_axis_is_the_logarithm_above_the_floor_and_its_ticks_are_true_losses() -> None:
    for axes, letter in zip(drawn("1").axes, "abcdefghi", strict=True):
        losses = of_panel(letter)["test_loss"].to_numpy(float)
        floor = OFFSETS.get(letter, 0.0)
        places = axes.transData.transform(np.column_stack([np.full(len(losses), 4.0), losses]))[:, 1]
        expected = np.log(losses - floor)
        assert np.allclose(np.diff(places) / np.ptp(places), np.diff(expected) / np.ptp(expected), atol=1e-9)
        drawn("1").draw_without_rendering()
        ticks = axes.get_yticks()
        assert [float(label.get_text()) for label in axes.get_yticklabels()] == pytest.approx(list(ticks))
        assert sum(losses.min() < tick < losses.max() for tick in ticks) >= 3
        assert (f"log of (loss − {floor:.3f})" in axes.get_ylabel()) == (letter in OFFSETS)


def test_on_the_published_axis_the_law_is_straight() -> None:
    for axes, letter in zip(drawn("1").axes, "abcdefghi", strict=True):
        (line,) = [line for line in axes.lines if len(line.get_xdata()) > 10]  # pyright: ignore[reportArgumentType]
        path = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
        slopes = np.diff(path[:, 1]) / np.diff(path[:, 0])
        assert np.ptp(slopes) < 1e-6 * abs(slopes.mean()), letter


def test_the_caption_says_what_is_blank_what_bars_are_and_where_floors_come_from() -> None:
    text = caption(drawn("1"))
    assert "reading error, half a pixel of the published figure" in text
    assert "a, b, c, g, h, i: floors are those of the publication's own loss axes, not fitted" in text
    assert "left blank: 90 records without a test loss (80 with other results only, 10 unreported)" in text


def test_an_asked_law_is_fitted_without_the_published_floors() -> None:
    panels = panels_of(Material(load_records("paper"), law="saturating"), "patch_size")
    assert [panel.published_floor for panel in panels] == [None] * 9
    assert "not fitted" not in caption(drawn("1", "saturating"))
    labels = [axes.get_ylabel() for axes in drawn("1", "saturating").axes]
    assert ["log of" in label for label in labels] == [letter in OFFSETS for letter in "abcdefghi"]


def test_figure_2_shows_both_heads_and_their_gap_where_both_exist() -> None:
    above, below = drawn("2").axes
    points = {
        tuple(sorted(np.round(np.asarray(line.get_ydata(), float), 1))): line
        for line in above.lines
        if line.get_marker() in ("^", "v")
    }
    assert set(points) == {(40.0, 41.6, 42.1, 42.5), (44.0, 45.5, 46.3, 46.8), (41.3,), (45.7,)}
    assert points[41.3,].get_markerfacecolor() == "white" != points[40.0, 41.6, 42.1, 42.5].get_markerfacecolor()
    gaps = [container.lines for container in below.containers]  # pyright: ignore[reportAttributeAccessIssue]
    assert [float(lines[0].get_ydata()[0]) for lines in gaps] == pytest.approx([1.3, 1.7])
    bars = [float(np.ptp(lines[2][0].get_segments()[0][:, 1])) for lines in gaps]
    assert bars == pytest.approx([0.2, 0.2])  # 0.05 of either head, to both sides
    assert [label.get_text() for label in below.get_xticklabels()] == ["2", "4", "8", "16"]
    assert "left blank, no value reported: UperNet at patch 8, 4, 2 (tiny, base)" in caption(drawn("2"))


def test_residuals_of_nine_curves_around_zero() -> None:
    axes = drawn("residuals").axes
    for column, row in itertools.product(range(3), range(3)):
        above, below = axes[6 * row + column], axes[6 * row + 3 + column]
        assert above.get_title(loc="left") == "abcdefghi"[3 * row + column]
        assert len(above.collections) >= 2  # the bands of the law and of a new run
        low, high = below.get_ylim()
        assert low == -high
        assert re.fullmatch(r"Point less\nlaw \(%\)", below.get_ylabel())
    residuals = axes[3].containers[0].lines[0].get_ydata()  # pyright: ignore[reportAttributeAccessIssue]
    rows = of_panel("a").sort_values("patch_size", ascending=False)
    law = 0.801 + 0.0153 * rows["patch_size"].to_numpy(float) ** 1.068
    assert np.asarray(residuals) == pytest.approx(100 * (rows["test_loss"].to_numpy() / law - 1), abs=0.05)


@pytest.mark.parametrize("name", ["1", "2", "residuals"])
def test_text_is_large_enough_and_nothing_is_cut_off_or_covered(name: str) -> None:
    check_text(drawn(name))


@pytest.mark.mpl_image_compare(filename="figure1-paper.png", savefig_kwargs={"dpi": 45}, style="default", tolerance=2)
def test_picture_of_figure_1() -> Figure:
    return draw(Material(load_records("paper")), "1")


@pytest.mark.mpl_image_compare(filename="figure2-paper.png", savefig_kwargs={"dpi": 80}, style="default", tolerance=2)
def test_picture_of_figure_2() -> Figure:
    return draw(Material(load_records("paper")), "2")
