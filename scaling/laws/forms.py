"""Functional forms: the power law and the saturating power law L(x) = E + A x^alpha.

The saturating form is Zhai et al. 2022 and, on patch size, what the paper's Figure 1 draws (its
classification axes are straight only after a floor is taken off).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """L(x) = A x^alpha."""

    A: float
    alpha: float
    E: float = 0.0

    name = "power"
    formula = "A * x^alpha"
    parameter_names = ("A", "alpha")

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """Loss at x, same shape as x."""
        return self.E + self.A * np.asarray(x, dtype=float) ** self.alpha

    def latex(self, x: str = "x", y: str = "L") -> str:
        """The fitted law as LaTeX mathematics, without the dollar signs."""
        floor = f"{self.E:.3g} + " if "E" in self.parameter_names else ""
        return rf"{y} = {floor}{self.A:.3g}\,{x}^{{{self.alpha:.3g}}}"


@dataclass(frozen=True, slots=True)
class SaturatingPowerLaw(PowerLaw):
    """L(x) = E + A x^alpha with irreducible loss E >= 0."""

    name = "saturating"
    formula = "E + A * x^alpha"
    parameter_names = ("E", "A", "alpha")


LAWS = {law.name: law for law in (PowerLaw, SaturatingPowerLaw)}
