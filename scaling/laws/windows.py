"""What one would have predicted earlier: the law fitted to the first places of a curve, for each number of them.

Places go from the end with the worse y to the end with the better one, as a study usually grows.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.errors import ScalingError, UsageError
from scaling.laws.choosing import fit_or_choose
from scaling.laws.extrapolation import Extrapolation, extrapolate
from scaling.laws.law import Array
from scaling.laws.points import FitError, distance_from_end, tail_weights
from scaling.laws.results import FitResult

AT_MOST = 10  # windows of a curve


@dataclass(frozen=True, slots=True)
class Window:
    """A law fitted to the first places of a curve, and how it predicts the next place and the last."""

    up_to: float
    """The x of the last place fitted."""
    points: int
    law: str
    next_x: float
    next: Extrapolation
    last_x: float
    last: Extrapolation

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        ahead = {
            "next": {"x": self.next_x} | self.next.to_json(),
            "last": {"x": self.last_x} | self.last.to_json(),
        }
        return {"fitted_up_to": self.up_to, "points": self.points, "law": self.law} | ahead


def expanding_windows(result: FitResult) -> tuple[Window, ...]:
    """Fit a curve's first places again, by the rule that fitted all of it, and predict those that follow.

    Returns:
        A window for each number of places that can be fitted, at most 10, spread evenly.

    Raises:
        FitError: if no number of them can.
        UsageError: for a law of several scales, or intervals by clusters.
    """
    check_windows(len(result.x), result.fitted.options.method)
    places = _ordered_places(result)
    problem = "all points are at the same x"
    for count in range(1, len(places)):
        try:
            first = _window(result, places, count)
        except ScalingError as error:  # the options hold for the whole curve: too few points
            problem = str(error)
            continue
        others = np.linspace(count, len(places) - 1, min(AT_MOST, len(places) - count)).round().astype(int)[1:]
        return first, *_possible(result, places, others)
    raise FitError(f"no first places of the curve can be fitted: {problem}")


def check_windows(scales: int, intervals: str) -> None:
    """See that windows can be made.

    Raises:
        UsageError: for several scales, which have no order, or intervals by clusters.
    """
    if scales != 1:
        raise UsageError(f"--windows goes along one scale, and --x names {scales}: leave out all but one")
    if intervals == "group":
        raise UsageError("--windows with --intervals group: clusters do not follow points; use pairs")


def _possible(result: FitResult, places: Array, counts: Array) -> list[Window]:
    windows = []
    for count in counts:
        try:
            windows.append(_window(result, places, int(count)))
        except ScalingError:  # such as a prediction without a logarithm
            continue
    return windows


def _ordered_places(result: FitResult) -> Array:
    """The different x, from the end with the worse y to the other."""
    points = result.fitted.points
    x, first = np.unique(points.scales[0], return_index=True)
    return x[np.argsort(-distance_from_end(points)[first])]


def _window(result: FitResult, places: Array, count: int) -> Window:
    points, options = result.fitted.points, result.fitted.options
    x = points.scales[0]
    seen = points.chosen(np.isin(x, places[:count]))
    law = "auto" if result.choice else result.fitted.law
    # Weights that fall from an end fall alike from another, but their mean is 1 in each fit.
    fitted, _ = fit_or_choose(replace(seen, weights=tail_weights(seen, 0.0)), law, result.x, options)
    averaged = result.choice is not None and options.tail_weight == 0
    upcoming = extrapolate(fitted, points.chosen(x == places[count]), averaged)
    final = upcoming if count == len(places) - 1 else extrapolate(fitted, points.chosen(x == places[-1]), averaged)
    ends = float(places[count]), upcoming, float(places[-1]), final
    return Window(float(places[count - 1]), len(seen.y), fitted.law.name, *ends)
