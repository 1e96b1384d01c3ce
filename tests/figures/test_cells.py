"""What figures show of studies of one's own: seeds, lost and missing cells, floors, heads, learning curves."""

import colorsys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.stats import ttest_ind, ttest_rel

from scaling import figure
from scaling.figures import FigureError, Material
from scaling.figures.learning_curves import smoothed
from scaling.figures.panels import Panel, panels_of
from scaling.figures.scales import floor_of, floor_ticks
from scaling.figures.style import COLOURS, LINES, MARKERS, plain_number
from tests.figures.checks import caption, check_text
from tests.laws.test_tables import table

QUICK = Path(__file__).parents[2] / "runs" / "digits-quick"


def without(records: pd.DataFrame, size: str, patch: int, status: str) -> None:
    lost = records["size"].eq(size) & records["patch_size"].eq(patch)
    records.loc[lost, ["status", "test_loss"]] = [status, np.nan]


def study() -> pd.DataFrame:
    """Two sizes and two seeds, with one cell each out of memory, diverged and failed."""
    records = pd.concat([table(test_loss_standard_error=0.01), table(seed=1)], ignore_index=True)
    records["test_loss"] += 0.004 * records["seed"]
    without(records, "micro", 1, "oom")
    without(records, "nano", 1, "diverged")
    without(records, "nano", 4, "failed")
    return records


def lines_of(axes: Axes, marker: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in line.get_xydata()]  # pyright: ignore[reportGeneralTypeIssues]
        for line in axes.lines
        if line.get_marker() == marker and len(line.get_xdata())  # pyright: ignore[reportArgumentType]
    ]


def test_lost_cells_are_marked_at_their_patch_size_and_named() -> None:
    (axes,) = figure(study()).axes
    for gid in ("oom", "diverged"):
        (mark,) = [line for line in axes.lines if line.get_gid() == gid and len(np.ravel(line.get_xdata()))]
        assert np.ravel(mark.get_xdata()) == pytest.approx([1.0])
        assert np.all(np.ravel(mark.get_ydata()) > 0.85)  # of the axis
        assert mark.get_transform() == axes.get_xaxis_transform()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][2:] == ["out of memory", "diverged"]
    assert sorted(axes.get_xticks()) == [1, 2, 4, 8, 16]


def test_marks_of_lost_cells_touch_no_point() -> None:
    drawn = figure(study())
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    highest = max(y for marker in "os" for line in lines_of(axes, marker) for _, y in line)
    mark = min(float(y) for line in axes.lines if line.get_gid() for y in np.ravel(line.get_ydata()))
    point = axes.transAxes.inverted().transform(axes.transData.transform((1.0, highest)))[1]
    assert point < mark - 0.03


def test_a_legend_of_many_entries_stands_under_its_panel() -> None:
    for records, inside in ((table(), True), (study(), False)):
        drawn = figure(records)
        drawn.draw_without_rendering()
        (axes,) = drawn.axes
        legend = axes.get_legend()
        assert legend is not None
        assert axes.get_window_extent().overlaps(legend.get_window_extent()) == inside
        assert inside or legend.get_window_extent().y1 < axes.xaxis.label.get_window_extent().y0


def test_failed_cells_stay_blank_and_are_counted() -> None:
    drawn = figure(study())
    (axes,) = drawn.axes
    nano = max(lines_of(axes, "o"), key=len)
    assert 4.0 not in [x for x, _ in nano]
    assert "left blank: 2 records without a test loss (2 failed)" in caption(drawn)
    check_text(drawn)
    plain = table().drop(columns="status")
    plain.loc[2, "test_loss"] = np.nan
    assert "left blank: 1 records without a test loss; 9 records" in caption(figure(plain))


def test_seeds_are_faint_behind_their_mean() -> None:
    drawn = figure(study())
    (axes,) = drawn.axes
    faint, means = (
        [line for line in axes.lines if line.get_marker() == "s" and (line.get_alpha() == 0.35) == is_faint]
        for is_faint in (True, False)
    )
    assert len(np.ravel(faint[0].get_xdata())) == 8
    seeds = table().loc[lambda rows: rows["size"].eq("micro") & rows["patch_size"].gt(1)]
    expected = np.sort(seeds["test_loss"].to_numpy()) + 0.002
    assert np.sort(np.ravel(means[0].get_ydata()).astype(float)) == pytest.approx(expected)
    assert "faint: single seeds" in caption(drawn)
    assert "faint" not in caption(figure(table()))


