"""The points of one curve: checked, in a fixed order, and in units of order one. Shapes: S scales, N points."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from scaling.errors import ScalingError, UsageError
from scaling.laws.law import Array

Link: TypeAlias = Literal["none", "error", "accuracy", "error-percent", "accuracy-percent"]
LINKS: tuple[Link, ...] = ("none", "error", "accuracy", "error-percent", "accuracy-percent")


class FitError(ScalingError):
    """Data that cannot carry the law asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Scales and what they change, sorted, so that no result depends on the order of rows."""

    scales: Array
    """(S, N), positive."""
    y: Array
    """(N,), after the link: a loss, or the odds of an error."""
    weights: Array
    """(N,), positive, of mean 1."""
    link: Link

    @property
    def different(self) -> int:
        """Number of different places on the scales."""
        return len(np.unique(self.scales, axis=1).T)

    def chosen(self, mask: Array) -> "Points":
        """Some of the points."""
        return Points(self.scales[:, mask], self.y[mask], self.weights[mask], self.link)

    def from_link(self, odds: Array) -> Array:
        """Values of y in the unit they were given in; odds of infinity are an error of 100 %, negative ones of 0."""
        if self.link == "none":
            return odds
        odds = np.maximum(odds, 0.0)
        with np.errstate(invalid="ignore"):
            error = np.where(np.isposinf(odds), 1.0, odds / (1 + odds))
        return (error if self.link.startswith("error") else 1 - error) * _whole(self.link)

    def to_link(self, y: ArrayLike) -> Array:
        """What a law is fitted to, for values of y."""
        return _linked(np.asarray(y, dtype=float), self.link)


def gather(
    scales: ArrayLike,
    y: ArrayLike,
    errors: ArrayLike | None = None,
    link: Link = "none",
    tail_weight: float = 0.0,
    signed: bool = False,
) -> Points:
    """Check and sort points.

    Args:
        scales: (N,) or (S, N).
        y: (N,) losses; with a link rates, which become the odds of an error, so that no law predicts more
            than 100 %: shares with 'error' or 'accuracy', percentages with '-percent' behind it.
        errors: (N,) standard errors of y; points weigh by the inverse squares of those of the residuals.
        link: see y.
        tail_weight: q; for extrapolation, points also weigh ``|x / x_end|^q`` on the first scale, where x_end is
            the end with the lower y (the largest model, the smallest patch).
        signed: whether y may be negative (linear residuals).

    Raises:
        FitError: for values that are not finite, or not positive where they must be.
        UsageError: for a link that does not exist.
    """
    x, values = np.atleast_2d(np.asarray(scales, dtype=float)), np.asarray(y, dtype=float)
    if link not in LINKS:
        raise UsageError(f"unknown link '{link}': use {', '.join(LINKS)}")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(values)) and np.all(x > 0)):
        raise FitError("a scaling law needs finite y, and finite positive x")
    values = _linked(values, link)
    if not signed and not np.all(values > 0):
        raise FitError("a scaling law needs positive y; use linear residuals for others")
    weights = np.ones_like(values)
    if errors is not None:
        with np.errstate(divide="ignore", over="ignore"):
            deviations = np.asarray(errors, dtype=float) * _link_slope(values, link)
            weights = (deviations if signed else deviations / values) ** -2
        if not np.all(np.isfinite(weights) & (weights > 0)):
            raise FitError("standard errors must be finite and positive, and not absurdly small or large")
    order = np.lexsort((values, *x[::-1]))
    points = Points(x[:, order], values[order], weights[order], link)
    return replace(points, weights=tail_weights(points, tail_weight)) if x.size else points


def tail_weights(points: Points, q: float) -> Array:
    """The points' weights times |x / x_end|^q, of mean 1: how much each point says about the end."""
    weights = points.weights * np.exp(-q * distance_from_end(points))
    return weights / weights.mean()


def distance_from_end(points: Points) -> Array:
    """How far each point is on the first scale, in logarithms, from the end at which y is lower: (N,)."""
    log_x, y = np.log(points.scales[0]), points.y
    falling = np.sum((log_x - log_x.mean()) * (y - y.mean())) <= 0
    return log_x.max() - log_x if falling else log_x - log_x.min()


def _whole(link: Link) -> float:
    """What 100 % is."""
    return 100.0 if link.endswith("-percent") else 1.0


def _linked(values: Array, link: Link) -> Array:
    if link == "none":
        return values
    share = values / _whole(link)
    if not np.all((share > 0) & (share < 1)):
        raise FitError(f"link '{link}': rates lie between 0 and {_whole(link):g}, without the ends")
    return share / (1 - share) if link.startswith("error") else (1 - share) / share


def _link_slope(values: Array, link: Link) -> ArrayLike:
    """How much the linked values change with what was given, up to the sign; the same for errors and accuracies."""
    return 1.0 if link == "none" else (1 + values) ** 2 / _whole(link)
