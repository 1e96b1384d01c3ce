"""Learning curves: where a cell's training loss is heading, so that a hopeless one can be seen early.

A forecast is the default extrapolation of the loss so far (`extrapolation.forecast`). Its interval comes from
the curve's own past: the same forecast made at earlier moments, of what is known by now, with errors scaled
to how far ahead each looked. That includes what a law gets wrong, where residuals would only show noise.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.errors import UsageError
from scaling.laws.extrapolation import forecast
from scaling.laws.law import Array
from scaling.laws.points import FitError, Points, gather

if TYPE_CHECKING:
    import pandas as pd

EARLIER = (0.4, 0.55, 0.7, 0.85)
"""Shares of what has been seen, from which the present is forecast."""
END = 0.1
"""Share of a curve at its end whose mean loss is forecast: single batches are noisy."""
FEWEST = 12  # points of a curve


@dataclass(frozen=True, slots=True)
class LossForecast:
    """The training loss that a cell is heading for."""

    cell: str
    images_seen: float
    final_images: float
    loss_now: float
    """Mean over the last tenth of what was seen."""
    estimate: float
    low: float
    high: float
    final_loss: float | None
    """Mean over the last tenth of the whole training, where it is known."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def forecast_loss(
    cell: str, images: Array, losses: Array, final_images: float, at: float = 1.0, level: float = 0.95
) -> LossForecast:
    """Forecast the mean training loss over the last tenth of a training.

    Args:
        cell: name, for the result.
        images: (N,), images seen.
        losses: (N,), training losses.
        final_images: images that the whole training sees.
        at: forecast as if only this share of the curve so far were known.
        level: of the interval.

    Raises:
        FitError: for fewer than 12 points, or if no form can be fitted.
        UsageError: for a share that is not one.
    """
    order = np.argsort(images)
    images, losses = np.asarray(images, dtype=float)[order], np.asarray(losses, dtype=float)[order]
    now = at * images[-1] if len(images) else 0.0
    if not 0 < at <= 1:
        raise UsageError(f"--at {at:.0%} is not above 0 % and at most 100 %")
    seen = images <= now
    if np.sum(seen) < FEWEST:
        raise FitError(f"{cell}: {int(np.sum(seen))} points of its learning curve; a forecast needs {FEWEST}")
    points = gather(images[seen], losses[seen])
    final_loss = mean_before(images, losses, final_images) if images[-1] >= final_images else None
    loss_now = mean_before(images, losses, now)
    target = (1 - END / 2) * final_images
    if now >= final_images:
        return LossForecast(cell, now, final_images, loss_now, loss_now, loss_now, loss_now, final_loss)
    estimate = float(forecast(points, np.array([[target]]))[0])
    spread = _spread(points, np.log(target / now), level)
    low, high = estimate * np.exp(-spread), estimate * np.exp(spread)
    return LossForecast(cell, now, final_images, loss_now, estimate, low, high, final_loss)


def forecast_losses(curves: "pd.DataFrame", at: float = 1.0, level: float = 0.95) -> list[LossForecast | str]:
    """A forecast for every cell of a table of `records.load_learning_curves`, or why there is none."""
    found: list[LossForecast | str] = []
    for cell, rows in curves.groupby("cell", sort=False):
        usable = rows[rows["training_loss"].map(math.isfinite) & (rows["training_loss"] > 0)]
        images, losses = usable["images_seen"].to_numpy(float), usable["training_loss"].to_numpy(float)
        try:
            found.append(forecast_loss(str(cell), images, losses, float(rows["final_images"].iloc[0]), at, level))
        except FitError as error:
            found.append(str(error))
    return found


def mean_before(images: Array, losses: Array, end: float) -> float:
    """Mean loss over the last tenth of what was seen until `end`, in images."""
    return float(np.mean(losses[(images > (1 - END) * end) & (images <= end)]))


def _spread(points: Points, ahead: float, level: float) -> float:
    """Half the interval of a forecast's logarithm, from forecasts of the present made earlier."""
    images, losses = points.scales[0], points.y
    now = images[-1]
    errors = []
    for share in EARLIER:
        known = images <= share * now
        if np.sum(known) < FEWEST // 2:
            continue
        middle = (1 - END / 2) * now
        earlier = forecast(points.chosen(known), np.array([[middle]]))[0]
        error = np.log(earlier / mean_before(images, losses, now))
        errors.append(error * max(ahead / np.log(middle / (share * now)), 1.0))
    from scipy import special  # late: not every use of a law needs it

    factor = special.stdtrit(max(len(errors) - 1, 1), (1 + level) / 2)
    return float(factor * np.sqrt(np.mean(np.square(errors)))) if errors else np.inf
