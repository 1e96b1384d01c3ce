"""Axes of losses: the logarithm of what a loss has above its floor, with true losses at the ticks."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from scaling.figures.panels import Panel, Y
from scaling.figures.style import log_axis, nice_log_ticks
from scaling.laws import FitResult, Unfitted

ROOM_ABOVE_FLOOR = 0.02  # between the floor and the lowest loss, of the losses' range: a point must be finite
CLOSEST = 0.4  # to the floor that a bar may come and be seen whole, as a share of the lowest loss above the floor
MARGIN = 0.07  # of an axis, at either end
ROUNDING = 0.3  # of the distance between ticks, that one may move to be a round number
MOST_TICKS = 6


def floor_of(panel: Panel) -> float | None:
    """What is subtracted from the losses of a panel's axis; None for a plain logarithm.

    The smallest floor that the data identify, or that was asked for, and below every loss.
    """
    if panel.published_floor is not None:
        return panel.published_floor
    floors = [_fitted_floor(curve) for curve in panel.curves]
    found = [floor for floor in floors if floor is not None]
    others = [
        float(panel.alone(curve).rows[Y].min())
        for curve, floor in zip(panel.curves, floors, strict=True)
        if floor is None
    ]
    lowest, highest = float(panel.rows[Y].min()), float(panel.rows[Y].max())
    if not found or highest <= lowest or min(others, default=math.inf) <= min(found):
        return None  # the last: a curve without a floor passes below the others' floors
    room = ROOM_ABOVE_FLOOR * (highest - lowest)
    return _rounded_down(min(*found, lowest - room), room)


def _fitted_floor(curve: FitResult | Unfitted) -> float | None:
    """The floor of a saturating law: chosen, which takes a floor above zero for sure, or asked for."""
    if not isinstance(curve, FitResult) or curve.law != "saturating":
        return None
    floor = curve.parameters["E"].estimate
    return floor if floor > 0 else None


def _rounded_down(value: float, step: float) -> float:
    """To so many digits that it moves by less than the step, so that the axis says the whole of it."""
    digits = max(0, math.ceil(-math.log10(step)))
    return round(math.floor(value * 10**digits) / 10**digits, digits)


def loss_axis(axis: Axes, losses: ArrayLike, around: ArrayLike, floor: float | None, room: float = 0.0) -> None:
    """Make y the logarithm of a loss, or of a loss less its floor, with room for these losses.

    Args:
        axis: what to change; its label, if it has one, says what is subtracted.
        losses: what must be seen.
        around: ends of bars and bands, seen unless they reach so far that losses would look alike.
        floor: what is subtracted.
        room: more of it at the upper end, as a share of the axis.
    """
    base = floor or 0.0
    lowest, highest = (float(end(losses)) - base for end in (np.min, np.max))
    above = np.concatenate([np.ravel(losses), np.ravel(around)]) - base
    logs = np.log(above[(above >= CLOSEST * lowest) & (above <= highest / CLOSEST)])
    span = max(float(np.ptp(logs)), 0.02)
    low, high = np.exp([logs.min() - MARGIN * span, logs.max() + (MARGIN + room) * span]) + base
    if floor is None:
        axis.set_yscale("log")
        log_axis(axis.yaxis, nice_log_ticks(low, high))
    else:
        axis.set_yscale("function", functions=(partial(_above, floor), partial(_from_above, floor)))
        log_axis(axis.yaxis, floor_ticks(low, high, floor))
        axis.set_ylabel(f"{axis.get_ylabel()},\nlog of (loss − {floor:.10g})")
    axis.set_ylim(low, high)


def _above(floor: float, loss: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.maximum(np.asarray(loss, float) - floor, 1e-12))  # what is below stays off the axis


def _from_above(floor: float, log: ArrayLike) -> NDArray[np.float64]:
    return np.exp(np.asarray(log, float)) + floor


def floor_ticks(low: float, high: float, floor: float) -> list[float]:
    """True losses of few digits, about evenly spaced in the logarithm of what they have above the floor."""
    to_log: Callable[[float], float] = lambda loss: math.log(loss - floor)  # noqa: E731
    targets = np.linspace(to_log(low), to_log(high), 2 * MOST_TICKS + 1)[1::2]
    gap = float(targets[1] - targets[0])
    ticks = (_roundest(math.exp(target) + floor, partial(_near, to_log, target, gap, floor)) for target in targets)
    return sorted({tick for tick in ticks if low <= tick <= high})


def _near(to_log: Callable[[float], float], target: float, gap: float, floor: float, loss: float) -> bool:
    return loss > floor and abs(to_log(loss) - target) <= ROUNDING * gap


def _roundest(value: float, near: Callable[[float], bool]) -> float:
    """The value with as few digits as are near enough."""
    return next((found for digits in range(12) if near(found := round(value, digits))), value)


def patch_axis(axis: Axes, values: ArrayLike, label: str, inverted: bool) -> None:
    """Make x a logarithmic scale with a tick at every value that stands apart from its neighbours."""
    found = np.unique(np.asarray(values, float))
    logs = np.log(found)
    span = max(float(np.ptp(logs)), 2.0)
    low, high = np.exp([logs[0] - MARGIN * span, logs[-1] + MARGIN * span])
    axis.set_xscale("log")
    axis.set_xlabel(label)
    ticks = list(found) if len(found) <= MOST_TICKS + 2 else nice_log_ticks(low, high)
    log_axis(axis.xaxis, ticks)
    axis.set_xlim(*((high, low) if inverted else (low, high)))
