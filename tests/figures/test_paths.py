"""Figures 3 and 4 and the comparison at equal cost, by what is drawn in them."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from scaling import figure
from scaling.decisions import compare
from scaling.errors import UsageError
from scaling.figures import FigureError
from tests.decisions.test_compare import grid, steep_patch
from tests.laws.test_tables import table


def line(axis: Axes, label: str) -> np.ndarray:
    """Points (N, 2) of the first line of the colour that the legend gives a label."""
    handles, labels = axis.get_legend_handles_labels()
    bars = handles[labels.index(label)]
    assert isinstance(bars, ErrorbarContainer)
    colour = bars.lines[0].get_color()
    found = [each for each in axis.lines if each.get_color() == colour and len(np.atleast_1d(each.get_xdata())) > 1]
    return np.column_stack([np.asarray(found[0].get_xdata()), np.asarray(found[0].get_ydata())])


def words(drawn: Figure | Axes) -> set[str]:
    return {found.get_text() for found in drawn.findobj(Text) if isinstance(found, Text)}


def test_figure_3_of_the_paper_follows_the_papers_axes() -> None:
    drawn = figure("paper", 3)
    first, second = drawn.axes
    assert first.get_title() == "(a) from adventurer-base/16@224"
    assert second.get_title() == "(b) from deit-base/16@128"
    assert line(first, "smaller patch")[:, 1] == pytest.approx([82.6, 83.9, 84.3, 84.5, 84.6])
    assert line(first, "larger model")[:, 1] == pytest.approx([82.6, 83.4])
    assert line(second, "smaller patch")[:, 1] == pytest.approx([78.1, 81.0, 82.3, 82.9])
    flops = [step.candidate.costs["flops"] for step in compare("paper").axes[0].steps]
    assert line(first, "smaller patch")[1:, 0] == pytest.approx(flops)
    assert {"p=8", "p=1", "L", "448 px", "base/16@224"} <= words(first)
    assert "adventurer-huge/16@224 unreported" in drawn.get_supxlabel().replace("\n", " ")


def test_a_base_can_be_asked_for() -> None:
    assert [axis.get_title() for axis in figure("paper", 3, base="adventurer-base/16@128").axes] == [
        "(a) from adventurer-base/16@128"
    ]
    with pytest.raises(UsageError, match="not among the records"):
        figure("paper", 3, base="deit-base/16@32")


@pytest.mark.parametrize("factor", [1.2, 3.0, 30.0, 3e4])
def test_flops_have_two_ticks_or_more_whose_labels_are_apart(factor: float) -> None:
    records = grid(steep_patch)
    patches = records["patch_size"].map({8: 0, 4: 1, 2: 2})
    records = records.assign(training_flops_per_image=4.1e9 * factor ** (patches / 2))
    (axis,) = figure(records[records["size"] == "nano"], 3).axes
    axis.figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue]
    low, high = axis.get_xlim()
    labels = [text for text in axis.get_xticklabels(which="both") if text.get_text()]
    boxes = [text.get_window_extent() for text in labels if low <= text.get_position()[0] <= high]
    assert len(boxes) >= 2
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_equal_cost_has_a_panel_for_each_cost() -> None:
    labels = [axis.get_xlabel() for axis in figure("paper", "equal-cost").axes]
    assert labels == ["Training FLOPs per image", "Memory per image (MiB)", "GPU-hours per epoch"]


def test_figure_4_joins_designs_of_one_sequence_length() -> None:
    drawn = figure("paper", 4)
    results, _, shares, _ = drawn.axes
    found = {str(each.get_label()): each for each in results.lines}
    at = found["L = 784"]
    assert list(np.asarray(at.get_xdata())) == [224, 448]
    assert list(np.asarray(at.get_ydata())) == pytest.approx([83.9, 84.3])
    share = next(each for each in shares.lines if list(np.asarray(each.get_xdata())) == [224, 448])
    # 3 p^2 weights and a bias for each of 768 channels, of the parameters of the paper's Table 7 counted whole.
    assert np.asarray(share.get_ydata())[1] == pytest.approx(100 * (3 * 16**2 + 1) * 768 / 99_109_192, rel=1e-3)
    assert "not available as numbers" in drawn.get_supxlabel().replace("\n", " ")


def test_a_count_of_classes_that_is_none_is_named() -> None:
    two = table(sequence_length=16, classes="many")
    two["input_size"], two["design"] = 4 * two["patch_size"], [f"deit-micro/{p}@{4 * p}" for p in two["patch_size"]]
    with pytest.raises(UsageError, match="classes: 'many'"):
        figure(two, 4)


def test_what_is_missing_is_said_with_what_to_run() -> None:
    with pytest.raises(FigureError, match=r"grid\.designs"):
        figure(table(sequence_length=16), 4)
    one = table(parameters=1e6)[:1]
    with pytest.raises(FigureError, match="one axis alone"):
        figure(one, 3)
    with pytest.raises(FigureError, match="no training FLOPs"):
        figure(table(), 3)
    with pytest.raises(FigureError, match="'architecture'"):
        figure(pd.DataFrame({"test_loss": [1.0]}), 3)
    with pytest.raises(FigureError):
        figure(table(test_loss=np.nan), 4)
