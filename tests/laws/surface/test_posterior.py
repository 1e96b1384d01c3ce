"""The posterior against its textbook forms, computed another way."""

import math

import numpy as np
import pytest
from scipy.stats import halfnorm, invgamma, multivariate_normal, norm

from scaling.laws.surface.deviations import WAVES, Waves
from scaling.laws.surface.form import Form
from scaling.laws.surface.posterior import DEVIATION_SCALE, EXPONENT_SCALE, OFFSET_SCALE, Posterior
from tests.laws.surface.simulated import Places, grid

Array = np.ndarray
NOISE, FREEDOM, KINDS = 0.02, 5, 2


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    generator = np.random.default_rng(0)
    places = grid(KINDS)
    coordinates = _coordinates(places)
    waves = Waves.spread(("parameters", "input"), KINDS)
    y = 0.2 * coordinates[0] + 0.3 * coordinates[2] + 0.05 * generator.standard_normal(len(places))
    return Posterior(Form(3, KINDS), waves, coordinates, places.kinds, y, NOISE, FREEDOM)


def _coordinates(places: Places) -> Array:
    signed = np.stack([sign * np.log(places.scales[name]) for name, sign in _SIGNS.items()])
    return signed - signed.mean(axis=1)[:, None]


_SIGNS = {"parameters": -1, "input": -1, "patch": 1}


def vectors(form: Form, count: int) -> Array:
    """Parameter vectors within reach."""
    generator = np.random.default_rng(3)
    values = 0.5 * generator.standard_normal((count, len(form.names)))
    values[:, form.places("exponent")] = np.abs(values[:, form.places("exponent")])
    values[:, -2:] -= 3
    return values


def loop_loss(form: Form, vector: Array, coordinates: Array, kinds: Array) -> list[float]:
    """The law, point by point, from the layout that `Form` documents."""
    others = form.scales - 1
    floor, left = float(vector[0]), list(vector[1:])
    first = [left.pop(0) for _ in range(1 + others)] if others else []
    second = [left.pop(0) for _ in range(1 + form.scales)]
    offsets = [[0.0, *(left.pop(0) for _ in range(form.kinds - 1))] for _ in range(form.terms)]
    found = []
    for point, kind in zip(coordinates.T, kinds, strict=True):
        loss = math.exp(floor)
        if others:
            loss += math.exp(first[0] + offsets[0][kind] + sum(a * x for a, x in zip(first[1:], point, strict=False)))
        loss += math.exp(second[0] + offsets[-1][kind] + sum(b * x for b, x in zip(second[1:], point, strict=True)))
        found.append(math.log(loss))
    return found


@pytest.mark.parametrize(("scales", "kinds"), [(1, 1), (2, 3), (3, 2), (4, 1)])
def test_free_coordinates_go_there_and_back_and_know_their_volume(scales: int, kinds: int) -> None:
    form = Form(scales, kinds)
    values = vectors(form, 4)
    free = form.free(values)
    back, volume = form.values(free)
    np.testing.assert_allclose(back, values)
    step = 1e-6 * np.eye(free.shape[1])
    for point, expected in zip(free, volume, strict=True):
        slopes = (form.values(point + step)[0] - form.values(point - step)[0]) / 2e-6
        assert np.linalg.slogdet(slopes)[1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_the_form_is_the_sum_that_it_says(scales: int, kinds: int) -> None:
    form, generator = Form(scales, kinds), np.random.default_rng(scales)
    coordinates, which = generator.standard_normal((scales, 12)), np.arange(12) % kinds
    values = vectors(form, 5)
    expected = [loop_loss(form, vector, coordinates, which) for vector in values]
    np.testing.assert_allclose(form.log_loss(values, coordinates, which), expected, rtol=1e-10)


def test_the_density_is_that_of_a_normal_times_the_priors(posterior: Posterior) -> None:
    """With every covariance written out: N x N, one for each vector."""
    form, values = posterior.form, vectors(posterior.form, 6)
    expected = []
    for vector in values:
        mean = loop_loss(form, vector, posterior.coordinates, posterior.kinds)
        tau, sigma = np.exp(vector[-2:])
        covariance = tau**2 * posterior.features @ posterior.features.T + sigma**2 * np.eye(len(posterior.y))
        total = multivariate_normal.logpdf(posterior.y, mean, covariance)
        total += vector[form.places("E", "A", "B")].sum()  # the amplitude's own density is flat
        total += halfnorm.logpdf(vector[form.places("exponent")], scale=EXPONENT_SCALE).sum()
        total += norm.logpdf(vector[form.places("offset")], scale=OFFSET_SCALE).sum()
        total += halfnorm.logpdf(tau, scale=DEVIATION_SCALE) + np.log(tau)
        total += invgamma.logpdf(sigma**2, FREEDOM / 2, scale=FREEDOM * NOISE**2 / 2) + np.log(sigma**2)
        expected.append(total)
    found = posterior.log_density(values)
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=1e-8, atol=1e-7)


