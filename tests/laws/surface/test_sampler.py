"""The sampler against densities whose moments are known."""

import numpy as np
import pytest
from scipy.stats import halfnorm, norm

from scaling.laws.surface.sampler import sample

Array = np.ndarray
WALKERS, STEPS, DRAWS = 256, 600, 256 * 20
SCALES = np.array([1.0, 10.0, 0.01, 3.0])  # of orders that no fixed step suits
CORRELATION = np.array([[1, 0.95, -0.3, 0.5], [0.95, 1, -0.3, 0.5], [-0.3, -0.3, 1, 0.2], [0.5, 0.5, 0.2, 1]])
COVARIANCE = CORRELATION * np.outer(SCALES, SCALES)
MEAN = np.array([5.0, -20.0, 0.0, 1.0])
HALF = 0.7  # scale of the half-normal parameter, which walkers see through its logarithm


def log_density(values: Array) -> Array:
    """A correlated normal, and the logarithm of a half-normal parameter on its own."""
    misses, last = values[:, :-1] - MEAN, values[:, -1]
    return -np.sum(misses @ np.linalg.inv(COVARIANCE) * misses, axis=1) / 2 - np.exp(2 * last) / HALF**2 / 2 + last


@pytest.fixture(scope="module")
def draws() -> Array:
    generator = np.random.default_rng(0)
    start = generator.standard_normal((WALKERS, 5))  # many deviations away, and too wide
    found = sample(log_density, start, DRAWS, STEPS, generator)
    found[:, -1] = np.exp(found[:, -1])
    return found


def test_means_and_covariances(draws: Array) -> None:
    misses = (draws[:, :-1].mean(axis=0) - MEAN) / SCALES
    assert np.abs(misses).max() < 0.06
    found = np.cov(draws[:, :-1].T) / np.outer(SCALES, SCALES)
    np.testing.assert_allclose(found, CORRELATION, atol=0.06)


@pytest.mark.parametrize("level", [0.025, 0.25, 0.5, 0.75, 0.975])
def test_quantiles(draws: Array, level: float) -> None:
    expected = norm.ppf(level, MEAN, SCALES)
    shares = (draws[:, :-1] < expected).mean(axis=0)
    folded = (draws[:, -1] < halfnorm.ppf(level, scale=HALF)).mean()
    error = 4 * np.sqrt(level * (1 - level) / (DRAWS / 6))  # draws that are worth a sixth of independent ones
    np.testing.assert_allclose([*shares, folded], level, atol=error)


def test_two_modes_are_both_held() -> None:
    """Whole differences carry walkers from one mode to the other; their shares are those of the density."""

    def two(values: Array) -> Array:
        squares = [np.log(weight) - ((values - at) ** 2).sum(axis=1) / 2 for weight, at in ((0.7, -6.0), (0.3, 6.0))]
        return np.logaddexp(*squares)

    generator = np.random.default_rng(1)
    start = 6 * np.sign(generator.standard_normal((WALKERS, 1))) + generator.standard_normal((WALKERS, 2))
    found = sample(two, start, DRAWS, STEPS, generator)
    assert (found[:, 0] < 0).mean() == pytest.approx(0.7, abs=0.06)


def test_the_seed_decides() -> None:
    start = np.random.default_rng(0).standard_normal((64, 5))
    one, same, other = (sample(log_density, start, 128, 30, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(one) == 128
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
