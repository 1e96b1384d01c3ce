"""Surfaces as a whole: what changes them and what does not, and whether their intervals cover."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from scaling.laws import FitError
from scaling.laws.surface import DRAWS, Places, Surface, fit_surface, varying
from tests.laws.surface.simulated import SIDES, Array, drawn_truth, grid, joined, places_of

NOISE = 0.01
ALIKE = 0.5
"""Posterior standard deviations by which medians of two sets of draws may differ where most; 0.05 is usual."""


def fitted(places: Places, y: Array, seed: int = 0, noise: float = NOISE) -> Surface:
    return fit_surface(places, y, noise, 4.0, int(places.kinds.max()) + 1, seed=seed)


@pytest.fixture(scope="module")
def places() -> Places:
    return grid(kinds=2)


@pytest.fixture(scope="module")
def y(places: Places) -> Array:
    generator = np.random.default_rng(4)
    truth = drawn_truth(generator, kinds=2, deviation=0.01).log_loss(places, generator)
    return truth + NOISE * generator.standard_normal(len(places))


@pytest.fixture(scope="module")
def surface(places: Places, y: Array) -> Surface:
    return fitted(places, y)


def unseen(places: Places) -> Places:
    """Half the patch, and twice the model."""
    scales = {**places.scales, "patch": places.scales["patch"] / 2, "parameters": 2 * places.scales["parameters"]}
    return Places(scales, places.kinds)


def assert_alike(one: Array, other: Array) -> None:
    """Draws (R, N) of the same distribution, within Monte-Carlo error: by quantiles, for the tails are heavy."""
    low, middle, high = np.quantile(one, (0.16, 0.5, 0.84), axis=0)
    lower, centre, higher = np.quantile(other, (0.16, 0.5, 0.84), axis=0)
    spread = (high - low) / 2
    np.testing.assert_allclose((centre - middle) / spread, 0, atol=ALIKE)
    np.testing.assert_allclose(np.log((higher - lower) / (high - low)), 0, atol=np.log(1.4))


def test_the_same_seed_draws_the_same(places: Places, y: Array, surface: Surface) -> None:
    same = fitted(places, y)
    np.testing.assert_array_equal(same.log_losses(places), surface.log_losses(places))
    assert surface.draws == DRAWS
    other = fitted(places, y, seed=1)
    assert (other.values != surface.values).any()
    assert_alike(surface.log_losses(places), other.log_losses(places))


def test_units_change_nothing(places: Places, y: Array, surface: Surface) -> None:
    """N in millions, R in patches' units: the same draws, but for rounding."""
    factors = {"parameters": 1e-6, "input": 1 / 16, "patch": 25.4}
    scaled = Places({name: values * factors[name] for name, values in places.scales.items()}, places.kinds)
    far = unseen(places)
    scaled_far = Places({name: values * factors[name] for name, values in far.scales.items()}, far.kinds)
    # The phases of the waves follow the coordinates, which are centred: nothing is left of a unit.
    assert_alike(surface.log_losses(far), fitted(scaled, y).log_losses(scaled_far))


def test_a_common_factor_of_the_loss_changes_the_level_alone(places: Places, y: Array, surface: Surface) -> None:
    other = fitted(places, y + np.log(7))
    assert other.level - surface.level == pytest.approx(np.log(7))
    assert_alike(surface.log_losses(unseen(places)), other.log_losses(unseen(places)) - np.log(7))


def test_order_and_names_of_kinds_change_nothing(places: Places, y: Array, surface: Surface) -> None:
    order = np.random.default_rng(0).permutation(len(places))
    shuffled = places.chosen(order)
    renamed = Places(shuffled.scales, 1 - shuffled.kinds)
    far = unseen(places)
    found = fitted(renamed, y[order]).log_losses(Places(far.scales, 1 - far.kinds))
    assert_alike(surface.log_losses(far), found)


def test_a_smaller_patch_is_never_worse(surface: Surface, places: Places) -> None:
    """In every draw, since exponents are not negative and deviations do not vary with the patch."""
    smaller = Places({**places.scales, "patch": places.scales["patch"] / 4}, places.kinds)
    assert (surface.log_losses(smaller) <= surface.log_losses(places) + 1e-5).all()
    assert all((values >= 0).all() for values in surface.exponents().values())


