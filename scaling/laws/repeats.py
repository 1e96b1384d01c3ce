"""What repeats at the same x (several seeds) say of the noise, and of a law that misses it."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

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
    weights = problem.weights[0]
    _, place = np.unique(problem.scales, axis=1, return_inverse=True)
    place = place.ravel()
    different = int(place.max()) + 1
    freedom = len(y) - different
    if freedom < 1:
        return None
    means = np.bincount(place, weights * y) / np.bincount(place, weights)
    return PureError(float(np.sum(weights * (y - means[place]) ** 2)), freedom, different)


def lack_of_fit(sum_of_squares: float, repeats: PureError | None, parameters: int) -> float | None:
    """Chance of missing the points this far if the law were true, judged by repeats.

    The classical F test against pure error (Draper and Smith, Applied Regression Analysis, 2.1); None
    without repeats, or without more different x than parameters.
    """
    if repeats is None or repeats.different <= parameters:
        return None
    freedom = repeats.different - parameters
    lack = max(sum_of_squares - repeats.sum_of_squares, 0.0)
    if repeats.sum_of_squares == 0:
        return 0.0 if lack > 1e-20 else 1.0
    return float(stats.f.sf(lack / freedom / repeats.variance, freedom, repeats.degrees_of_freedom))
