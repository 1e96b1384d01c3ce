"""What repeats at the same x (several seeds) say of the noise, and of a law that misses it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array
from scaling.laws.points import Points
from scaling.laws.problem import Problem


@dataclass(frozen=True, slots=True)
class PureError:
    """Scatter of repeats around their own mean, in the residuals of the fit."""

    sum_of_squares: float
    degrees_of_freedom: int
    different: int
    """Number of different x."""

    @property
    def variance(self) -> float:
        """Of a residual of weight 1."""
        return self.sum_of_squares / self.degrees_of_freedom


def pure_error(problem: Problem) -> PureError | None:
    """The scatter of repeats in one problem's data; None without repeats."""
    y = np.log(problem.y[0]) if problem.residual == "log" else problem.y[0]
    return _scatter(problem.scales, y, problem.weights[0])


def pooled_error(curves: Iterable[Points]) -> PureError | None:
    """The scatter of repeats of several curves, each around its own means, in logarithms; None without repeats."""
    found = [_scatter(points.scales, np.log(points.y), points.weights) for points in curves]
    known = [error for error in found if error is not None]
    if not known:
        return None
    return PureError(
        sum(error.sum_of_squares for error in known),
        sum(error.degrees_of_freedom for error in known),
        sum(error.different for error in known),
    )


def _scatter(scales: Array, y: Array, weights: Array) -> PureError | None:
    _, place = np.unique(scales, axis=1, return_inverse=True)
    place = place.ravel()
    different = int(place.max()) + 1
    freedom = len(y) - different
    if freedom < 1:
        return None
    means = np.bincount(place, weights * y) / np.bincount(place, weights)
    return PureError(float(np.sum(weights * (y - means[place]) ** 2)), freedom, different)


def lack_of_fit(
    sum_of_squares: float, own: PureError | None, parameters: int, noise: PureError | None = None
) -> float | None:
    """Chance of missing the points this far if the law were true, judged by repeats.

    Args:
        sum_of_squares: of the residuals.
        own: the scatter of the curve's repeats, of no degrees of freedom where it has none.
        parameters: that were fitted.
        noise: what the misses are measured by; the curve's own scatter by default.

    The classical F test against pure error (Draper and Smith, Applied Regression Analysis, 2.1); None
    without repeats, or without more different x than parameters.
    """
    noise = noise or own
    if own is None or noise is None or noise.degrees_of_freedom == 0 or own.different <= parameters:
        return None
    freedom = own.different - parameters
    lack = max(sum_of_squares - own.sum_of_squares, 0.0)
    if noise.sum_of_squares == 0:
        return 0.0 if lack > 1e-20 else 1.0
    from scipy import special  # late: not every use of a law needs it

    return float(special.fdtrc(freedom, noise.degrees_of_freedom, lack / freedom / noise.variance))
