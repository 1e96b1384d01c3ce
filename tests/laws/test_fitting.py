"""One fit: its minimum against other solvers, units and order, bounds, links, weights, and data that are refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from scaling.errors import UsageError
from scaling.laws import FitError, FitStatus, Loss, Options, fit, fit_points, gather
from tests.laws.truths import PATCHES, noisy, result_of, saturating

TRUTHS = [
    pytest.param((0.8, 0.016, 1.05), PATCHES, id="patch"),
    pytest.param((1.8, 400.0, -0.35), np.geomspace(1e7, 1e10, 8), id="parameters"),
    pytest.param((0.3, 3e3, -0.2), np.geomspace(1e18, 1e22, 6), id="flops"),
]
LOSSES = [Loss(), Loss("huber", 1e-3), Loss("cauchy", 0.01)]


@pytest.mark.parametrize(("truth", "x"), TRUTHS)
def test_exact_data_give_the_law_back(truth: tuple[float, float, float], x: np.ndarray) -> None:
    result = result_of(x, saturating(x, *truth))
    assert [value.estimate for value in result.parameters.values()] == pytest.approx(list(truth), rel=1e-6)
    assert result.status is FitStatus.CONVERGED


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("residual", ["log", "linear"])
@pytest.mark.parametrize(("truth", "x"), TRUTHS)
def test_no_solver_finds_a_better_fit(
    truth: tuple[float, float, float], x: np.ndarray, residual: str, loss: Loss
) -> None:
    """Against scipy's trust region, from the truth and from another start."""
    center = np.exp(np.log(x).mean())
    for seed in range(3):
        y = noisy(saturating(x, *truth), 0.01, seed)
        ours = result_of(x, y, residual=residual, loss=loss, intervals="none")

        def residuals(theta: np.ndarray, y: np.ndarray = y) -> np.ndarray:
            found = theta[0] + theta[1] * (x / center) ** theta[2]
            return np.log(found / y) if residual == "log" else found - y

        kind = {"squares": "linear", "huber": "huber", "cauchy": "cauchy"}[loss.name]
        starts = [[truth[0], truth[1] * center ** truth[2], truth[2]], [0.5 * y.min(), y.max() / 2, np.sign(truth[2])]]
        bounds = ([0, 0, -8], [np.inf, np.inf, 8])
        options = {"bounds": bounds, "xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14, "loss": kind, "f_scale": loss.scale}
        theirs = min(least_squares(residuals, start, **options).cost for start in starts)
        assert ours.objective <= theirs * (1 + 1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    x_unit=st.floats(-30, 30),
    y_unit=st.floats(-30, 30),
    law=st.sampled_from(["power", "saturating", "M3", "shifted"]),
)
def test_units_and_order_change_nothing_else(seed: int, x_unit: float, y_unit: float, law: str) -> None:
    rng = np.random.default_rng(seed)
    x = np.exp(rng.uniform(0, 4, 9))
    y = noisy(saturating(x, rng.uniform(0, 1), 1.0, rng.uniform(-1.5, 1.5)), 0.02, seed)
    options = Options(intervals="none")
    first = fit_points(gather(x, y), law, options)
    order = rng.permutation(9)
    shuffled = fit_points(gather(x[order], y[order]), law, options)
    assert list(shuffled.values) == list(first.values)
    scaled = fit_points(gather(x * 10.0**x_unit, y * 10.0**y_unit), law, options)
    assert scaled.objective == pytest.approx(first.objective, rel=1e-6, abs=1e-12)
    far = np.array([[3.0, 90.0]])
    ratio = scaled.predict(far * 10.0**x_unit) / first.predict(far)
    assert list(ratio / 10.0**y_unit) == pytest.approx([1, 1], rel=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), extra=st.floats(0.3, 40))
