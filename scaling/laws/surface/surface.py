"""`fit_surface`: outcomes over model size, patch, input and data at once, as draws of a law with its deviations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array
from scaling.laws.points import FitError
from scaling.laws.surface.deviations import Waves
from scaling.laws.surface.form import Form
from scaling.laws.surface.posterior import DEVIATION_SCALE, WALKERS, Posterior

SCALES = {"parameters": -1, "input": -1, "data": -1, "patch": 1}
"""Scales of a surface in their order, and the sign with which more of each is worse."""
SYMBOLS = {"parameters": "N", "input": "R", "data": "D", "patch": "p"}
DRAWS = 4 * WALKERS
FEWEST_SPARE = 2  # points beyond the floor, amplitudes and exponents of the scales that vary


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Designs as a surface sees them. Shapes: N places."""

    scales: dict[str, Array]
    """By name of `SCALES`, (N,) positive."""
    kinds: Array
    """(N,) of int: which architecture and head."""

    def __len__(self) -> int:
        return len(self.kinds)

    def chosen(self, which: Array | slice) -> "Places":
        """Some of them, by index, mask or slice."""
        return Places({name: values[which] for name, values in self.scales.items()}, self.kinds[which])


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Draws of a fitted surface. Shapes: R draws, N places, S scales, P parameters, F waves."""

    form: Form
    names: tuple[str, ...]
    """Of the scales that vary, in the order of `SCALES`."""
    centre: Array
    """(S,), means of the signed logarithms of the scales."""
    level: float
    """Mean of y."""
    values: Array
    """(R, P)."""
    waves: Waves
    weights: Array
    """(R, F)."""
    sigma: Array
    """(R,), standard deviation of a point around the surface and its deviations."""

    @property
    def draws(self) -> int:
        """R."""
        return len(self.values)

    @property
    def deviations(self) -> Array:
        """(R,), standard deviation of curves around the law, of logarithms."""
        return np.exp(self.values[:, -2])

    def log_losses(self, places: Places, draws: slice = slice(None)) -> Array:
        """Draws (R, N) of y: the logarithm of a loss, or of the odds of an error; without the noise of one run.

        In single precision, whose 1e-7 is far below any noise, and which halves the time of large spaces.
        """
        coordinates = self._coordinates(places).astype(np.float32)
        waves = self.waves.at(coordinates, places.kinds)
        found = self.form.log_loss(self.values[draws], coordinates, places.kinds)
        found += self.weights[draws].astype(np.float32) @ waves.T
        found += np.float32(self.level)
        return found

    def exponents(self) -> dict[str, Array]:
        """Draws (R,) of each scale's exponent in the last term, by its symbol."""
        _, second = self.form.exponents(self.values)
        return {SYMBOLS[name]: second[:, place] for place, name in enumerate(self.names)}

    @property
    def formula(self) -> str:
        """Of the law, such as 'E + A N^-a R^-c + B N^-b R^-d p^beta'."""
        others = [SYMBOLS[name] for name in self.names[:-1]]
        last = SYMBOLS[self.names[-1]]
        sign = "" if SCALES[self.names[-1]] > 0 else "-"
        first = " ".join(f"{symbol}^-a{place}" for place, symbol in enumerate(others, 1))
        second = " ".join(f"{symbol}^-b{place}" for place, symbol in enumerate(others, 1))
        terms = [f"A {first}"] if others else []
        return " + ".join(["E", *terms, " ".join(["B", *([second] if second else []), f"{last}^{sign}beta"])])

    def _coordinates(self, places: Places) -> Array:
        return _signed(places, self.names) - self.centre[:, None]


def fit_surface(
    places: Places,
    y: Array,
    noise: float,
    noise_weight: float,
    kinds: int,
    draws: int = DRAWS,
    seed: int = 0,
    deviations: float = DEVIATION_SCALE,
) -> Surface:
    """Draw surfaces that agree with points.

    Args:
        places: of N designs, each once.
        y: (N,), logarithms of losses, or of the odds of errors: means over seeds.
        noise: expected standard deviation of such a mean.
        noise_weight: degrees of freedom of that expectation.
        kinds: architectures and heads that `places` tells apart.
        draws: rounded up to a multiple of the walkers.
        seed: of the draws.
        deviations: by how much curves are expected to lie off the law, of logarithms.

    Raises:
        FitError: if no scale varies, or there are too few points for those that do.
    """
    names = varying(places)
    if not names:
        raise FitError(
            "all records are at one model size, patch size and input size; there is no law along any of them"
        )
    form = Form(len(names), kinds)
    needed = 2 + len(names) + FEWEST_SPARE
    if len(y) < needed:
        raise FitError(
            f"{len(y)} designs with a result cannot carry a law over {' and '.join(names)}: at least {needed}"
        )
    signed = _signed(places, names)
    centre, level = signed.mean(axis=1), float(np.mean(y))
    generator = np.random.default_rng(seed)
    waves = Waves.spread(names[:-1], kinds)
    posterior = Posterior(
        form, waves, signed - centre[:, None], places.kinds, np.asarray(y) - level, noise, noise_weight, deviations
    )
    rounded = -(-draws // WALKERS) * WALKERS
    values, weights, sigma = posterior.draw(rounded, generator)
    return Surface(form, names, centre, level, values, waves, weights, sigma)


def varying(places: Places) -> tuple[str, ...]:
    """Scales of which some kind has two values, in the order of `SCALES`."""
    return tuple(name for name in SCALES if name in places.scales and _varies(places.scales[name], places.kinds))


def _varies(values: Array, kinds: Array) -> bool:
    return any(len(np.unique(values[kinds == kind])) > 1 for kind in np.unique(kinds))


def _signed(places: Places, names: Sequence[str]) -> Array:
    """(S, N), logarithms of the scales, signed so that more is worse."""
    return np.stack([SCALES[name] * np.log(places.scales[name]) for name in names])
