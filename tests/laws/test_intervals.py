"""Intervals cover as often as they say, and are the profile's; the noise, lack of fit, and what is not identified."""

import numpy as np
import pytest
from scipy.optimize import brentq, least_squares
from scipy.stats import binomtest, f, kstest

from scaling.laws import LAWS, FitError
from scaling.laws.repeats import lack_of_fit
from tests.laws.truths import PATCHES, noisy, result_of, saturating

REPETITIONS = 200


def covered(hits: int) -> bool:
    """Whether this many of the repetitions is plausible for 95 %."""
    return bool(binomtest(hits, REPETITIONS, 0.95).pvalue > 1e-3)


@pytest.mark.parametrize(
    ("seeds", "noise"), [(1, "residuals"), pytest.param(3, "residuals", marks=pytest.mark.slow), (3, "repeats")]
)
def test_profile_intervals_cover_as_often_as_they_say(seeds: int, noise: str) -> None:
    x = np.repeat(PATCHES, seeds)
    truth = {"E": 0.8, "A": 0.016, "b": 1.05}
    hits = dict.fromkeys((*truth, "prediction", "new run"), 0)
    for seed in range(REPETITIONS):
        result = result_of(x, noisy(saturating(x), 0.005, seed), noise=noise)
        for name, value in truth.items():
            hits[name] += result.parameters[name].low <= value <= result.parameters[name].high
        low, high = result.band(0.5)
        hits["prediction"] += low[0] <= saturating(0.5) <= high[0]
        new = saturating(0.5) * np.exp(0.005 * np.random.default_rng(10_000 + seed).standard_normal())
        low, high = result.band(0.5, new_run=True)
        hits["new run"] += low[0] <= new <= high[0]
    assert {name for name, count in hits.items() if not covered(count)} == set()


@pytest.mark.parametrize("kind", ["residual", "profile"])
def test_intervals_cover_at_the_bound_of_the_floor(kind: str) -> None:
    x, hits = np.repeat(PATCHES, 2), {"b": 0, "E": 0}
    for seed in range(REPETITIONS):
        result = result_of(x, noisy(saturating(x, 0.0, 0.3, 0.3), 0.01, seed), intervals=kind, resamples=300)
        hits["b"] += result.parameters["b"].low <= 0.3 <= result.parameters["b"].high
        hits["E"] += result.parameters["E"].low <= 0.0
    # At a bound intervals may cover more often than they say, but not less.
    assert all(binomtest(count, REPETITIONS, 0.95, alternative="less").pvalue > 1e-3 for count in hits.values())


def test_the_residual_bootstrap_covers_with_five_points() -> None:
    hits = 0
    for seed in range(REPETITIONS):
        found = result_of(PATCHES, noisy(saturating(PATCHES), 0.005, seed), intervals="residual", resamples=400)
        hits += found.parameters["b"].low <= 1.05 <= found.parameters["b"].high
    assert covered(hits)


@pytest.mark.parametrize("name", ["E", "A", "b"])
def test_ends_are_where_the_profile_crosses_its_cutoff(name: str) -> None:
    """Against scipy, which holds the parameter and minimises over the others."""
    y = noisy(saturating(PATCHES), 0.005, 9)
    result = result_of(PATCHES, y)
    place = ("E", "A", "b").index(name)
    best = [value.estimate for value in result.parameters.values()]
    cutoff = result.objective * (1 + f.ppf(0.95, 1, 2) / 2)

    def excess(value: float) -> float:
        others = [number for index, number in enumerate(best) if index != place]

        def residuals(free: np.ndarray) -> np.ndarray:
            values = list(free)
            values.insert(place, value)
            return np.log(np.maximum(saturating(PATCHES, *values), 1e-12) / y)

        found = least_squares(residuals, others, x_scale=np.abs(others), xtol=1e-15, ftol=1e-15, gtol=1e-15)
        return float(found.cost - cutoff)

    for end in (result.parameters[name].low, result.parameters[name].high):
        inside, outside = best[place] + 0.99 * (end - best[place]), best[place] + 1.01 * (end - best[place])
        assert brentq(excess, inside, outside, rtol=np.float64(1e-6)) == pytest.approx(end, rel=2e-3)


def test_a_band_contains_every_law_in_the_region() -> None:
    y = noisy(saturating(PATCHES), 0.005, 9)
    result = result_of(PATCHES, y)
    x = np.geomspace(0.5, 32, 20)
    low, high = result.band(x)
    assert np.all((low <= result.predict(x)) & (result.predict(x) <= high))
    wide = result.band(x, new_run=True)
    assert np.all((wide[0] < low) & (high < wide[1]))
    random, inside = np.random.default_rng(0), 0
    cutoff = 2 * result.objective * (1 + f.ppf(0.95, 1, 2) / 2)
    for _ in range(20_000):
        E, A, b = random.uniform(0.7, 0.9), random.uniform(0, 0.06), random.uniform(0.3, 2.5)
        if np.sum(np.log(saturating(PATCHES, E, A, b) / y) ** 2) <= cutoff:
            inside += 1
            curve = saturating(x, E, A, b)
            assert np.all((low * (1 - 1e-3) <= curve) & (curve <= high * (1 + 1e-3)))
    assert inside > 20


def test_intervals_shrink_with_more_seeds() -> None:
    widths = []
    for seeds in (2, 32):
        x = np.repeat(PATCHES, seeds)
        exponent = result_of(x, noisy(saturating(x), 0.01, 1)).parameters["b"]
        widths.append(exponent.high - exponent.low)
    assert widths[0] > 2.5 * widths[1]


