from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling import figure
from scaling.errors import UsageError
from scaling.figures import FigureError, save_figure
from scaling.figures.style import nice_log_ticks
from scaling.records import boxes_and_masks
from tests.figures.checks import caption, check_text
from tests.figures.studies import detectors
from tests.laws.test_tables import table


def test_one_panel_per_task_family_and_input_with_a_curve_per_size() -> None:
    records = pd.concat([table(), table(input_size=128), table(architecture="adventurer")])
    drawn = figure(records)
    visible = [axis for axis in drawn.axes if axis.get_visible()]
    assert [axis.get_title() for axis in visible] == [
        "Classification, DeiT, 64×64 input",
        "Classification, DeiT, 128×128 input",
        "Classification, Adventurer, 64×64 input",
    ]
    for axis in visible:
        assert axis.get_xscale() == "log"
        assert axis.get_xlabel() == "Patch size (pixels)"
        assert axis.get_ylabel() == "Test loss (nats),\nlog of (loss − 0.7)"
        legend = axis.get_legend()
        assert legend is not None
        assert [text.get_text().split()[0] for text in legend.get_texts()] == ["nano", "micro"]


def test_studies_side_by_side_are_named() -> None:
    drawn = figure(pd.concat([table(study="one"), table(study="other-one")]))
    titles = [axis.get_title().split(",")[0] for axis in drawn.axes if axis.get_visible()]
    assert titles == ["one: Classification", "other-one: Classification"]


def test_a_detector_has_a_panel_of_boxes_and_one_of_masks_and_is_one_record() -> None:
    drawn = figure(boxes_and_masks(detectors()))
    boxes, masks = [axis for axis in drawn.axes if axis.get_visible()]
    assert [axis.get_title().splitlines()[0] for axis in (boxes, masks)] == ["Detection", "Instance segmentation"]
    for axis, column in ((boxes, "test_loss"), (masks, "mask_test_loss")):
        points = axis.containers[0].lines[0]  # pyright: ignore[reportAttributeAccessIssue]
        assert sorted(points.get_ydata()) == pytest.approx(sorted(detectors()[column].dropna()))
        assert [np.ravel(line.get_xdata()).tolist() for line in axis.lines if line.get_gid() == "oom"] == [[4.0]]
    assert caption(drawn).endswith("; 5 records")
    check_text(drawn)


def test_error_bars_are_95_percent_of_the_records_error() -> None:
    drawn = figure(table(test_loss_standard_error=0.01))
    bars = drawn.axes[0].containers[0].lines[2][0]  # pyright: ignore
    heights = [float(np.ptp(segment[:, 1])) for segment in bars.get_segments()]
    assert heights == pytest.approx([2 * 1.96 * 0.01] * 5)


@pytest.mark.parametrize("family", [{}, {"architecture": "adventurer", "task": "segmentation", "head": "linear"}])
def test_no_text_is_small_cut_off_or_overlapping(family: dict[str, str]) -> None:
    check_text(figure(pd.concat([table(test_loss_standard_error=0.01, **family), table(input_size=128, **family)])))


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    first = save_figure(figure(table()), tmp_path / "a", "figure1")
    again = save_figure(figure(table()), tmp_path / "b", "figure1")
    assert [path.suffix for path in first] == [".png", ".pdf", ".svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="no figure '77'"):
        figure(table(), name=77)
    with pytest.raises(FigureError, match="nothing to draw"):
        figure(table(status="failed"))
    with pytest.raises(FigureError, match="nothing to draw"):
        figure(pd.DataFrame({"a": [1.0]}))


@pytest.mark.parametrize(("low", "high"), [(0.312, 0.337), (0.8, 1.2), (0.1, 3), (1e-4, 1e3), (99.0, 101.0)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = nice_log_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(f"{tick:.10g}".lstrip("0.").replace(".", "")) <= 4 for tick in ticks)
