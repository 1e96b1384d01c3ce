"""What records say of a surface: its posterior, and draws of it.

    y = log_loss(parameters) + waves w + noise,   w ~ N(0, tau^2),   noise ~ N(0, sigma^2)

The weights w are integrated out, so the walkers move over the surface's parameters, tau and sigma; w is drawn
afterwards. Priors: flat in the floor and the amplitudes, half-normal in exponents and tau, and for sigma^2 what is
expected of a point's noise, with the weight of a few points, since laws miss by more than seeds differ.
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
DEVIATION_SCALE = 0.1  # of logarithms: curves lie a tenth or so off the law
LARGEST_AMPLITUDE = 8.0  # logarithm, against the mean of the data
SMALLEST, LARGEST = -14.0, 2.0  # logarithms of tau and sigma
NEGLIGIBLE = 1e-12  # eigenvalue per point; the largest is of order one
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
    deviations: float = DEVIATION_SCALE
    """Scale of tau."""

    @cached_property
    def features(self) -> Array:
        """Waves at the points, (N, F)."""
        return self.waves.at(self.coordinates, self.kinds)

    @cached_property
    def _axes(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of the deviations' covariance between points: as many as there are curves."""
        values, vectors = np.linalg.eigh(self.features @ self.features.T)
        some = values > NEGLIGIBLE * len(values)
        return values[some], vectors[:, some]

    @cached_property
    def _matrix(self) -> Array:
        return self.form.matrix(self.coordinates, self.kinds)

    @cached_property
    def _prior(self) -> tuple[Array, Array]:
        """Of the logarithm of the prior, what is linear and what is quadratic in the parameters, (P,) each."""
        places = self.form.places
        linear, quadratic = np.zeros(len(self.form.names)), np.zeros(len(self.form.names))
        linear[places("E", "A", "B")] = 1.0  # flat in the amplitude itself
        linear[-2:] = 1.0, -self.noise_weight
        quadratic[places("exponent")] = EXPONENT_SCALE**-2 / 2
        quadratic[places("offset")] = OFFSET_SCALE**-2 / 2
        return linear, quadratic

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        """Beyond which the density is zero, (P,) each."""
        low, high = np.full((2, len(self.form.names)), [[-np.inf], [np.inf]])
        high[self.form.places("E", "A", "B")] = LARGEST_AMPLITUDE
        low[-2:], high[-2:] = SMALLEST, LARGEST
        return low, high

    def _misses(self, values: Array) -> tuple[Array, Array]:
        """Residuals (B, N), and their variances along the eigenvectors, (B, A)."""
        residuals = self.y - self.form.log_loss_at(values, self._matrix)
        squares = np.exp(2 * values[:, -2:])
        return residuals, squares[:, :1] * self._axes[0] + squares[:, 1:]

    def _log_likelihood(self, values: Array) -> Array:
        """Of the points, the weights integrated out, (B,)."""
        residuals, variances = self._misses(values)
        others = len(self.y) - variances.shape[1]  # directions in which no deviations lie
        along, precision = (residuals @ self._axes[1]) ** 2, np.exp(-2 * values[:, -1])
        squares = np.einsum("bn,bn->b", residuals, residuals) * precision
        squares -= np.einsum("ba,ba->b", along, precision[:, None] - 1 / variances)
        return -(np.log(variances).sum(axis=1) + 2 * others * values[:, -1] + squares) / 2

    def log_density(self, values: Array) -> Array:
        """Of parameter vectors (B, P), up to a constant: (B,)."""
        low, high = self._bounds
        inside = np.all((values > low) & (values < high), axis=1)
        if not inside.all():
            values = np.where(inside[:, None], values, 0.0)  # what is impossible anyway overflows nowhere
        linear, quadratic = self._prior
        squares = np.exp(2 * values[:, -2:])
        total = self._log_likelihood(values) + values @ linear - values**2 @ quadratic
        total -= squares[:, 0] / (2 * self.deviations**2) + self.noise_weight * self.noise**2 / 2 / squares[:, 1]
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
        return values, self._weights(values, generator), np.exp(values[:, -1])

    def _weights(self, values: Array, generator: np.random.Generator) -> Array:
        """Draws of w given the rest, by conditioning draws of its prior on the residuals (Matheron's rule)."""
        residuals, variances = self._misses(values)
        tau, sigma = np.exp(values[:, -2:-1]), np.exp(values[:, -1:])
        _, vectors = self._axes
        prior = generator.standard_normal((len(values), self.features.shape[1])) * tau
        noise = generator.standard_normal((len(values), len(self.y))) * sigma
        missing = residuals - prior @ self.features.T - noise
        missing -= (missing @ vectors * (1 - sigma**2 / variances)) @ vectors.T
        return prior + (tau / sigma) ** 2 * (missing @ self.features)

    def _starts(self, count: int, generator: np.random.Generator) -> Array:
        """Random vectors around what data of order one can mean, (count, P)."""
        starts = generator.standard_normal((count, len(self.form.names)))
        places = self.form.places
        starts[:, places("E")] -= 1.0
        starts[:, places("A", "B")] = starts[:, places("A", "B")] * 0.7 - 0.7
        starts[:, places("exponent")] = np.abs(starts[:, places("exponent")]) * 0.7
        starts[:, places("offset")] *= 0.1
        starts[:, -2:] = starts[:, -2:] / 2 - 3.0
        return starts
