"""`scaling measure` on this machine: its rows, what they calibrate, and designs that do not fit."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from scaling.cli.app import app
from scaling.cost import IMAGENET_IMAGES, calibrate, estimate, find_hardware, read_measurements
from scaling.design import Design
from scaling.errors import UsageError
from scaling.grid.devices import Device
from scaling.grid.measuring import Measured, Measuring, measuring
from scaling.records import RecordError, load_records, save_table

DESIGNS = [Design.parse(name) for name in ("adventurer-nano/8@16", "deit-nano/8@16+linear")]


@pytest.fixture(scope="module")
def rows() -> list[Measured]:
    return list(measuring("cpu", steps=3, classes=7, hardware="cpu").rows(DESIGNS))


def test_rows_agree_with_themselves_and_with_the_estimator(rows: list[Measured]) -> None:
    for design, row in zip(DESIGNS, rows, strict=True):
        assert (row.design, row.status, row.error, row.micro_batch_size) == (str(design), "done", None, 32)
        assert row.images_per_second is not None
        assert row.images_per_second_low is not None
        assert row.images_per_second_high is not None
        assert row.images_per_second_low <= row.images_per_second <= row.images_per_second_high
        known = estimate(design, "cpu", classes=7, batch_size=32, gpus=1, micro_batch_size=32)
        hours = IMAGENET_IMAGES / row.images_per_second / 3600
        assert row.device_hours_per_epoch == pytest.approx(hours)
        flops = row.images_per_second * known.cost.training_flops_per_image
        assert row.flops_per_second == pytest.approx(flops)
        assert row.peak_share == pytest.approx(flops / find_hardware("cpu").peak_flops["fp32"])
        assert row.hours_ratio is not None
        assert row.estimated_device_hours_per_epoch == pytest.approx(row.hours_ratio * hours)
        assert row.memory_ratio == 1  # counted on the model, to the byte
        assert row.peak_memory_bytes is not None
        assert row.peak_memory_bytes > 2**26  # a process with torch in it
    kernels = [(row.attention, row.scan) for row in rows]
    assert kernels == [(None, "torch"), ("sdpa", None)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_saved_calibrates_the_estimator(rows: list[Measured], suffix: str, tmp_path: Path) -> None:
    save_table(pd.DataFrame([row.to_json() for row in rows]), tmp_path / f"mine{suffix}")
    measured = read_measurements(load_records(tmp_path / f"mine{suffix}"), "cpu")
    for row, one in zip(rows, measured, strict=True):
        assert one.seconds_per_image == pytest.approx(1 / (row.images_per_second or 0))
        assert (one.layout.gpus, one.layout.micro_batch_size, one.layout.accumulation) == (1, 32, 1)
        assert one.execution.scan == ("recomputed" if "adventurer" in row.design else "fused")
        assert one.cost.parameters.head == 7 * (width_of(row) + 1)
    constants = calibrate(measured, "here")
    after = [math.log(one.predicted(constants) / one.seconds_per_image) for one in measured]
    before = [math.log(row.hours_ratio or 0) for row in rows]
    assert sum(miss**2 for miss in after) < sum(miss**2 for miss in before)  # of any times at all


def width_of(row: Measured) -> int:
    return Design.parse(row.design).shape.width


def test_a_design_that_does_not_fit_or_crashes_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Measuring(Device("cpu", 1, 2**40), None, "fp32", False, 10, 10**10, 1)
    (row,) = setting.rows(DESIGNS[:1])
    assert row.status == "oom"
    assert row.error is not None
    assert "allocate memory" in row.error
    assert row.estimated_peak_memory_bytes is not None
    assert row.estimated_peak_memory_bytes > 10**13
    assert row.images_per_second is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gone = Measuring(Device("cuda", 1, 2**30, "a GPU that is gone"), None, "bf16", True, 10, 4, 1)
    failed = list(gone.rows(DESIGNS[:2]))
    assert [row.status for row in failed] == ["failed", "failed"]
    assert all(row.error and row.device == "a GPU that is gone" for row in failed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "fp16 needs a CUDA device"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"steps": 0}, "steps: 0; at least 1"),
        ({"micro_batch_size": 0}, "micro-batch: 0; at least 1"),
        ({"hardware": "h1000"}, "unknown hardware 'h1000'"),
        ({"classes": 0}, "classes must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measuring("cpu", **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("twins")
def test_what_has_no_model_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="'twin' has costs and no model"):
        measuring("cpu").rows([Design.parse("twin-one/8@16")])


def test_the_command_saves_its_rows_and_prints_json(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine.csv"
    options = ("--device", "cpu", "--steps", "1", "--micro-batch", "2", "--classes", "10", "--out", str(out))
    shown = CliRunner().invoke(app, ["measure", "deit-nano/{8,8}@16", *options, "--format", "json"])
    assert shown.exit_code == 0, shown.stderr
    assert [row["design"] for row in json.loads(shown.stdout)] == ["deit-nano/8@16"]
    assert "1 of 1: deit-nano/8@16" in shown.stderr
    assert load_records(out)["micro_batch_size"].tolist() == [2]
    table = CliRunner().invoke(app, ["estimate", "deit-nano/4@16", "--hardware", "cpu", "--calibration", str(out)])
    assert table.exit_code == 0, table.stderr
    assert "1 measured" in table.stderr
    wrong = CliRunner().invoke(app, ["measure", "deit-nano/8@16", "--out", str(tmp_path / "mine.txt")])
    assert isinstance(wrong.exception, RecordError)
    assert "unknown kind of table '.txt'; use .csv or .parquet" in str(wrong.exception)


@pytest.mark.gpu
@pytest.mark.slow
def test_table_6_on_this_gpu() -> None:
    """Memory per image within 5 % of the estimator; hours of the finer patch within 10 % after the coarser ones."""
    names = [f"{name}-base/{patch}@224" for name in ("deit", "adventurer") for patch in (32, 16, 8)]
    setting = measuring("cuda", "bf16")
    found = list(setting.rows([Design.parse(name) for name in names]))
    assert {row.status for row in found} == {"done"}
    for row in found:
        assert row.memory_ratio == pytest.approx(1, abs=0.05)
    assert setting.hardware is not None
    table = pd.DataFrame([row.to_json() for row in found])
    finest = table["design"].str.contains("/8@")
    constants = calibrate(read_measurements(table[~finest], setting.hardware), "patches 32 and 16")
    for one in read_measurements(table[finest], setting.hardware):
        assert one.predicted(constants) / one.seconds_per_image == pytest.approx(1, abs=0.1)
