"""The form of a loss surface: a floor, what the other scales leave, and what the patch adds to it.

    loss = E + A prod_i x_i^-a_i + B prod_i x_i^-b_i p^beta

The first product is over all scales but the last (model size, input, data), the second over all of them, the last
being the patch where patches vary. With a_i and b_i free it holds the laws of `joint.py` as special cases: additive
(b_i = 0), multiplicative (A = 0) and what lies between, where a larger model gains less from a smaller patch.
Each kind of design (architecture and head) multiplies A and B by its own factors; exponents are shared.

Shapes: S scales, N places, B parameter vectors, P parameters, C kinds.
"""

from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array

LARGEST_LOG = 40.0  # of a term, so that a wild proposal of the sampler overflows nowhere


@dataclass(frozen=True, slots=True)
class Form:
    """Where each parameter of a surface stands in a vector of them.

    A vector holds log E, then log A and its exponents (where there are other scales), log B and its exponents,
    each kind's offset of log A and of log B from the first kind's, and last the logarithms of tau and sigma, the
    sizes of deviations and noise.
    """

    scales: int
    kinds: int

    @property
    def others(self) -> int:
        """Scales but the last."""
        return self.scales - 1

    @property
    def terms(self) -> int:
        """Products beside the floor."""
        return 2 if self.others else 1

    @property
    def names(self) -> tuple[str, ...]:
        """What each parameter is: 'E', 'A' and 'B' (logarithms), 'exponent', 'offset', 'tau', 'sigma'."""
        first = ("A", *("exponent",) * self.others) if self.others else ()
        second = ("B", *("exponent",) * self.scales)
        return ("E", *first, *second, *("offset",) * ((self.kinds - 1) * self.terms), "tau", "sigma")

    def places(self, *names: str) -> Array:
        """Which parameters are of these names, (P,) of bool."""
        return np.isin(self.names, names)

    def exponents(self, values: Array) -> tuple[Array, Array]:
        """Of the first term (B, S - 1) and of the second (B, S)."""
        first = values[:, 2 : 2 + self.others]
        start = 2 + (1 + self.others if self.others else 0)
        return first, values[:, start : start + self.scales]

    def parts(self, values: Array, coordinates: Array, kinds: Array) -> tuple[Array, Array, Array]:
        """Floor (B, 1), first term (B, N) and second term without the last scale (B, N).

        Args:
            values: (B, P).
            coordinates: (S, N), logarithms of the scales, signed so that more is worse, and centred.
            kinds: (N,).
        """
        first, second = self.exponents(values)
        offsets = self._offsets(values)
        floor = np.exp(values[:, :1])
        start = 1 + (1 + self.others if self.others else 0)
        rest = _product(values[:, start], offsets[-1][:, kinds], second[:, : self.others], coordinates[: self.others])
        if not self.others:
            return floor, np.zeros_like(rest), rest
        return floor, _product(values[:, 1], offsets[0][:, kinds], first, coordinates[: self.others]), rest

    def log_loss(self, values: Array, coordinates: Array, kinds: Array) -> Array:
        """Logarithm of the surface, (B, N)."""
        floor, first, second = self.parts(values, coordinates, kinds)
        _, exponents = self.exponents(values)
        return np.log(floor + first + second * np.exp(exponents[:, -1:] * coordinates[-1]))

    def _offsets(self, values: Array) -> list[Array]:
        """For each term the offset of each kind, (B, C); the first kind's is 0."""
        count = self.kinds - 1
        block = values[:, -2 - count * self.terms : -2].reshape(len(values), self.terms, count)
        zero = np.zeros((len(values), 1), values.dtype)
        return [np.concatenate([zero, block[:, term]], axis=1) for term in range(self.terms)]


def _product(amplitude: Array, offsets: Array, exponents: Array, coordinates: Array) -> Array:
    total = amplitude[:, None] + offsets + exponents @ coordinates
    return np.exp(np.clip(total, -LARGEST_LOG, LARGEST_LOG))
