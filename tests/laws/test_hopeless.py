"""The rule that finds cells which cannot matter: on curves whose end is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scaling.laws import forecast_loss
from scaling.laws.hopeless import MARGIN, MOST, Rival, beaten, final_loss, find_hopeless, margin_of, thinned
from scaling.laws.learning import LossForecast

FINAL = 50_000.0


def curve(seed: int, floor: float, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    images = np.linspace(1000, FINAL, 50)
    noise = np.random.default_rng(seed).standard_normal(50)
    return images, (floor + 1.5 * (1 + images / 800) ** -exponent) * np.exp(0.02 * noise)


def rival(*losses: float, flops: float = 1.0) -> Rival:
    return Rival("other", flops, losses)


def forecast(low: float, share: float = 0.6) -> LossForecast:
    return LossForecast("cell", share * FINAL, FINAL, 2 * low, 1.1 * low, low, 1.3 * low, None)


@pytest.mark.parametrize(("seed", "floor", "exponent"), [(0, 0.2, 0.6), (1, 0.5, 0.9), (2, 0.05, 0.4), (3, 0.0, 0.5)])
def test_a_cell_that_ends_below_a_rival_is_not_stopped_and_one_far_above_is(
    seed: int, floor: float, exponent: float
) -> None:
    images, losses = curve(seed, floor, exponent)
    end = final_loss(images, losses, FINAL)
    for share in (0.5, 0.8):
        seen = images <= share * FINAL
        some = images[seen], losses[seen], FINAL
        assert find_hopeless("cell", *some, 1.0, [rival(end)]) is None
        found = find_hopeless("cell", *some, 1.0, [rival(0.3 * end)])
        assert found is not None
        assert found.forecast.low > 0.3 * end
        assert "other ended at" in str(found)


def test_the_curve_and_its_forecast_are_judged_alike() -> None:
    images, losses = curve(0, 0.2, 0.6)
    seen = images <= 0.6 * FINAL
    known = forecast_loss("cell", images[seen], losses[seen], FINAL)
    bar = known.low / math.exp(MARGIN)
    for factor, stopped in ((0.999, True), (1.001, False)):
        rivals = [rival(factor * bar)]
        assert (beaten(known, 1.0, rivals) is not None) == stopped
        assert (find_hopeless("cell", images[seen], losses[seen], FINAL, 1.0, rivals) is not None) == stopped


def test_a_better_rival_stops_no_fewer_cells() -> None:
    stopped = [beaten(forecast(0.5), 1.0, [rival(loss)]) is not None for loss in np.linspace(0.3, 0.7, 41)]
    assert stopped == sorted(stopped, reverse=True)
    assert any(stopped)
    assert not all(stopped)


def test_only_what_costs_no_more_and_is_better_with_every_seed_can_beat() -> None:
    assert beaten(forecast(0.5), 1.0, [rival(0.3)])
    assert beaten(forecast(0.5), 1.0, [rival(0.3, flops=1.1)]) is None
    assert beaten(forecast(0.5), 1.0, [rival(0.3, 0.6)]) is None
    assert beaten(forecast(0.5), 1.0, []) is None
    assert beaten(forecast(0.5), 1.0, [rival(math.nan)]) is None
    found = beaten(forecast(0.5), 1.0, [rival(0.4), replace(rival(0.3), design="best")])
    assert found is not None
    assert found.rival.design == "best"


def test_nothing_is_judged_in_the_first_half_or_below_the_rival_already() -> None:
    assert beaten(forecast(0.5, share=0.5), 1.0, [rival(0.3)])
    assert beaten(forecast(0.5, share=0.49), 1.0, [rival(0.3)]) is None
    assert beaten(replace(forecast(0.5), loss_now=0.3), 1.0, [rival(0.3)]) is None
    images, losses = curve(0, 0.2, 0.6)
    assert find_hopeless("cell", images[:24], losses[:24], FINAL, 1.0, [rival(0.01)]) is None
    few = slice(0, 50, 5)
    assert find_hopeless("cell", images[few], losses[few], FINAL, 1.0, [rival(0.01)]) is None  # too few for the law
    assert find_hopeless("cell", images[:0], losses[:0], FINAL, 1.0, [rival(0.01)]) is None


def test_seeds_that_scatter_widen_the_margin() -> None:
    assert margin_of([]) == margin_of([(0.3,), (0.4,)]) == MARGIN
    assert margin_of([(0.3, 0.3), (0.4, 0.4)]) == MARGIN
    spread = 0.1  # between two seeds of one design, which is sqrt(2) standard deviations
    assert margin_of([(0.3, 0.3 * math.exp(spread))]) == pytest.approx(2 * spread)
    assert beaten(forecast(0.5), 1.0, [rival(0.44, 0.44)])
    assert beaten(forecast(0.5), 1.0, [rival(0.44, 0.44), rival(0.6, 0.6 * math.exp(spread), flops=9.0)]) is None


def test_a_long_curve_is_thinned_by_means_that_keep_its_end_and_its_total() -> None:
    images, losses = np.arange(1.0, 1018.0), np.random.default_rng(0).random(1017)
    fewer, means = thinned(images, losses)
    assert len(fewer) == len(means) == MOST
    assert fewer[-1] == images[-1]
    counts = np.diff(np.concatenate([[0], fewer]))
    assert set(counts) == {5, 6}
    assert float(counts @ means) == pytest.approx(losses.sum())
    assert np.array_equal(thinned(images[:MOST], losses[:MOST])[1], losses[:MOST])
