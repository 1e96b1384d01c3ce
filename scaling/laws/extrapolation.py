"""How well rows that a fit has not seen are predicted, and the default for extrapolating a curve.

The default is an average: the geometric mean of three forms that level off differently (saturating, M3,
M4), fitted with the weight of a point falling as |x / x_end|^3, or a lower power where the weights would leave
too few points. Far from the end most curves are not in their last regime yet, so weighting matters more than
the form, and averaging keeps one form's blow-up from deciding. Shapes: S scales, N points, Q held-out points.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.laws.catalogue import find_law
from scaling.laws.fitting import Fitted, Options, fit_points
from scaling.laws.intervals import prediction_intervals
from scaling.laws.law import Array
from scaling.laws.points import FitError, Points, tail_weights

FORMS = ("saturating", "M3", "M4")
TAIL_WEIGHTS = (3.0, 2.0, 1.0, 0.0)
"""Powers, of which the first that leaves enough points is taken."""
ENOUGH = 5.0
"""Points that the weights must leave, by Kish's effective number (sum w)^2 / sum w^2."""
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
    """Of the reference that nothing changes beyond the nearest point used; one scale only."""
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
    weighted = replace(points, weights=_tail(points))
    for form in FORMS:
        try:
            fitted = fit_points(weighted, form, _of_form(form, options))
        except FitError:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            logs.append(np.log(fitted.predict(scales)))
    usable = [log for log in logs if np.all(np.isfinite(log))]
    if not usable:
        raise FitError("no law that extrapolates can be fitted to these points")
    return np.exp(np.mean(usable, axis=0))


def _tail(points: Points) -> Array:
    """Weights (N,) of the strongest tail that leaves enough points."""
    candidates = [tail_weights(points, q) for q in TAIL_WEIGHTS]
    return next((w for w in candidates if w.sum() ** 2 / np.sum(w**2) >= ENOUGH), candidates[-1])


def _of_form(form: str, options: Options) -> Options:
    """The options without bounds of parameters that a form does not have."""
    bounds = {name: ends for name, ends in (options.bounds or {}).items() if name in find_law(form).names}
    return replace(options, intervals="none", bounds=bounds)


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
        method = f"geometric mean of {', '.join(FORMS)}, weighted to the tail"
    inside = _inside(fitted, held)
    return Extrapolation(
        method=method,
        points=len(held.y),
        rmse_log=_rms(errors),
        bias_log=float(errors.mean()),
        law_rmse_log=_rms(own),
        last_value_rmse_log=_rms(_log_errors(_last_values(fitted.points, held), held.y)) if single else None,
        inside=inside,
        reach=float(reach(fitted.points, held.scales).max()),
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
    if not (np.all(np.isfinite(predicted) & (predicted > 0)) and np.all(observed > 0)):
        raise FitError("a loss or its prediction on the held-out rows is not positive and finite: no logarithmic error")
    return np.log(predicted / observed)


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _last_values(used: Points, held: Points) -> Array:
    """For each held-out point, the mean y at the nearest place used."""
    x = used.scales[0]
    nearest = np.argmin(np.abs(np.log(x[:, None] / held.scales[0])), axis=0)
    return np.array([np.mean(used.y[x == x[place]]) for place in nearest])


def reach(used: Points, scales: Array) -> Array:
    """How far each of scales (S, Q) lies beyond the points used, as a factor of at least 1: (Q,)."""
    above = scales / used.scales.max(1, keepdims=True)
    below = used.scales.min(1, keepdims=True) / scales
    return np.maximum(np.maximum(above, below).max(0), 1.0)