def test_one_more_exact_point_bounds_no_less(seed: int, extra: float) -> None:
    y = noisy(saturating(PATCHES), 0.004, seed)
    before = result_of(PATCHES, y)
    x = np.append(PATCHES, extra)
    after = result_of(x, np.append(y, before.predict(extra)))
    for name, interval in before.parameters.items():
        if np.isfinite(interval.high) and np.isfinite(interval.low):
            assert np.isfinite([after.parameters[name].low, after.parameters[name].high]).all()


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_extreme_units_are_fitted_or_refused(unit: float) -> None:
    y = saturating(PATCHES)
    result = result_of(PATCHES, y * unit, "power")
    assert float(result.predict(4.0)[0] / unit) == pytest.approx(float(result_of(PATCHES, y, "power").predict(4.0)[0]))
    with pytest.raises(FitError, match="overflow in these units"):
        result_of(PATCHES * unit, 0.1 + PATCHES**2)


def chinchilla_table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    N, D = np.exp(rng.uniform(np.log(5e7), np.log(1e10), 120)), np.exp(rng.uniform(np.log(1e9), np.log(1e11), 120))
    loss = noisy(1.8 + 480 * N**-0.35 + 2100 * D**-0.37, 0.003, seed)
    return pd.DataFrame({"N": N, "D": D, "loss": loss})


def test_a_joint_law_from_any_order_and_unit() -> None:
    table = chinchilla_table()
    options = Options(loss=Loss("huber", 1e-3), intervals="none")
    first = fit(table, "chinchilla", ["N", "D"], "loss", group_by=[], options=options)
    truth = {"E": 1.8, "A": 480, "B": 2100, "alpha": 0.35, "beta": 0.37}
    for name, value in truth.items():
        assert first.parameters[name].estimate == pytest.approx(value, rel=0.25)
    other = table.sample(frac=1, random_state=1).assign(D=lambda rows: rows["D"] / 1e9)
    second = fit(other, "chinchilla", ["N", "D"], "loss", group_by=[], options=options)
    assert second.objective == pytest.approx(first.objective, rel=1e-9)
    for name in ("E", "A", "alpha", "beta"):
        assert second.parameters[name].estimate == pytest.approx(first.parameters[name].estimate, rel=1e-4)


def test_a_fixed_and_a_bounded_floor() -> None:
    y = noisy(saturating(PATCHES), 0.004, 1)
    fixed = result_of(PATCHES, y, bounds={"E": (0.8, 0.8)})
    assert fixed.parameters["E"].estimate == fixed.parameters["E"].low == pytest.approx(0.8)
    assert fixed.degrees_of_freedom == 3
    none = result_of(PATCHES, y, bounds={"E": (0, 0)})
    assert none.objective == pytest.approx(result_of(PATCHES, y, "power").objective, rel=1e-9)
    bounded = result_of(PATCHES, y, bounds={"E": (0, 0.7)})
    assert bounded.parameters["E"].estimate == pytest.approx(0.7)


@pytest.mark.parametrize("percent", [1, 100])
def test_rates_are_fitted_by_their_odds_and_never_leave_their_range(percent: int) -> None:
    x = np.geomspace(1, 64, 7)
    odds = saturating(x, 0.2, 3.0, -0.7)
    accuracy = percent / (1 + odds)
    table = pd.DataFrame({"x": x, "accuracy": accuracy, "error_rate": percent - accuracy})
    by_accuracy = fit(table, "saturating", "x", "accuracy")
    by_error = fit(table, "saturating", "x", "error_rate", link="error" if percent == 1 else "error-percent")
    for result in (by_accuracy, by_error):
        assert [value.estimate for value in result.parameters.values()] == pytest.approx([0.2, 3, -0.7], rel=1e-6)
    far = np.array([1e-9, 1e12])
    assert np.all((by_accuracy.predict(far) > 0) & (by_accuracy.predict(far) < percent))
    assert list(by_accuracy.predict(x)) == pytest.approx(list(accuracy))
    low, high = by_accuracy.band(far)
    assert np.all((low >= 0) & (low <= high) & (high <= percent))
    assert by_accuracy.inverse(float(accuracy[3])) == pytest.approx(x[3], rel=1e-6)


