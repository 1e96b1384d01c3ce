"""Predictions at places that were asked for: units, intervals, averages, reach, and what JSON holds."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UsageError
from scaling.laws import FitResult, Options, fit, gather
from tests.laws.truths import PATCHES, noisy, result_of, saturating

X = np.geomspace(1, 64, 12)


def chosen(y: np.ndarray, x: np.ndarray = X, name: str = "loss", **options: object) -> FitResult:
    table = pd.DataFrame({"x": x, name: y, "row": range(len(x))})
    return fit(table, "auto", "x", name, options=Options(**options))  # pyright: ignore[reportArgumentType]


def test_predictions_are_those_of_the_law_and_its_bands() -> None:
    result = chosen(noisy(saturating(X, 0.3, 2, -0.6), 0.005, 0))
    first, second = result.predictions([8.0, 128.0])
    for found in (first, second):
        assert found.estimate == pytest.approx(result.predict(found.x)[0])
        (low,), (high,) = result.band(found.x)
        (new_low,), (new_high,) = result.band(found.x, new_run=True)
        assert (found.low, found.high) == pytest.approx((low, high))
        assert (found.new_run_low, found.new_run_high) == pytest.approx((new_low, new_high))
        assert new_low < low < found.estimate < high < new_high
    assert (first.reach, second.reach) == (1.0, 2.0)
    assert (first.reach_in_words, second.reach_in_words) == ("inside the data", "2x beyond")
    assert result.predictions(0.25)[0].reach == 4.0


def test_the_average_is_geometric_for_logarithms_and_arithmetic_for_others() -> None:
    y = noisy(saturating(X, 0.05, 2, -0.6), 0.02, 3)
    for residual in ("log", "linear"):
        result = chosen(y, residual=residual)
        assert result.choice is not None
        weights = np.array([candidate.weight for candidate in result.choice.candidates])
        assert weights.max() < 0.99  # else nothing is averaged
        single = [float(fitted.predict(np.array([[500.0]]))[0]) for fitted in result.choice.fits]
        expected = np.prod(single**weights) if residual == "log" else weights @ single
        assert result.predictions(500.0)[0].averaged == pytest.approx(expected, rel=1e-12)
        assert np.prod(single**weights) != pytest.approx(weights @ single, rel=1e-4)


def test_no_average_of_a_law_that_was_given_or_where_the_criterion_cannot_weigh_it() -> None:
    assert result_of(PATCHES, saturating(PATCHES)).predictions(1.0)[0].averaged is None
    few = chosen(noisy(saturating(PATCHES), 0.002, 1), PATCHES)
    assert few.law == "saturating"  # by its floor; AICc has no value for it
    assert few.predictions(1.0)[0].averaged is None


@pytest.mark.parametrize("residual", ["log", "linear"])
@pytest.mark.parametrize("unit", [1, 100])
def test_rates_are_predicted_in_their_unit_and_never_leave_it(unit: int, residual: str) -> None:
    name = "accuracy" if unit == 1 else "accuracy_percent"
    odds = noisy(3 * X**-0.7, 0.02, 0)
    result = chosen(unit / (1 + odds), name=name, residual=residual)
    for found in result.predictions([1e-9, 1e-3, 4.0, 1e3, 1e9]):
        assert 0 <= found.new_run_low <= found.low <= found.estimate <= found.high <= found.new_run_high <= unit
        assert found.averaged is not None
        assert 0 <= found.averaged <= unit
    assert result.predictions(8.0)[0].estimate == pytest.approx(unit / (1 + 3 * 8**-0.7), rel=0.02)


def test_odds_beyond_all_bounds_are_rates_at_the_ends() -> None:
    points = gather([1.0, 2.0], [0.5, 0.6], link="accuracy")
    assert points.from_link(np.array([np.inf, -2.0, 1.0])) == pytest.approx([0.0, 1.0, 0.5])
    assert np.isnan(points.from_link(np.array([np.nan]))[0])


def test_json_has_null_where_nothing_is_known() -> None:
    result = result_of(PATCHES, noisy(saturating(PATCHES), 0.005, 1), intervals="none")
    (found,) = result.predictions(0.5)
    values = found.to_json()
    assert values["x"] == [0.5]
    assert values["estimate"] == pytest.approx(found.estimate)
    assert [values[name] for name in ("low", "high", "new_run_low", "new_run_high", "averaged")] == [None] * 5
    json.dumps(values, allow_nan=False)
    overflows = result_of(PATCHES, PATCHES**3, "power").predictions(1e200)[0]
    assert (overflows.estimate, overflows.to_json()["estimate"], overflows.to_json()["high"]) == (np.inf, None, None)


def test_several_scales_reach_as_far_as_the_farthest() -> None:
    N, p = (side.ravel() for side in np.meshgrid(np.geomspace(1e6, 1e8, 5), [16.0, 8, 4, 2]))
    table = pd.DataFrame({"parameters": N, "patch_size": p})
    table["test_loss"] = noisy(0.5 + 900 * N**-0.45 + 0.02 * p**0.9, 0.001, 0)
    result = fit(table, "additive", ["parameters", "patch_size"])
    inside, beyond = result.predictions([[1e7, 2e8], [4.0, 0.5]])
    assert (inside.x, inside.reach) == ((1e7, 4.0), 1.0)
    assert (beyond.x, beyond.reach) == ((2e8, 0.5), 4.0)
    assert beyond.low <= beyond.estimate <= beyond.high
    with pytest.raises(UsageError, match="rows of N, p"):
        result.predictions([1.0, 2.0])
