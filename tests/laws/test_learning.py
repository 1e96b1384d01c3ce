"""Forecasts of final losses, and the checklist."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import UsageError
from scaling.laws import FitError, checklist, fit_groups, forecast_loss, forecast_losses
from scaling.laws.results import FitResult
from scaling.records import RecordError, load_learning_curves

RUNS = Path(__file__).parents[2] / "runs"


def curve(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images = np.linspace(500, 50_000, 100)
    noise = np.random.default_rng(seed).standard_normal(100)
    return images, (0.2 + 1.5 * (1 + images / 800) ** -0.6) * np.exp(0.02 * noise)


def test_a_forecast_sees_where_a_curve_ends() -> None:
    images, losses = curve()
    for at, tolerance in ((0.3, 0.1), (0.6, 0.04)):
        found = forecast_loss("cell", images, losses, 50_000.0, at)
        assert found.final_loss is not None
        assert found.final_loss == pytest.approx(np.mean(losses[images > 45_000]))
        assert found.low < found.estimate < found.high
        assert found.low < found.final_loss < found.high
        assert found.estimate == pytest.approx(found.final_loss, rel=tolerance)
        assert abs(found.estimate - found.final_loss) < abs(found.loss_now - found.final_loss)


def test_what_has_not_happened_yet_changes_no_forecast() -> None:
    images, losses = curve()
    later = losses.copy()
    later[images > 25_000] = 9.0
    found, other = (forecast_loss("cell", images, given, 50_000.0, 0.5) for given in (losses, later))
    assert (found.estimate, found.low, found.high) == (other.estimate, other.low, other.high)


def test_a_finished_cell_is_its_own_forecast() -> None:
    images, losses = curve()
    found = forecast_loss("cell", images, losses, 50_000.0)
    assert found.estimate == found.low == found.high == found.final_loss


def test_intervals_hold_the_final_losses_of_a_real_run() -> None:
    found = forecast_losses(load_learning_curves(RUNS / "digits-quick"), at=0.5)
    assert len(found) == 16
    held = [each.low <= each.final_loss <= each.high for each in found if not isinstance(each, str) and each.final_loss]
    assert sum(held) >= 14


def test_a_run_that_is_still_going_on_can_be_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUNS / "digits-quick", run)
    one, other = sorted((run / "cells").iterdir())[:2]
    text = (one / "metrics.jsonl").read_text()
    (one / "metrics.jsonl").write_text(text[: len(text) // 2])  # in the middle of a line
    (other / "metrics.jsonl").unlink()
    curves = load_learning_curves(run)
    assert curves["cell"].nunique() == 15
    open_ = [each for each in forecast_losses(curves) if not isinstance(each, str) and each.final_loss is None]
    assert len(open_) == 1
    (one / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(RecordError, match="is not a learning curve"):
        load_learning_curves(run)


def test_bad_input_is_named() -> None:
    images, losses = curve()
    with pytest.raises(FitError, match="cell: 5 points of its learning curve; a forecast needs 12"):
        forecast_loss("cell", images[:5], losses[:5], 50_000.0)
    with pytest.raises(UsageError, match="--at 150%"):
        forecast_loss("cell", images, losses, 50_000.0, at=1.5)
    with pytest.raises(RecordError, match="not a run directory"):
        load_learning_curves("README.md")


def test_the_checklist_is_filled_in_and_leaves_open_what_it_cannot_know() -> None:
    fits = [fit for fit in fit_groups(RUNS / "digits-adventurer") if isinstance(fit, FitResult)]
    answers = {answer.question: answer.answer for answer in checklist(fits)}
    assert answers["What is the form?"] == "power: A * x^b"
    assert answers["How many points, in how many curves?"] == "20 in 2"
    assert answers["Over which range?"] == "patch_size from 1 to 16"
    assert answers["How well does it extrapolate?"] is None
    held = fit_groups(RUNS / "digits-adventurer", "power", hold_out="patch_size < 2")
    answers = {
        answer.question: answer.answer for answer in checklist([fit for fit in held if isinstance(fit, FitResult)])
    }
    assert "up to 2x beyond" in str(answers["How well does it extrapolate?"])