def test_points_weigh_by_their_standard_errors() -> None:
    table = pd.DataFrame({"x": PATCHES, "loss": noisy(0.3 * PATCHES**0.4, 0.02, 3), "se": [1e-3] * 5})
    table.loc[2, ["loss", "se"]] = [9.0, 900.0]
    heavy = fit(table, "power", "x", "loss", errors="se")
    without = fit(table.drop(index=2), "power", "x", "loss", errors="se")
    assert heavy.parameters["b"].estimate == pytest.approx(without.parameters["b"].estimate, rel=1e-4)


@pytest.mark.parametrize("deviations", [np.full(6, 0.5), np.geomspace(0.2, 1.5, 6)], ids=["equal", "different"])
def test_errors_of_linear_residuals_weigh_absolutely(deviations: np.ndarray) -> None:
    """Against weighted least squares in closed form, through a y of zero and a negative one."""
    x, y = np.geomspace(1, 32, 6), np.array([10.1, 7.8, 6.6, 3.5, 0.0, -0.4])
    table = pd.DataFrame({"x": x, "y": y, "s": deviations})
    result = fit(table, "log-linear", "x", "y", errors="s", options=Options(residual="linear"))
    b, a = np.polyfit(np.log(x), y, 1, w=1 / deviations)
    assert [value.estimate for value in result.parameters.values()] == pytest.approx([a, b], rel=1e-8)


@pytest.mark.parametrize("link", ["error", "accuracy-percent"])
@pytest.mark.parametrize("residual", ["log", "linear"])
def test_errors_of_rates_weigh_by_those_of_the_residuals(link: str, residual: str) -> None:
    """The weights are inverse squares of what a standard error changes in the odds, by finite differences."""
    errors = np.array([0.003, 0.01, 0.02])
    rates = np.array([0.1, 0.4, 0.7])
    given = rates if link == "error" else 100 * (1 - rates)
    points = gather([1, 2, 4], given, errors * (1 if link == "error" else 100), link, signed=residual == "linear")  # pyright: ignore[reportArgumentType]

    def inner(rate: np.ndarray) -> np.ndarray:
        odds = rate / (1 - rate)
        return np.log(odds) if residual == "log" else odds

    expected = (errors * (inner(rates + 1e-6) - inner(rates - 1e-6)) / 2e-6) ** -2
    assert points.weights == pytest.approx(expected / expected.mean(), rel=1e-6)


def test_a_tail_weight_follows_the_end() -> None:
    """A curve that only becomes a power law later: the weight finds the later exponent, in either direction."""
    x = np.geomspace(1, 1e4, 40)
    y = (1 + (x / 30) ** 2) ** -0.25
    for scale in (x, 1 / x):
        plain = abs(result_of(scale, y, "power", intervals="none").parameters["b"].estimate)
        points = gather(scale, y, tail_weight=2.0)
        tail = abs(fit_points(points, "power", Options(intervals="none")).estimates[1])
        assert plain < 0.45
        assert tail == pytest.approx(0.5, abs=0.01)


def test_few_points_are_refused_or_doubted() -> None:
    with pytest.raises(FitError, match="3 points at 3 different x; the saturating law needs at least 4"):
        result_of(np.array([1, 2, 4]), np.array([1, 2, 3]))
    with pytest.raises(FitError, match="4 points at 1 different x"):
        result_of(np.full(4, 2.0), np.array([1, 2, 3, 4]), "power")
    notes = result_of(PATCHES, noisy(saturating(PATCHES), 0.01, 0)).notes
    assert any("5 points for 3 parameters" in note for note in notes)


@pytest.mark.parametrize("law", ["power", "saturating"])
def test_flat_data_have_no_trend_and_say_so(law: str) -> None:
    result = result_of(np.array([1, 2, 4, 8, 16]), np.array([0.5, 0.51, 0.49, 0.505, 0.5]), law)
    assert any("no trend" in note for note in result.notes)
    constant = result_of(PATCHES, np.full(5, 0.5), law)
    assert constant.status is FitStatus.FLAT
    assert np.all(np.isfinite(constant.predict(PATCHES)))