@pytest.mark.parametrize("name", ["M3", "shifted", "M4", "broken"])
def test_every_law_has_intervals_around_its_estimates(name: str) -> None:
    x = np.geomspace(1, 1e4, 60)
    truth = 0.2 + 0.7 * (1 + (x / 40) ** 1.2) ** -0.5
    result = result_of(x, noisy(truth, 0.003, 0), name)
    assert set(result.parameters) == set(LAWS[name].names)
    for value in result.parameters.values():
        assert value.low <= value.estimate <= value.high
    low, high = result.band(np.array([3e4]))
    assert low[0] <= result.predict(3e4)[0] <= high[0]
    assert np.all(high / low < 2)


def test_a_floor_that_is_not_identified_is_said_in_words() -> None:
    y = noisy(0.3 * PATCHES**0.3, 0.01, 2)
    result = result_of(PATCHES, y)
    assert result.parameters["E"].low == 0
    assert any(note.startswith("floor not identified by these data: any E from 0 to") for note in result.notes)


def test_a_law_that_bends_otherwise_is_doubted_where_repeats_show_it() -> None:
    x = np.repeat(PATCHES, 2)
    bent = np.exp(-1 + 0.2 * np.log(x) + 0.15 * np.log(x) ** 2)  # a parabola on log-log axes
    y = noisy(bent, 0.005, 0)
    assert any("lack of fit" in note for note in result_of(x, y, "power").notes)
    assert not any("lack of fit" in note for note in result_of(PATCHES, y[::2], "power").notes)  # no repeats
    with pytest.raises(FitError, match="no x has two points"):
        result_of(PATCHES, y[::2], "power", noise="repeats")


def test_a_law_with_as_many_parameters_as_places_is_doubted_however_many_seeds() -> None:
    x = np.repeat(PATCHES, 5)
    y = noisy(saturating(x), 0.005, 0)
    doubt = "3 different x for 3 parameters: that the law passes through them is no evidence for it"
    assert doubt in result_of(x[:15], y[:15]).notes
    assert not any("no evidence" in note for note in result_of(x[:20], y[:20]).notes)


def test_lack_of_fit_is_rarely_claimed_of_the_true_law() -> None:
    x = np.repeat(PATCHES, 2)
    chances = []
    for seed in range(REPETITIONS):
        fitted = result_of(x, noisy(0.3 * x**0.3, 0.01, seed), "power", intervals="none").fitted
        chances.append(lack_of_fit(2 * fitted.objective, fitted.repeats, 2))
    assert kstest(chances, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["residual", "pairs", "profile"])
def test_a_fixed_parameter_is_none_of_the_fit(kind: str) -> None:
    """A saturating law without its floor is the power law, intervals included."""
    y = noisy(0.3 * PATCHES**0.4, 0.05, 1)
    power = result_of(PATCHES, y, "power", intervals=kind, resamples=200)
    fixed = result_of(PATCHES, y, bounds={"E": (0, 0)}, intervals=kind, resamples=200)
    for name in ("A", "b"):
        ends = [(result.parameters[name].low, result.parameters[name].high) for result in (power, fixed)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["pairs", "group"])
def test_resampled_intervals_widen_with_the_clusters(kind: str) -> None:
    """Points of one cluster share an error; resampling whole clusters sees it."""
    from scaling.laws import FitResult, Options, fit_points, gather

    rng = np.random.default_rng(4)
    x = np.tile(np.geomspace(1, 100, 12), 8)
    clusters = np.repeat(np.arange(8), 12)
    y = 2 * x**-0.3 * np.exp(0.1 * rng.standard_normal(8)[clusters] + 0.005 * rng.standard_normal(96))
    points = gather(x, y)
    labels = clusters[np.lexsort((y, x))]
    options = Options(intervals=kind, resamples=400)  # pyright: ignore[reportArgumentType]
    fitted = fit_points(points, "power", options, labels if kind == "group" else None)
    low, high = FitResult(fitted, ("x",), "loss", {}, ()).band(10.0)
    share = float(np.log(high[0] / low[0]))
    assert share > 0.09 if kind == "group" else share < 0.06


def test_a_profile_with_two_minima_is_searched_from_both() -> None:
    """With E = 0 the shifted law fits these points within the cut-off, from a start far from its best fit."""
    x = np.array([0.00696, 0.01417, 0.01818, 0.03081, 0.03999, 0.05371, 0.06623, 0.07437, 0.07443, 0.09128, 0.09378,
                  0.10894, 0.14754, 0.14829, 0.2715])  # fmt: skip
    y = np.array([2.23817, 2.27904, 2.07834, 1.99266, 2.00439, 2.00543, 2.00528, 1.75174, 1.7102, 1.91667, 1.75607,
                  1.85104, 1.75008, 1.8308, 1.73373])  # fmt: skip
    result = result_of(x, y, "shifted")
    without = result_of(x, y, "shifted", intervals="none", bounds={"E": (0, 0)})
    cutoff = result.objective + result.fitted.noise.cutoff * result.fitted.noise.variance / 2
    assert without.objective < cutoff
    assert result.parameters["E"].low == 0


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_intervals_have_the_units_of_the_data(unit: float) -> None:
    y = noisy(0.3 * PATCHES**0.3, 0.01, 2)
    first, scaled = result_of(PATCHES, y), result_of(PATCHES, y * unit)
    assert scaled.parameters["E"].high / unit == pytest.approx(first.parameters["E"].high, rel=1e-3)
    assert scaled.status is first.status
    other = result_of(PATCHES * unit, y, "M3")
    assert other.parameters["c"].high * unit == pytest.approx(
        result_of(PATCHES, y, "M3").parameters["c"].high, rel=1e-2
    )