def test_points_without_noise_are_met() -> None:
    places = grid(sizes=4)
    truth = replace(drawn_truth(np.random.default_rng(2)), deviation=0.0).log_loss(places, np.random.default_rng(0))
    found = fitted(places, truth, noise=1e-4).log_losses(places)
    assert np.abs(np.median(found, axis=0) - truth).max() < 2e-3


def test_scales_that_do_not_vary_are_left_out(places: Places, y: Array) -> None:
    one = places.chosen((places.scales["input"] == SIDES[0]) & (places.kinds == 0))
    kept = (places.scales["input"] == SIDES[0]) & (places.kinds == 0)
    assert varying(one) == ("parameters", "patch")
    found = fitted(one, y[kept])
    assert found.formula == "E + A N^-a1 + B N^-b1 p^beta"
    assert set(found.exponents()) == {"N", "p"}


def test_too_few_points_are_refused(places: Places, y: Array) -> None:
    few = np.array([0, 1, 3, 4, 7, 8])
    with pytest.raises(FitError, match=r"6 designs .* parameters and input and patch: at least 7"):
        fitted(places.chosen(few), y[few])


def test_designs_that_are_all_alike_are_refused() -> None:
    with pytest.raises(FitError, match="no law along any of them"):
        fitted(places_of([(0, 1e7, 224.0, 16.0)] * 8), np.zeros(8))


def _hits(worlds: range, sizes: int, deviates: bool) -> dict[tuple[str, float], tuple[int, int]]:
    """Hits and tries of intervals of one new training at a place, inside the data and beyond, by their width."""
    found: dict[tuple[str, float], tuple[int, int]] = {}
    for seed in worlds:
        generator = np.random.default_rng([seed, sizes, deviates])
        noise = generator.uniform(0.005, 0.03)
        seen = grid(kinds=1 + seed % 2, sizes=sizes)
        some = generator.permutation(len(seen))[: generator.integers(12, len(seen) + 1)]
        inside = [(0, size, 160.0, patch) for size in (1e7, 2e7, 4e7) for patch in (6.0, 11.0)]
        asked = places_of([*inside, (0, 6e6 * 3.6 ** (sizes - 1) * 2, 288.0, 2.0)])
        truth = drawn_truth(generator, 1 + seed % 2, generator.uniform(0, 0.05) * deviates)
        values = truth.log_loss(joined(seen, asked), generator)
        y = values[: len(seen)] + noise * generator.standard_normal(len(seen))
        surface = fitted(seen.chosen(some), y[some], seed, noise)
        draws = surface.log_losses(asked) + surface.sigma[:, None] * generator.standard_normal(
            (surface.draws, len(asked))
        )
        new = values[len(seen) :] + noise * generator.standard_normal(len(asked))
        for width in (0.95, 0.5):
            low, high = np.quantile(draws, ((1 - width) / 2, (1 + width) / 2), axis=0)
            hit = (low <= new) & (new <= high)
            for where, part in (("inside", hit[:-1]), ("beyond", hit[-1:])):
                hits, tries = found.get((where, width), (0, 0))
                found[where, width] = hits + int(part.sum()), tries + len(part)
    return found


def _assert_covers(found: dict[tuple[str, float], tuple[int, int]], slack: float) -> None:
    """Within the bounds of a binomial, or a little wider than stated: priors are not those of the worlds."""
    for (where, width), (hits, tries) in found.items():
        low = binom.ppf(0.001, tries, width) / tries
        high = binom.ppf(0.999, tries, width) / tries
        assert low <= hits / tries <= high + slack, (where, width, hits, tries)


def test_intervals_cover() -> None:
    _assert_covers(_hits(range(16), 3, deviates=True), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [3, 6])
@pytest.mark.parametrize("deviates", [False, True])
def test_intervals_cover_in_many_worlds(sizes: int, deviates: bool) -> None:
    """12 to 18, or 36 designs of each of one or two kinds."""
    _assert_covers(_hits(range(100), sizes, deviates), 0.1)
