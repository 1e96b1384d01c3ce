"""What a scaling law is: parameters with names and bounds, a formula, a source, and the arithmetic to fit it.

A law is linear in some of its parameters and shaped by the others: y = sum_j theta_j phi_j(x; eta). So for a
given shape the best linear parameters have a closed form, and only the shape is searched (variable
projection, Golub and Pereyra 1973). Everything is computed in batches of parameters at once.

Inside a fit, every scale is divided by its geometric mean and y by its own, so that no unit matters;
`Law.reported` leads back to the units of the data.
Shapes: S scales, N points, B parameter vectors, J linear and K shape parameters, P = J + K.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""Of floating-point numbers, except where it holds places or truth values."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a law.

    `starts` are the values, in the units of a fit, that the dense start tries; empty for linear ones.
    `amplitude` marks a positive one that mixes units and spans orders of magnitude: its interval is sought
    in its logarithm.
    """

    name: str
    meaning: str
    lower: float = -np.inf
    upper: float = np.inf
    starts: tuple[float, ...] = ()
    amplitude: bool = False


class Law(ABC):
    """A family of curves; its subclasses are the laws that can be fitted."""

    name: ClassVar[str]
    formula: ClassVar[str]
    """With the scales' symbols and the parameters' names."""
    latex: ClassVar[str]
    """LaTeX with a `{name}` for each parameter and each symbol, and double braces for braces."""
    source: ClassVar[str]
    symbols: ClassVar[tuple[str, ...]] = ("x",)
    linear: ClassVar[tuple[Parameter, ...]]
    shape: ClassVar[tuple[Parameter, ...]]
    owners: ClassVar[tuple[int, ...]]
    """For each shape parameter, the linear parameter whose term it shapes."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Linear parameters, then those of the shape; the order of every parameter vector."""
        return self.linear + self.shape

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the reported parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @abstractmethod
    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """The terms phi (B, N, J) and, for each shape parameter, its own term's derivative (B, N, K).

        Args:
            scales: (S, N), or (B, S, N) where every parameter vector has its own.
            shape: (B, K).
        """

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """Parameters in the units of the data, (B, P), from those inside a fit.

        Args:
            values: (B, P).
            units: (S,), what the scales were divided by.
            unit: what y was divided by.
        """
        return values * unit

    def units(self, scales: Array) -> Array:
        """What a fit divides the scales (S, N) by, (S,)."""
        return np.exp(np.mean(np.log(scales), axis=1))

    def start_grid(self, scales: Array) -> tuple[Array, tuple[int, ...]]:
        """Shapes to try, (G, K), and the sides of their grid; `scales` are (S, N)."""
        values = [parameter.starts for parameter in self.shape]
        points = list(product(*values))
        grid = np.array(points, dtype=float).reshape(len(points), len(values))
        return grid, tuple(map(len, values))

    def predict(self, scales: Array, values: Array) -> Array:
        """Losses (B, N) of parameter vectors (B, P)."""
        count = len(self.linear)
        terms, _ = self.terms(scales, values[:, count:])
        return np.matmul(terms, values[:, :count, None])[..., 0]

    def gradient(self, scales: Array, values: Array) -> tuple[Array, Array]:
        """Losses (B, N) and their derivatives by every parameter (B, N, P)."""
        count = len(self.linear)
        terms, slopes = self.terms(scales, values[:, count:])
        losses = np.matmul(terms, values[:, :count, None])[..., 0]
        slopes = slopes * values[:, None, self.owners]
        return losses, np.concatenate([terms, slopes], axis=2)

    def text(self, values: dict[str, float]) -> str:
        """The formula with numbers."""
        parts = [f"{name} = {value:.4g}" for name, value in values.items()]
        return f"{self.formula}, {', '.join(parts)}"

    def to_latex(self, values: dict[str, float], symbols: Sequence[str] | None = None, y: str = "L") -> str:
        """The law with numbers as LaTeX mathematics, without the dollar signs."""
        names = dict(zip(self.symbols, symbols or self.symbols, strict=True))
        numbers = {name: _latex_number(value) for name, value in values.items()}
        return f"{y} = " + self.latex.format(**numbers, **names)


def _latex_number(value: float) -> str:
    text = f"{value:.3g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    return rf"{digits}{{\times}}10^{{{int(power)}}}"


def log_powers(scales: Array, exponents: Array, index: int = 0) -> tuple[Array, Array]:
    """x^b (B, N) of one scale, and log x (N,) or (B, N)."""
    log_x = np.log(scales[..., index, :])
    return np.exp(exponents[:, None] * log_x), log_x
