"""Intervals of a fit's parameters and predictions, by profile likelihood or from its bootstrap."""

from dataclasses import dataclass

import numpy as np

from scaling.laws.fitting import Fitted
from scaling.laws.law import Array
from scaling.laws.profile import Predicted, Reported, interval_ends


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval; an infinite end is one that the data do not bound."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain values; an end that is not finite is null."""
        ends = {"low": self.low, "high": self.high}
        return {"estimate": self.estimate} | {name: end if np.isfinite(end) else None for name, end in ends.items()}


def parameter_intervals(fitted: Fitted) -> dict[str, Estimate]:
    """Every reported parameter with its interval."""
    estimates = fitted.estimates
    with np.errstate(over="ignore", under="ignore"):
        low, high = _ends(fitted)
    ends = zip(fitted.law.names, estimates, low, high, strict=True)
    return {name: Estimate(float(value), float(a), float(b)) for name, value, a, b in ends}


def _ends(fitted: Fitted) -> tuple[Array, Array]:
    if fitted.resamples is not None:
        reported = fitted.law.reported(fitted.resamples, fitted.units, fitted.unit)
        return _percentiles(reported, fitted.options.level)
    if fitted.options.method == "profile":
        return _profiled(fitted)
    return np.full(len(fitted.values), np.nan), np.full(len(fitted.values), np.nan)


def _percentiles(values: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _profiled(fitted: Fitted) -> tuple[Array, Array]:
    law, estimates = fitted.law, fitted.estimates
    amplitude = _amplitudes(fitted)
    logarithmic = amplitude & (estimates > 0)
    low, high = estimates.copy(), estimates.copy()
    # An amplitude of zero has no profile of its own: the law is flat.
    low[amplitude & ~logarithmic & ~fitted.fixed], high[amplitude & ~logarithmic & ~fitted.fixed] = -np.inf, np.inf
    searched = np.flatnonzero(~fitted.fixed & (~amplitude | logarithmic))
    owner = np.concatenate([searched, searched])
    quantity = Reported(law, fitted.units, fitted.unit, owner, logarithmic[owner])
    limits = np.concatenate([_limits(fitted, logarithmic, -1)[searched], _limits(fitted, logarithmic, 1)[searched]])
    given = fitted.problem, fitted.values, fitted.objective, quantity, limits, fitted.noise
    ends = interval_ends(*given, others=fitted.other_minima)
    ends = np.where(_at_search_bound(fitted, owner, ends, limits), np.copysign(np.inf, limits), ends)
    with np.errstate(over="ignore"):
        ends = np.where(logarithmic[owner], np.exp(ends), ends)
    low[searched], high[searched] = ends[: len(searched)], ends[len(searched) :]
    return low, high


def _amplitudes(fitted: Fitted) -> Array:
    """Which parameters are positive amplitudes; bounds can make one a plain parameter of any sign."""
    marked = np.array([parameter.amplitude for parameter in fitted.law.parameters])
    count = len(fitted.law.linear)
    signed = np.concatenate([fitted.problem.lower[:count] < 0, np.zeros(len(marked) - count, dtype=bool)])
    return marked & ~signed


def _limits(fitted: Fitted, logarithmic: Array, side: int) -> Array:
    """Bounds of the reported parameters that are one parameter of the fit, in the unit of the data."""
    bounds = fitted.problem.upper if side > 0 else fitted.problem.lower
    amplitude = _amplitudes(fitted)
    finite = np.where(np.isfinite(bounds), bounds, 0.0)
    trial = fitted.values.copy()
    limits = np.full(len(bounds), side * np.inf)
    for place in np.flatnonzero(np.isfinite(bounds) & ~amplitude):
        moved = trial.copy()
        moved[place] = finite[place]
        limits[place] = fitted.law.reported(moved[None], fitted.units, fitted.unit)[0, place]
    return limits


def _at_search_bound(fitted: Fitted, owner: Array, ends: Array, limits: Array) -> Array:
    """Ends at the bound of an exponent that only our search has; beyond it the data may still fit."""
    shape = owner >= len(fitted.law.linear)
    given = np.array([name in (fitted.options.bounds or {}) for name in fitted.law.names])[owner]
    outward = np.where(np.isfinite(limits), np.abs(limits) > 1, False)
    return shape & ~given & outward & (ends == limits)


def prediction_intervals(fitted: Fitted, scales: Array, new_run: bool = False) -> tuple[Array, Array]:
    """Ends (Q,) of the interval of the law, or of one new run, at scales (S, Q); before a link."""
    if fitted.resamples is not None:
        low, high = _percentiles(_drawn(fitted, scales, new_run), fitted.options.level)
        return low, high
    if fitted.options.method != "profile":
        return np.full(scales.shape[1], np.nan), np.full(scales.shape[1], np.nan)
    count = scales.shape[1]
    points = np.tile((scales / fitted.units[:, None]).T[:, :, None], (2, 1, 1))
    logarithmic = fitted.problem.residual == "log"
    quantity = Predicted(fitted.law, points, logarithmic, _owners(fitted, points))
    limits = np.repeat([-np.inf, np.inf], count)
    given = fitted.problem, fitted.values, fitted.objective, quantity, limits, fitted.noise
    ends = interval_ends(*given, new_run=new_run, others=fitted.other_minima)
    with np.errstate(over="ignore"):
        ends = (np.exp(ends) if logarithmic else ends) * fitted.unit
    return ends[:count], ends[count:]


def _owners(fitted: Fitted, points: Array) -> Array:
    """For each point, the linear parameter that moves the loss there most."""
    count = len(fitted.law.linear)
    _, slopes = fitted.law.gradient(points, np.repeat(fitted.values[None], len(points), axis=0))
    moves = np.abs(slopes[:, 0, :count] * fitted.values[:count]) * ~fitted.fixed[:count]
    return np.argmax(moves, axis=1)


def _drawn(fitted: Fitted, scales: Array, new_run: bool) -> Array:
    drawn = fitted.predict(scales, fitted.resamples)
    if not new_run:
        return drawn
    spread = np.sqrt(fitted.noise.variance)
    noise = spread * np.random.default_rng(fitted.options.seed + 1).standard_t(
        fitted.noise.degrees_of_freedom, size=drawn.shape
    )
    return drawn * np.exp(noise) if fitted.problem.residual == "log" else drawn + noise * fitted.unit
