"""How far whole curves lie off the surface: a smooth random function of kind, model size, input and data.

A Gaussian process as a sum of F random waves (Rahimi and Recht 2007), so that one draw of it is a vector of
weights and a million designs are one matrix product. It does not vary with the patch: a curve along the patch
keeps its shape and moves as a whole. Shapes: S scales, N places, F waves.
"""

from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array

WAVES = 64  # cosines and sines together
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
    def drawn(cls, others: tuple[str, ...], kinds: int, generator: np.random.Generator) -> "Waves":
        """Waves of a squared-exponential kernel; two kinds are as far apart as one reach."""
        reach = np.array([REACH[name] for name in others])
        frequencies = generator.standard_normal((len(others), WAVES // 2)) / reach[:, None]
        return cls(frequencies, generator.standard_normal((kinds, WAVES // 2)))

    def at(self, coordinates: Array, kinds: Array) -> Array:
        """(N, F), whose rows have length one."""
        phase = coordinates[: len(self.of_scales)].T @ self.of_scales + self.of_kinds[kinds]
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(WAVES / 2)
