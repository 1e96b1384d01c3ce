"""What records say of a surface: its posterior, and draws of it.

    y = log_loss(parameters) + waves w + noise,   w ~ N(0, tau^2),   noise ~ N(0, sigma^2)

The weights w and sigma^2 are integrated out, so the walkers move over the surface's parameters and tau / sigma
alone; both are drawn afterwards. Priors: flat in the floor and the amplitudes, half-normal in the exponents,
half-Cauchy in tau / sigma, and for sigma^2 what repeats of one design say, or an assumption of weight PRIOR_WEIGHT.
Shapes: S scales, N points, B parameter vectors, R draws, F waves.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.laws.law import Array
from scaling.laws.surface.deviations import Waves
from scaling.laws.surface.form import Form
from scaling.laws.surface.sampler import sample

EXPONENT_SCALE = 1.5
OFFSET_SCALE = 0.3  # of logarithms: kinds differ by a third or so
LARGEST_AMPLITUDE = 8.0  # logarithm, against the mean of the data
LARGEST_RATIO = 6.0  # logarithm of tau / sigma
SMALLEST = 1e-12  # eigenvalue per point, the largest being of order one
WALKERS, STEPS = 256, 600
TRIED = 8  # random starts for each walker, of which the best remain


@dataclass(frozen=True)
class Posterior:
    """A surface's density given points (not slotted, for what is cached)."""

    form: Form
    waves: Waves
    coordinates: Array
    """(S, N)."""
    kinds: Array
    """(N,)."""
    y: Array
    """(N,), logarithms, centred."""
    noise: float
    """Expected standard deviation of a point."""
    noise_weight: float
    """Degrees of freedom of that expectation."""

    @cached_property
    def features(self) -> Array:
        """Waves at the points, (N, F)."""
        return self.waves.at(self.coordinates, self.kinds)

    @cached_property
    def _axes(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of the deviations' covariance between points: as many as there are curves."""
        values, vectors = np.linalg.eigh(self.features @ self.features.T)
        some = values > SMALLEST * len(values)
        return values[some], vectors[:, some]

    def _misses(self, values: Array) -> tuple[Array, Array, Array]:
        """Residuals (B, N), their variances along the eigenvectors in sigma^2, and the sum of squares (B,)."""
        eigenvalues, vectors = self._axes
        residuals = self.y - self.form.log_loss(values, self.coordinates, self.kinds)
        variances = np.exp(2 * values[:, -1:]) * eigenvalues + 1
        explained = np.sum((residuals @ vectors) ** 2 * (1 - 1 / variances), axis=1)
        squares = np.sum(residuals**2, axis=1) - explained + self.noise_weight * self.noise**2
        return residuals, variances, squares

    def log_density(self, values: Array) -> Array:
        """Of parameter vectors (B, P), up to a constant: (B,)."""
        amplitude, exponent, offset = (
            self.form.places(*names) for names in (("E", "A", "B"), ("exponent",), ("offset",))
        )
        _, variances, squares = self._misses(values)
        total = -np.log(variances).sum(axis=1) / 2 - (len(self.y) + self.noise_weight) / 2 * np.log(squares)
        amplitudes, ratio = values[:, amplitude], values[:, -1]
        total += amplitudes.sum(axis=1)  # flat in the amplitude itself
        total -= np.sum((values[:, exponent] / EXPONENT_SCALE) ** 2, axis=1) / 2
        total -= np.sum((values[:, offset] / OFFSET_SCALE) ** 2, axis=1) / 2
        total += ratio - np.log1p(np.exp(2 * ratio))
        inside = np.all(amplitudes < LARGEST_AMPLITUDE, axis=1) & (np.abs(ratio) < LARGEST_RATIO)
        return np.where(inside, total, -np.inf)

    def _free_density(self, free: Array) -> Array:
        """Of free coordinates (B, P), in which the walkers move."""
        values, volume = self.form.values(free)
        return self.log_density(values) + volume

    def draw(self, draws: int, generator: np.random.Generator) -> tuple[Array, Array, Array]:
        """Parameters (R, P), weights of the waves (R, F) and sigma (R,)."""
        starts = self._starts(TRIED * WALKERS, generator)
        best = np.argsort(-self.log_density(starts), kind="stable")[:WALKERS]
        free = sample(self._free_density, self.form.free(starts[best]), draws, STEPS, generator)
        values, _ = self.form.values(free)
        residuals, variances, squares = self._misses(values)
        sigma = np.sqrt(squares / generator.chisquare(len(self.y) + self.noise_weight, len(values)))
        tau = np.exp(values[:, -1]) * sigma
        return values, self._weights(residuals, variances, sigma, tau, generator), sigma

    def _weights(
        self, residuals: Array, variances: Array, sigma: Array, tau: Array, generator: np.random.Generator
    ) -> Array:
        """Draws of w given the rest, by conditioning draws of its prior on the residuals (Matheron's rule)."""
        _, vectors = self._axes
        count, size = len(sigma), self.features.shape[1]
        prior = generator.standard_normal((count, size)) * tau[:, None]
        noise = generator.standard_normal((count, len(self.y))) * sigma[:, None]
        missing = residuals - prior @ self.features.T - noise
        missing -= (missing @ vectors * (1 - 1 / variances)) @ vectors.T
        return prior + (tau / sigma)[:, None] ** 2 * (missing @ self.features)

    def _starts(self, count: int, generator: np.random.Generator) -> Array:
        """Random vectors around what data of order one can mean, (count, P)."""
        starts = generator.standard_normal((count, len(self.form.names)))
        places = self.form.places
        starts[:, places("E")] -= 1.0
        starts[:, places("A", "B")] = starts[:, places("A", "B")] * 0.7 - 0.7
        starts[:, places("exponent")] = np.abs(starts[:, places("exponent")]) * 0.7
        starts[:, places("offset")] *= 0.1
        starts[:, -1] += 1.0
        return starts
