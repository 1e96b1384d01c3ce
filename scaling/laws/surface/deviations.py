"""How far whole curves lie off the surface: a smooth random function of kind, model size, input and data.

A Gaussian process as a sum of F random waves (Rahimi and Recht 2007), so that one draw of it is a vector of
weights and a million designs are one matrix product. The frequencies fill their normal distribution evenly, so that
no draw of theirs decides how alike two curves are. It does not vary with the patch: a curve along the patch
keeps its shape and moves as a whole. Shapes: S scales, N places, F waves.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from scaling.laws.law import Array

WAVES = 128  # cosines and sines together
REACH = {"parameters": np.log(4), "input": np.log(2), "data": np.log(4)}
"""Over which factor of a scale deviations stay alike."""


@dataclass(frozen=True, slots=True)
class Waves:
    """Frequencies of the random waves, over the scales but the last and over kinds."""

    of_scales: Array
    """(S - 1, F / 2)."""
    of_kinds: Array
    """(C, F / 2), phases."""

    @classmethod
    def spread(cls, others: tuple[str, ...], kinds: int) -> "Waves":
        """Waves of a squared-exponential kernel; two kinds are as far apart as one reach each way."""
        reach = np.array([REACH[name] for name in others])
        found = _normal_points(WAVES // 2, len(others) + kinds).T
        return cls(found[: len(others)] / reach[:, None], found[len(others) :])

    def at(self, coordinates: Array, kinds: Array) -> Array:
        """(N, F), whose rows have length one; as precise as the coordinates are."""
        frequencies, phases = (each.astype(coordinates.dtype) for each in (self.of_scales, self.of_kinds))
        phase = coordinates[: len(frequencies)].T @ frequencies + phases[kinds]
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / math.sqrt(WAVES / 2)


def _normal_points(count: int, size: int) -> Array:
    """Evenly spread over a standard normal, (count, size): an additive recurrence (Roberts 2018)."""
    root = 2.0
    for _ in range(50):  # the largest root of x^(size + 1) = x + 1
        root = (1 + root) ** (1 / (size + 1))
    shares = (0.5 + np.arange(1, count + 1)[:, None] / root ** np.arange(1, size + 1)) % 1
    quantile = NormalDist().inv_cdf  # far quicker to import than scipy
    return np.array([[quantile(share) for share in row] for row in shares.tolist()]).reshape(count, size)
