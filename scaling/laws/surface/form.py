"""The form of a loss surface: a floor, what the other scales leave, and what the patch adds to it.

    loss = E + A prod_i x_i^-a_i + B prod_i x_i^-b_i p^beta

The first product is over all scales but the last (model size, input, data), the second over all of them, the last
being the patch where patches vary. With a_i and b_i free it holds the laws of `joint.py` as special cases: additive
(b_i = 0), multiplicative (A = 0) and what lies between, where a larger model gains less from a smaller patch.
Each kind of design (architecture and head) multiplies A and B by its own factors; exponents are shared.

Shapes: S scales, N places, B parameter vectors, P parameters, C kinds.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from scaling.laws.law import Array

LARGEST_LOG = 40.0  # of a term, so that a wild proposal of the sampler overflows nowhere
LARGEST_EXPONENT = 20.0


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
        """Where parameters of these names stand."""
        return _places(self, names)

    def free(self, values: Array) -> Array:
        """Vectors (B, P) in coordinates along which data bound them one by one, and none is bounded; see `values`.

        The logarithm of the loss at the centre, then every amplitude over the floor, and logarithms of exponents.
        """
        found = values.copy()
        amplitudes, exponents = self.places("E", "A", "B"), self.places("exponent")
        logs = values[:, amplitudes]
        found[:, amplitudes] = np.column_stack([np.log(np.exp(logs).sum(axis=1)), logs[:, 1:] - logs[:, :1]])
        found[:, exponents] = np.log(values[:, exponents])
        return found

    def values(self, free: Array) -> tuple[Array, Array]:
        """Vectors (B, P) of free coordinates, and the logarithm of the change of volume, (B,)."""
        found = free.copy()
        amplitudes, exponents = self.places("E", "A", "B"), self.places("exponent")
        logs = np.clip(free[:, amplitudes], -LARGEST_LOG, LARGEST_LOG)
        floor = logs[:, :1] - np.log1p(np.exp(logs[:, 1:]).sum(axis=1, keepdims=True))
        found[:, amplitudes] = np.concatenate([floor, floor + logs[:, 1:]], axis=1)
        found[:, exponents] = np.exp(np.clip(free[:, exponents], -LARGEST_LOG, np.log(LARGEST_EXPONENT)))
        return found, free[:, exponents].sum(axis=1)

    def exponents(self, values: Array) -> tuple[Array, Array]:
        """Of the first term (B, S - 1) and of the second (B, S)."""
        first = values[:, 2 : 2 + self.others]
        start = 2 + (1 + self.others if self.others else 0)
        return first, values[:, start : start + self.scales]

    def log_loss(self, values: Array, coordinates: Array, kinds: Array) -> Array:
        """Logarithm of the surface, (B, N), as precise as the coordinates are.

        Args:
            values: (B, P).
            coordinates: (S, N), logarithms of the scales, signed so that more is worse, and centred.
            kinds: (N,).
        """
        return self.log_loss_at(values, self.matrix(coordinates, kinds))

    def matrix(self, coordinates: Array, kinds: Array) -> Array:
        """What logarithms of terms are linear in: which kind, and the coordinates, (C + S, N)."""
        return np.concatenate([(kinds == np.arange(self.kinds)[:, None]).astype(coordinates.dtype), coordinates])

    def log_loss_at(self, values: Array, matrix: Array) -> Array:
        """`log_loss` for what `matrix` made of coordinates and kinds."""
        values = values.astype(matrix.dtype, copy=False)
        loss = np.exp(values[:, :1]) + _product(self._second(values), matrix)
        if self.others:
            loss += _product(self._first(values), matrix[:-1])
        return np.log(loss, out=loss)

    def _first(self, values: Array) -> Array:
        """Each kind's amplitude in the first term, then its exponents, (B, C + S - 1)."""
        exponents, _ = self.exponents(values)
        return np.concatenate([values[:, 1:2] + self._offsets(values, 0), exponents], axis=1)

    def _second(self, values: Array) -> Array:
        """The same of the second term, (B, C + S)."""
        _, exponents = self.exponents(values)
        start = 1 + (1 + self.others if self.others else 0)
        return np.concatenate([values[:, start : start + 1] + self._offsets(values, -1), exponents], axis=1)

    def _offsets(self, values: Array, term: int) -> Array:
        """Of each kind, (B, C); the first kind's is 0."""
        count = self.kinds - 1
        block = values[:, -2 - count * self.terms : -2].reshape(len(values), self.terms, count)
        return np.concatenate([np.zeros((len(values), 1), values.dtype), block[:, term]], axis=1)


@cache
def _places(form: Form, names: tuple[str, ...]) -> Array:
    return np.flatnonzero(np.isin(form.names, names))


def _product(logarithms: Array, places: Array) -> Array:
    """The exponential of a matrix product, (B, N), in one array: spaces are large."""
    found = logarithms @ places
    np.minimum(found, LARGEST_LOG, out=found)
    return np.exp(found, out=found)
