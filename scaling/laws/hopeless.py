"""Which running cells cannot matter: heading for a higher loss than a design that costs no more has reached.

Losses are training losses, means over the last tenth of a training, as forecasts are. The limits here were chosen by
replaying finished runs, see benchmarks/hopeless.py: under a learning rate that decays to the end, many
forecasts made in the first half of a training are too high and their intervals too narrow, so nothing is judged there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array
from scaling.laws.learning import LossForecast, forecast_loss, mean_before
from scaling.laws.points import FitError

EARLIEST = 0.5
"""Share of a training before which it is not judged."""
MARGIN = 0.05
"""How far a loss must lie above a rival's, in logarithms; more where seeds scatter more."""
SEED_SPREADS = 2.0
"""The margin in standard deviations of the difference between two seeds."""
MOST = 200
"""Points of a curve that are forecast from: the time of a forecast grows with them."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A design that was trained to the end, and its final training loss for each seed."""

    design: str
    training_flops: float
    """Of one seed, pretrainings included."""
    final_losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Why a cell cannot matter."""

    forecast: LossForecast
    rival: Rival

    def __str__(self) -> str:
        said = self.forecast
        return (
            f"hopeless: heading for a training loss of {said.estimate:.4g} ({said.low:.4g} to {said.high:.4g}), "
            f"{self.rival.design} ended at {max(self.rival.final_losses):.4g} for no more FLOPs"
        )


def final_loss(images: Array, losses: Array, final_images: float) -> float:
    """Mean training loss over the last tenth of a training that has come to its end; nan without a curve."""
    return mean_before(images, losses, final_images) if len(images) else math.nan


def margin_of(repeats: Iterable[Sequence[float]]) -> float:
    """How far losses of different designs must lie apart, in logarithms, given final losses of several seeds each."""
    logs = [np.log(losses) for losses in repeats if len(losses) > 1]
    freedom = sum(len(each) - 1 for each in logs)
    if not freedom:
        return MARGIN
    variance = sum(float(np.sum((each - each.mean()) ** 2)) for each in logs) / freedom
    return max(MARGIN, SEED_SPREADS * math.sqrt(2 * variance))


def beaten(forecast: LossForecast, training_flops: float, rivals: Sequence[Rival]) -> Hopeless | None:
    """Why a forecast says that a cell cannot matter; None where it may.

    A cell is hopeless when the interval of its final training loss, and its loss now, lie wholly above, by the margin,
    the worst seed of a design that costs no more.

    Args:
        forecast: of the cell, with an interval of 95 %.
        training_flops: of the whole training, pretrainings included.
        rivals: finished designs whose training losses mean the same; those that cost more only tell how seeds scatter.
    """
    if forecast.images_seen < EARLIEST * forecast.final_images or (best := _best(training_flops, rivals)) is None:
        return None
    rival, margin = best
    above = min(forecast.low, forecast.loss_now) > max(rival.final_losses) * math.exp(margin)
    return Hopeless(forecast, rival) if above else None


def find_hopeless(
    cell: str, images: Array, losses: Array, final_images: float, training_flops: float, rivals: Sequence[Rival]
) -> Hopeless | None:
    """The same from the curve of a cell that is being trained; a forecast is made only where it can matter.

    Args:
        cell: name, for the result.
        images: (N,), images seen.
        losses: (N,), training losses.
        final_images: images that the whole training sees.
        training_flops: of the whole training, pretrainings included.
        rivals: finished designs whose training losses mean the same.
    """
    usable = np.isfinite(losses) & (losses > 0)
    images, losses = images[usable], losses[usable]
    best = _best(training_flops, rivals)
    if best is None or not len(images) or images[-1] < EARLIEST * final_images:
        return None
    if mean_before(images, losses, images[-1]) <= max(best[0].final_losses):
        return None
    try:
        return beaten(forecast_loss(cell, *thinned(images, losses), final_images), training_flops, rivals)
    except FitError:
        return None


def thinned(images: Array, losses: Array) -> tuple[Array, Array]:
    """At most 200 points of a curve in order: means of neighbours, at the last of them, as losses are logged."""
    if len(images) <= MOST:
        return images, losses
    ends = np.linspace(0, len(images), MOST + 1).round().astype(int)
    return images[ends[1:] - 1], np.add.reduceat(losses, ends[:-1]) / np.diff(ends)


def _best(training_flops: float, rivals: Sequence[Rival]) -> tuple[Rival, float] | None:
    """The rival that costs no more whose worst seed is the best, and the margin."""
    known = [each for each in rivals if all(math.isfinite(loss) and loss > 0 for loss in each.final_losses)]
    affordable = [each for each in known if each.training_flops <= training_flops]
    if not affordable:
        return None
    return min(affordable, key=lambda each: max(each.final_losses)), margin_of(each.final_losses for each in known)
