"""How well rows that a fit has not seen are predicted, and the default for extrapolating a curve.

The default is an average: the geometric mean of three forms that level off or bend differently
(saturating, M3, broken), each fitted with the weight of a point falling as (x / x_end)^q for q = 1, 2, 3.
Far from the end most curves are not in their last regime yet, so weighting matters more than the form, and
averaging keeps one form's blow-up from deciding. Shapes: S scales, N points, Q held-out points.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.laws.fitting import Fitted, Options, fit_points
from scaling.laws.intervals import prediction_intervals
from scaling.laws.law import Array
from scaling.laws.points import FitError, Points, tail_weights

FORMS = ("saturating", "M3", "broken")
TAIL_WEIGHTS = (1.0, 2.0, 3.0)
KNOTS = 25  # places along a scale at which intervals are searched


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """Errors on held-out points; logarithmic, so that 0.01 is one per cent."""

    method: str
    """What predicted: a law, or the average of several."""
    points: int
    rmse_log: float
    bias_log: float
    """Mean of log predicted - log observed: above 0, the prediction was too pessimistic of a loss."""
    law_rmse_log: float
    """Of the fitted law by itself."""
    last_value_rmse_log: float | None
    """Of the reference that nothing changes after the last point used; one scale only."""
    inside: float | None
    """Share of the held-out points inside the fitted law's interval of a new run."""
    reach: float
    """How far the farthest held-out point lies beyond the points used, as a factor on the scale."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def forecast(points: Points, scales: Array, options: Options | None = None) -> Array:
    """The default extrapolation of one curve of one scale, (Q,), at scales (S, Q); before a link.

    Forms that too few points can carry are left out of the average.

    Raises:
        FitError: if no form can be fitted.
    """
    options, logs = options or Options(), []
    for q in TAIL_WEIGHTS:
        weighted = replace(points, weights=tail_weights(points, q))
        for form in FORMS:
            try:
                fitted = fit_points(weighted, form, replace(options, intervals="none", tail_weight=q))
            except FitError:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                logs.append(np.log(fitted.predict(scales)))
    usable = [log for log in logs if np.all(np.isfinite(log))]
    if not usable:
        raise FitError("no law that extrapolates can be fitted to these points")
    return np.exp(np.mean(usable, axis=0))


def extrapolate(fitted: Fitted, held: Points, averaged: bool) -> Extrapolation:
    """Predict held-out points from a fit that has not seen them.

    Args:
        fitted: to the other points.
        held: the points to predict.
        averaged: whether the default for extrapolation predicts, or the fitted law by itself.
    """
    own = _log_errors(fitted.predict(held.scales), held.y)
    errors, method = own, fitted.law.name
    single = len(held.scales) == 1
    if averaged and single:
        errors = _log_errors(forecast(fitted.points, held.scales, fitted.options), held.y)
        method = f"geometric mean of {', '.join(FORMS)} with tail weights {', '.join(f'{q:g}' for q in TAIL_WEIGHTS)}"
    inside = _inside(fitted, held)
    return Extrapolation(
        method=method,
        points=len(held.y),
        rmse_log=_rms(errors),
        bias_log=float(errors.mean()),
        law_rmse_log=_rms(own),
        last_value_rmse_log=_rms(np.log(_last_value(fitted.points) / held.y)) if single else None,
        inside=inside,
        reach=_reach(fitted.points.scales, held.scales),
    )


def _inside(fitted: Fitted, held: Points) -> float | None:
    """Share of the held-out points inside the interval of a new run; None where there is no interval."""
    if len(held.scales) > 1:
        low, high = prediction_intervals(fitted, held.scales, new_run=True)
    else:  # intervals change smoothly along one scale
        x = np.unique(held.scales[0])
        knots = x if len(x) <= KNOTS else np.geomspace(x[0], x[-1], KNOTS)
        ends = prediction_intervals(fitted, knots[None], new_run=True)
        low, high = (np.interp(np.log(held.scales[0]), np.log(knots), end) for end in ends)
    if not np.all(np.isfinite(low)):
        return None
    return float(np.mean((low <= held.y) & (held.y <= high)))


def _log_errors(predicted: Array, observed: Array) -> Array:
    if not np.all(predicted > 0):
        raise FitError("the law predicts a loss that is not positive on the held-out rows")
    return np.log(predicted / observed)


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _last_value(points: Points) -> float:
    """The y of the point nearest to the end with the lower y."""
    falling = points.y[np.argmax(points.scales[0])] <= points.y[np.argmin(points.scales[0])]
    place = np.argmax(points.scales[0]) if falling else np.argmin(points.scales[0])
    return float(np.mean(points.y[points.scales[0] == points.scales[0, place]]))


def _reach(used: Array, held: Array) -> float:
    above, below = held.max(1) / used.max(1), used.min(1) / held.min(1)
    return float(max(above.max(), below.max(), 1.0))
