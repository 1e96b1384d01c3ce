"""Fit one curve: estimate, intervals, and what the data cannot tell."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scaling.errors import ScalingError, UsageError, nearest
from scaling.laws.forms import LAWS, PowerLaw, SaturatingPowerLaw
from scaling.laws.profile import ALPHA_BOUND, Region, best, region

LACK_OF_FIT = 0.01
LAW_CHOICES = ("auto", *LAWS)
Interval = tuple[float, float]


class FitError(ScalingError):
    """Data that cannot carry the law asked for."""


class FitStatus(StrEnum):
    """How a fit ended; the value is the sentence shown."""

    CONVERGED = "converged"
    AT_BOUND = "exponent at its bound: the curve is not a power law on this axis"
    FLAT = "no trend: the best law is a constant"


@dataclass(frozen=True)
class FitResult:
    """A fitted law with profile-likelihood intervals.

    Points are relative residuals; intervals hold at `level` for independent errors of one
    relative size, which are estimated from the residuals with `degrees_of_freedom`.
    """

    law: PowerLaw
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    residual_sum_of_squares: float
    level: float
    status: FitStatus
    notes: tuple[str, ...]

    @property
    def n_points(self) -> int:
        """Records used."""
        return len(self.x)

    @property
    def degrees_of_freedom(self) -> int:
        """Records less parameters."""
        return len(self.x) - len(self.law.parameter_names)

    @property
    def relative_error(self) -> float:
        """Standard deviation of the relative residuals."""
        return float(np.sqrt(self.residual_sum_of_squares / self.degrees_of_freedom))

    @cached_property
    def _center(self) -> float:
        return _center(self.x)

    @cached_property
    def _region(self) -> Region:
        floor = isinstance(self.law, SaturatingPowerLaw)
        x = self.x / self._center
        return region(x, self.y, self.law.alpha, self.residual_sum_of_squares, floor, self.level)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Interval of each parameter, by name; an infinite end is one the data do not bound."""
        found = self._region
        alpha = found.fits.alpha
        by_name = {
            "E": found.linear(1.0, np.zeros_like(alpha)),
            "A": found.linear(0.0, self._center**-alpha),
            "alpha": found.alpha(),
        }
        return {name: by_name[name] for name in self.law.parameter_names}

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """Loss at x, same shape as x."""
        return self.law.predict(x)

    def band(self, x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper end of the interval of the law itself (not of a new run) at each x."""
        found = self._region
        queries = np.atleast_1d(np.asarray(x, dtype=float)) / self._center
        ends = np.array([found.linear(1.0, query**found.fits.alpha) for query in queries])
        return ends[:, 0], ends[:, 1]


def _center(x: NDArray[np.float64]) -> float:
    """Geometric middle of x: powers of x / center stay of order one whatever the unit."""
    return float(np.exp(np.mean(np.log(x))))


def fit_curve(x: ArrayLike, y: ArrayLike, law: str = "auto", level: float = 0.95) -> FitResult:
    """Fit a law to one curve.

    `auto` takes the saturating law where the data bound its floor away from zero (the interval of
    E excludes 0), and the power law, with a note, where they do not.

    Args:
        x: positive values of the scale, shape (N,); repeated ones (several seeds) are welcome.
        y: positive losses, shape (N,).
        law: 'power', 'saturating' or 'auto'.
        level: of the intervals, between 0 and 1.

    Raises:
        UsageError: for an unknown law or level.
        FitError: for values that are not positive, or not more points than parameters.
    """
    if law not in LAW_CHOICES:
        raise UsageError(f"unknown law '{law}': {nearest(law, LAW_CHOICES)}")
    if not 0 < level < 1:
        raise UsageError(f"level {level} is not between 0 and 1; 0.95 is usual")
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not (np.all(np.isfinite(x_N)) and np.all(np.isfinite(y_N)) and np.all(x_N > 0) and np.all(y_N > 0)):
        raise FitError("a power law needs finite, positive x and y")
    order = np.lexsort((y_N, x_N))
    x_N, y_N = x_N[order], y_N[order]
    if law != "auto":
        return _fit(x_N, y_N, LAWS[law], level)
    if not _enough(x_N, SaturatingPowerLaw):
        note = "a floor cannot be tested: a saturating law needs 4 points at 3 different x"
        return _fit(x_N, y_N, PowerLaw, level, (note,))
    saturating = _fit(x_N, y_N, SaturatingPowerLaw, level)
    if saturating.intervals["E"][0] > 0:
        return saturating
    return _fit(x_N, y_N, PowerLaw, level, tuple(n for n in saturating.notes if n.startswith("floor")))


def _enough(x_N: NDArray[np.float64], law: type[PowerLaw]) -> bool:
    parameters = len(law.parameter_names)
    return len(x_N) > parameters and len(np.unique(x_N)) >= parameters


def _fit(
    x_N: NDArray[np.float64], y_N: NDArray[np.float64], law: type[PowerLaw], level: float, notes: tuple[str, ...] = ()
) -> FitResult:
    parameters = len(law.parameter_names)
    if not _enough(x_N, law):
        raise FitError(
            f"{len(x_N)} points at {len(np.unique(x_N))} different x; "
            f"the {law.name} law needs at least {parameters + 1} points at {parameters} different x"
        )
    center = _center(x_N)
    E, A, alpha, ssr = best(x_N / center, y_N, floor=law is SaturatingPowerLaw)
    status = FitStatus.CONVERGED
    if A <= 0 or np.ptp(y_N) == 0:
        status = FitStatus.FLAT
    elif abs(alpha) > ALPHA_BOUND - 1e-6:
        status = FitStatus.AT_BOUND
    fitted = law(A=A * center**-alpha, alpha=alpha, E=E)
    result = FitResult(fitted, x_N, y_N, ssr, level, status, notes)
    return FitResult(fitted, x_N, y_N, ssr, level, status, (*notes, *_doubts(result)))


def lack_of_fit(result: FitResult) -> float | None:
    """Chance of missing the points this far if the law were true, judged by repeats at the same x.

    The classical F test of lack of fit against pure error (Draper and Smith, Applied Regression
    Analysis, 2.1); None without repeats, or without more different x than parameters.
    """
    different, place = np.unique(result.x, return_inverse=True)
    freedom = len(different) - len(result.law.parameter_names)
    pure_freedom = result.n_points - len(different)
    if freedom < 1 or pure_freedom < 1:
        return None
    means = np.bincount(place, result.y) / np.bincount(place)
    pure = float(np.sum((result.y / means[place] - 1) ** 2))
    lack = max(result.residual_sum_of_squares - pure, 0.0)
    if pure == 0:
        return 0.0 if lack > 0 else 1.0
    return float(stats.f.sf(lack / freedom / (pure / pure_freedom), freedom, pure_freedom))


def _doubts(result: FitResult) -> list[str]:
    """What a reader should know before quoting the fit."""
    notes = []
    parameters = len(result.law.parameter_names)
    if result.status is not FitStatus.CONVERGED:
        notes.append(str(result.status))
    low, high = result.intervals["alpha"]
    if low <= 0 <= high:
        notes.append("no trend: a constant fits these data too")
    if isinstance(result.law, SaturatingPowerLaw):
        low, high = result.intervals["E"]
        if low <= 0:
            notes.append(f"floor not identified by these data: any E from 0 to {high:.3g} fits")
    chance = lack_of_fit(result)
    if chance is not None and chance < LACK_OF_FIT:
        notes.append(
            f"the law misses its points by more than repeats differ (lack of fit, p = {chance:.1g}): do not extrapolate"
        )
    if result.n_points < 2 * parameters:
        notes.append(f"{result.n_points} points for {parameters} parameters: intervals are wide; add seeds")
    return notes