@pytest.mark.parametrize(
    ("x", "y", "link", "message"),
    [
        ([1, 2, 4, 8], [1, 2, -3, 4], "none", "positive y"),
        ([1, 2, 4, 8], [1, 2, float("nan"), 4], "none", "finite y"),
        ([1, 2, 4, 0], [1, 2, 3, 4], "none", "finite positive x"),
        ([1, 2, 4, 8], [0.4, 0.5, 60, 70], "accuracy", "lie between 0 and 1"),
        ([1, 2, 4, 8], [0.4, 0.5, 0.6, 100], "error-percent", "lie between 0 and 100, without the ends"),
    ],
)
def test_values_that_cannot_be_fitted_are_refused(x: list[float], y: list[float], link: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        gather(x, y, link=link)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "level 95 is not between 0 and 1"),
        ({"residual": "lin"}, "unknown residual 'lin'"),
        ({"intervals": "profil"}, "did you mean 'profile'"),
        ({"noise": "seeds"}, "unknown noise 'seeds'"),
        ({"tail_weight": -1.0}, "tail weight -1.0"),
        ({"bounds": {"F": (0, 1)}}, "no parameter 'F'"),
        ({"bounds": {"E": (1, 0)}}, "bounds of E: 1 is above 0"),
        ({"bounds": {"A": (1, 2)}}, "bounds of A mix with other parameters"),
        ({"intervals": "group"}, "need the column of the groups"),
        ({"intervals": "residual", "noise": "repeats"}, "noise 'repeats' with intervals 'residual'"),
        ({"intervals": "pairs", "noise": "pooled"}, "noise 'pooled' with intervals 'pairs'"),
        ({"loss": Loss("huber", 0.01), "noise": "repeats"}, "noise 'repeats' with intervals 'pairs'"),
        ({"bounds": {"E": (np.inf, np.inf)}}, "no value to fix it at"),
        ({"resamples": 0}, "0 resamples are too few"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        result_of(PATCHES, saturating(PATCHES), **options)


@pytest.mark.parametrize("intervals", ["auto", "profile", "residual", "pairs", "none"])
def test_clusters_without_their_bootstrap_are_refused(intervals: str) -> None:
    points, options = gather(PATCHES, saturating(PATCHES)), Options(intervals=intervals)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"clusters with intervals '(profile|residual|pairs|none)'"):
        fit_points(points, "power", options, np.array(["a", "b", "c", "c", "b"]))


def test_bounds_that_mix_with_other_parameters_are_refused() -> None:
    x = np.geomspace(1, 1e3, 30)
    for law, name in (("M4", "E0"), ("log-linear", "a"), ("broken", "d")):
        with pytest.raises(UsageError, match=f"bounds of {name} mix"):
            result_of(x, 0.3 + x**-0.5, law, bounds={name: (1, 2)}, intervals="none")
    free, same = (result_of(x, 0.3 + x**-0.5, "broken", bounds=b, intervals="none") for b in ({}, {"d": (0, np.inf)}))
    assert same.objective == free.objective


@pytest.mark.parametrize(("name", "scale"), [("huber", -1.0), ("hubert", 1.0), ("cauchy", float("inf"))])
def test_bad_losses(name: str, scale: float) -> None:
    with pytest.raises(UsageError, match="unknown loss"):
        Loss(name, scale)  # pyright: ignore[reportArgumentType]


def test_points_that_are_asked_for_must_exist() -> None:
    result = result_of(PATCHES, saturating(PATCHES))
    with pytest.raises(UsageError, match="finite, positive x"):
        result.predict([1.0, -1.0])
    with pytest.raises(UsageError, match="nan is no value"):
        result.inverse(float("nan"))
    with pytest.raises(UsageError, match=r"rows of x, shape \(1, Q\)"):
        result.predict([[1.0, 2.0], [3.0, 4.0]])