def test_nothing_is_possible_beyond_the_bounds(posterior: Posterior) -> None:
    values = vectors(posterior.form, 3)
    values[0, 0], values[1, -1], values[2, -2] = 9.0, 3.0, -15.0
    assert np.isneginf(posterior.log_density(values)).all()


def test_the_weights_are_those_of_a_gaussian_process(posterior: Posterior) -> None:
    """Draws at fixed parameters against the conditional mean and covariance at places that were not seen."""
    count = 40_000
    generator = np.random.default_rng(5)
    values = np.repeat(vectors(posterior.form, 1), count, axis=0)
    sigma, tau = NOISE, 2 * NOISE
    values[:, -2:] = np.log([tau, sigma])
    weights = posterior._weights(values, generator)
    assert weights.shape == (count, WAVES)
    probes = posterior.waves.at(posterior.coordinates[:, :4] + 0.3, posterior.kinds[:4])
    found = weights @ probes.T

    seen = tau**2 * posterior.features @ posterior.features.T + sigma**2 * np.eye(len(posterior.y))
    across = tau**2 * probes @ posterior.features.T
    misses = posterior.y - posterior.form.log_loss(values[:1], posterior.coordinates, posterior.kinds)[0]
    mean = across @ np.linalg.solve(seen, misses)
    covariance = tau**2 * probes @ probes.T - across @ np.linalg.solve(seen, across.T)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found.mean(axis=0) - mean) / spread, 0, atol=5 / np.sqrt(count))
    np.testing.assert_allclose(
        np.cov(found.T) / np.outer(spread, spread), covariance / np.outer(spread, spread), atol=0.04
    )


def test_draws_are_of_the_noise_that_the_points_show() -> None:
    """sigma of draws, where deviations cannot hide noise: that of the scaled inverse chi-square."""
    generator = np.random.default_rng(2)
    places = grid(1, 6)
    coordinates = _coordinates(places)
    y = np.log(0.5 + 0.5 * np.exp(0.8 * coordinates[2])) + 0.02 * generator.standard_normal(len(places))
    waves = Waves.spread(("parameters", "input"), 1)
    values, _, sigma = Posterior(Form(3, 1), waves, coordinates, places.kinds, y - y.mean(), 0.02, 1e6).draw(
        512, generator
    )
    np.testing.assert_allclose(sigma, 0.02, rtol=0.01)
    assert (values[:, Form(3, 1).places("exponent")] >= 0).all()


def test_waves_have_the_covariance_of_their_kernel() -> None:
    """A squared exponential; kinds are one reach apart each way."""
    places = grid(KINDS, 5)
    coordinates = _coordinates(places)
    features = Waves.spread(("parameters", "input"), KINDS).at(coordinates, places.kinds)
    scaled = coordinates[:2] / np.log([[4], [2]])
    squares = ((scaled[:, :, None] - scaled[:, None]) ** 2).sum(axis=0)
    squares += 2 * (places.kinds[:, None] != places.kinds)
    misses = features @ features.T - np.exp(-squares / 2)
    assert np.sqrt((misses**2).mean()) < 0.05
    assert np.abs(misses).max() < 0.16