def only_panel(records: pd.DataFrame, law: str = "auto") -> tuple[Panel, float | None]:
    (panel,) = panels_of(Material(records, law=law), "patch_size")
    return panel, floor_of(panel)


def test_the_floor_is_one_for_the_panel_and_below_its_losses() -> None:
    panel, floor = only_panel(table())  # floors 0.9 and 0.7
    assert floor is not None
    assert 0.69 <= floor <= 0.7 < panel.rows["test_loss"].min()
    assert only_panel(table(), "power")[1] is None
    assert only_panel(table().assign(test_loss=lambda rows: 0.3 * rows["patch_size"] ** 0.3))[1] is None


def test_a_curve_without_a_floor_below_the_others_keeps_the_axis_plain() -> None:
    records = table()
    micro = records["size"].eq("micro")
    records.loc[micro, "test_loss"] = 0.3 * records.loc[micro, "patch_size"] ** 0.2
    assert only_panel(records)[1] is None


def test_a_curve_of_two_points_is_drawn_without_a_law() -> None:
    every = table()
    records = every[every["size"].eq("nano") | every["patch_size"].gt(4)]
    drawn = figure(records)
    assert len(max(lines_of(drawn.axes[0], "s"), key=len)) == 2
    assert "1 curves without a law" in caption(drawn)


@pytest.mark.parametrize(("low", "high", "floor"), [(0.815, 1.12, 0.801), (0.6946, 0.86, 0.692), (10.1, 90, 10)])
def test_ticks_above_a_floor_are_few_short_and_spread(low: float, high: float, floor: float) -> None:
    ticks = floor_ticks(low, high, floor)
    logs = np.log(np.array(ticks) - floor)
    assert 4 <= len(ticks) <= 6
    assert low <= ticks[0] < ticks[-1] <= high
    assert all(len(f"{tick:.10g}") <= 5 for tick in ticks)
    assert np.diff(logs).min() > 0.3 * np.diff(logs).mean()


def test_curves_differ_in_grey_and_none_is_dotted() -> None:
    lightness = [colorsys.rgb_to_hls(*to_rgb(colour))[1] for colour in COLOURS]
    luminance = [float(np.dot((0.2126, 0.7152, 0.0722), np.array(to_rgb(colour)) ** 2.2)) for colour in COLOURS]
    assert luminance == sorted(luminance, reverse=True)
    assert len(set(MARKERS)) == len(MARKERS) == len(LINES) == len(lightness)
    assert ":" not in LINES


def both_heads(**columns: float) -> pd.DataFrame:
    linear = table(task="segmentation", head="linear", mean_iou=0.4, **columns)
    upernet = linear.assign(head="upernet", mean_iou=0.42, test_loss=linear["test_loss"] - 0.05)
    return pd.concat([linear, upernet[upernet["patch_size"] > 1]], ignore_index=True)


def gaps(axes: Axes) -> list[float]:
    return [float(y) for container in axes.containers for y in container.lines[0].get_ydata()]  # pyright: ignore


def test_figure_2_of_a_study_has_a_panel_for_each_metric() -> None:
    drawn = figure(both_heads(test_loss_standard_error=0.01), 2)
    iou, loss, iou_gap, loss_gap = drawn.axes
    assert [iou.get_ylabel(), loss.get_ylabel()] == ["Mean IoU (%)", "Test loss (nats per pixel)"]
    assert gaps(iou_gap) == pytest.approx([2.0] * 8)
    assert gaps(loss_gap) == pytest.approx([-0.05] * 8)
    bars = loss_gap.containers[0].lines[2][0].get_segments()  # pyright: ignore[reportAttributeAccessIssue]
    assert [float(np.ptp(bar[:, 1])) for bar in bars] == pytest.approx([2 * 1.96 * 0.01 * 2**0.5] * 4)
    assert not iou_gap.containers[0].lines[2]  # pyright: ignore[reportAttributeAccessIssue]
    assert "UperNet at patch 1 (nano, micro)" in caption(drawn)
    check_text(drawn)


