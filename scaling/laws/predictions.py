"""What a fitted law says at places that were asked for, with its intervals and how far they reach.

Shapes: S scales, Q places.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.laws.choosing import Choice
from scaling.laws.extrapolation import reach
from scaling.laws.fitting import Fitted
from scaling.laws.intervals import prediction_intervals
from scaling.laws.law import Array


@dataclass(frozen=True, slots=True)
class Prediction:
    """One place, in the units of x and y; ends that are not known are NaN, and infinite where nothing bounds them."""

    x: tuple[float, ...]
    """The place on each scale."""
    estimate: float
    low: float
    """Of the interval of the law."""
    high: float
    new_run_low: float
    """Of the interval of one new run."""
    new_run_high: float
    averaged: float | None
    """The candidates' predictions by their AICc weights; None for a law that was given, and with too few points."""
    reach: float
    """How far beyond the points used, as a factor; 1 inside them."""

    @property
    def reach_in_words(self) -> str:
        """Such as '2x beyond'."""
        return f"{self.reach:.3g}x beyond" if self.reach > 1 else "inside the data"

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        plain = {name: _plain(value) for name, value in asdict(self).items() if name != "x"}
        return {"x": list(self.x)} | plain


def _plain(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def predict_at(fitted: Fitted, choice: Choice | None, scales: Array) -> tuple[Prediction, ...]:
    """Predictions at scales (S, Q), Q of them."""
    from_link = fitted.points.from_link
    with np.errstate(all="ignore"):  # far away laws overflow, and say so by infinity
        average = choice.average(scales) if choice else None
        averaged = [None] * scales.shape[1] if average is None else list(map(float, from_link(average)))
        estimates, factors = from_link(fitted.predict(scales)), reach(fitted.points, scales)
        (low, high), (new_low, new_high) = band(fitted, scales), band(fitted, scales, new_run=True)
    # A new run is no surer than the law; a hundred thousandfold beyond the data its search can end too early.
    new_low, new_high = np.minimum(low, new_low), np.maximum(high, new_high)
    return tuple(
        Prediction(
            x=tuple(map(float, scales[:, place])),
            estimate=float(estimates[place]),
            low=float(low[place]),
            high=float(high[place]),
            new_run_low=float(new_low[place]),
            new_run_high=float(new_high[place]),
            averaged=averaged[place],
            reach=float(factors[place]),
        )
        for place in range(scales.shape[1])
    )


def band(fitted: Fitted, scales: Array, new_run: bool = False) -> tuple[Array, Array]:
    """Lower and upper ends (Q,) of the interval of the law, or of one new run, at scales (S, Q); in the unit of y."""
    low, high = (fitted.points.from_link(end) for end in prediction_intervals(fitted, scales, new_run))
    return np.minimum(low, high), np.maximum(low, high)
