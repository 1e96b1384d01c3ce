"""What a fit minimises: residuals in log or linear space, weighted, under a loss.

Shapes: S scales, N points, B problems solved at once, P parameters.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from scaling.errors import UsageError
from scaling.laws.law import Array, Law

Residual: TypeAlias = Literal["log", "linear"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Loss of one residual: r^2 / 2 near zero; beyond `scale` Huber's grows linearly, Cauchy's logarithmically."""

    name: Literal["squares", "huber", "cauchy"] = "squares"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ("squares", "huber", "cauchy") or not 0 < self.scale < np.inf:
            raise UsageError(f"unknown loss {self.name}:{self.scale:g}; use squares, huber:SCALE or cauchy:SCALE")

    def value(self, r: Array) -> Array:
        """Loss, same shape as r."""
        if self.name == "squares":
            return r * r / 2
        if self.name == "huber":
            inside = np.minimum(np.abs(r), self.scale)
            return inside * (np.abs(r) - inside / 2)
        return self.scale**2 / 2 * np.log1p((r / self.scale) ** 2)

    def weight(self, r: Array) -> Array:
        """Derivative of the loss over r: the weight of a point in iteratively reweighted least squares."""
        if self.name == "squares":
            return np.ones_like(r)
        if self.name == "huber":
            return self.scale / np.maximum(np.abs(r), self.scale)
        return 1 / (1 + (r / self.scale) ** 2)

    def __str__(self) -> str:
        return self.name if self.name == "squares" else f"{self.name}:{self.scale:g}"


SQUARES = Loss()


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One law, and data to fit it to, in units where scales and y are of order one."""

    law: Law
    scales: Array
    """(S, N), or (B, S, N)."""
    y: Array
    """(B, N), or (1, N) for all."""
    weights: Array
    """(B, N) or (1, N); not negative."""
    lower: Array
    """(P,), as `upper`."""
    upper: Array
    residual: Residual = "log"
    loss: Loss = SQUARES

    @property
    def free(self) -> Array:
        """Which parameters are not fixed by their bounds, (P,)."""
        return self.lower < self.upper

    @property
    def projects(self) -> bool:
        """Whether the linear parameters are free to follow from the shape."""
        return True

    def residuals(self, values: Array) -> tuple[Array, Array]:
        """Residuals (B, N) and their derivatives (B, N, P); not finite where a law has no logarithm."""
        losses, slopes = self.law.gradient(self.scales, values)
        if self.residual == "linear":
            return losses - self.y, slopes
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(losses) - np.log(self.y), slopes / losses[..., None]

    def objective(self, residuals: Array) -> Array:
        """Weighted loss (B,); infinite where a residual is not finite."""
        total = np.sum(self.weights * self.loss.value(residuals), axis=-1)
        return np.where(np.isfinite(total), total, np.inf)

    def subset(self, chosen: Array) -> "Problem":
        """The chosen problems of the batch."""
        y, weights = (values if len(values) == 1 else values[chosen] for values in (self.y, self.weights))
        scales = self.scales[chosen] if self.scales.ndim == 3 else self.scales
        return replace(self, scales=scales, y=y, weights=weights)