@pytest.mark.parametrize("matched", [True, False])
def test_seeds_give_the_gap_an_interval_paired_where_they_match(matched: bool) -> None:
    records = pd.concat([both_heads().assign(seed=seed) for seed in range(3)], ignore_index=True)
    of_seed = np.array([-0.02, 0.0, 0.02])[records["seed"]]  # shared by both heads
    records["test_loss"] += of_seed + np.random.default_rng(0).normal(0, 0.005, len(records))
    if not matched:
        records.loc[records["head"].eq("linear"), "seed"] += 1
    drawn = figure(records.sample(frac=1, random_state=0), 2)
    at_16 = records[records["size"].eq("nano") & records["patch_size"].eq(16)]
    one, other = (at_16.loc[at_16["head"].eq(head), "test_loss"] for head in ("upernet", "linear"))
    test = ttest_rel(one, other) if matched else ttest_ind(one, other, equal_var=False)
    ends = test.confidence_interval()
    bars = drawn.axes[3].containers[0].lines[2][0].get_segments()  # pyright: ignore[reportAttributeAccessIssue]
    assert not drawn.axes[2].containers[0].lines[2]  # pyright: ignore[reportAttributeAccessIssue]
    assert float(np.ptp(bars[-1][:, 1])) == pytest.approx(ends.high - ends.low)
    kind = "seeds, paired by seed" if matched else "seeds (Welch)"
    assert f"95 % interval of the gap over {kind}" in caption(drawn)


def test_a_missing_head_is_named_with_the_cells_to_run() -> None:
    with pytest.raises(FigureError, match=r"no record has upernet.*--only '\*\+upernet'$"):
        figure(QUICK, 2)
    upernet = table(head="upernet", task="segmentation")
    with pytest.raises(FigureError, match=r"no record has linear.*--only '\*\+linear'$"):
        figure(upernet, 2)
    with pytest.raises(FigureError, match="nothing to draw"):
        figure(both_heads().assign(status="failed"), 2)


def test_residuals_are_of_at_most_nine_curves_and_name_the_rest() -> None:
    sizes = [table(input_size=size) for size in (32, 64, 96, 128, 160)]
    drawn = figure(pd.concat(sizes), "residuals")
    assert sum(axes.get_visible() for axes in drawn.axes) == 18
    assert "not shown, 1 more curves: Classification, DeiT, 160×160 input, micro" in caption(drawn)
    few = table()
    with pytest.raises(FigureError, match="enough points for a law"):
        figure(few[few["patch_size"] > 4], "residuals")


def test_learning_curves_have_a_panel_per_model_and_a_colour_per_patch_size() -> None:
    drawn = figure(QUICK, "learning-curves")
    assert [axes.get_title() for axes in drawn.axes] == [
        "DeiT-Nano, 24×24 input, linear head",
        "DeiT-Micro, 24×24 input, linear head",
    ]
    for axes in drawn.axes:
        assert len(axes.lines) == 8  # 4 patch sizes of 2 seeds
        assert len({line.get_color() for line in axes.lines}) == 4
        assert axes.get_xscale() == axes.get_yscale() == "log"
    assert drawn.axes[0].get_ylabel() == "Training loss (nats per pixel)"
    assert "within a factor of 1.2 of the images seen" in caption(drawn)
    assert "16 cells" in caption(drawn)
    check_text(drawn)


def test_smoothing_is_a_geometric_mean_of_neighbours() -> None:
    images = np.array([100.0, 110.0, 200.0])
    assert smoothed(images, np.array([1.0, 4.0, 3.0])) == pytest.approx([2.0, 2.0, 3.0])


@pytest.mark.parametrize("source", [table(), "paper"])
def test_learning_curves_need_a_run_directory(source: pd.DataFrame | str) -> None:
    with pytest.raises(FigureError, match="run directory"):
        figure(source, "learning-curves")


@pytest.mark.parametrize("name", ["1", "residuals", "learning-curves"])
@pytest.mark.parametrize("study", ["digits-quick", "digits-adventurer"])
def test_text_of_the_reference_studies_is_readable(study: str, name: str) -> None:
    drawn: Figure = figure(QUICK.parent / study, name)
    check_text(drawn)


def test_numbers_of_ticks_are_short() -> None:
    assert [plain_number(value) for value in (0.25, 5000, 20_000, 3e6)] == ["0.25", "5000", "20k", "3M"]
