"""How the best patch, model, input and sequence grow with compute: a power law through the best of every budget.

For each draw of the law a straight line in logarithms, over those budgets alone at which compute is really shared
out: the scale is off its bounds, another one is too, and a still better design could be bought. Where only one scale
is left to grow, its exponent would be that of the cost and no finding. Shapes: M designs, R draws, B budgets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.decisions.outcomes import Array
from scaling.decisions.planning.race import NOBODY

SCALE_NAMES = {
    "patch_size": "patch size",
    "parameters": "model size",
    "input_size": "input size",
    "sequence_length": "sequence length",
}
NEAR = 1.1  # factor within which a design counts as at a bound, and two values as one
FEWEST_VALUES = 3  # of a scale between its bounds
FEWEST_BUDGETS = 4
SPAN = 5.0  # factor of compute that they cover
SHARE = 0.5  # of the draws in which there must be such budgets
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Range:
    """A value with the interval that holds 95 % of the draws."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Array, estimate: float | None = None) -> "Range":
        """Of draws (R,); their median where no estimate is given."""
        low, middle, high = map(float, np.quantile(draws, (TAIL, 0.5, 1 - TAIL)))
        return cls(middle if estimate is None else estimate, low, high)

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Growth:
    """A scale of the best design as a power of compute: `at_pivot (C / pivot)^exponent`."""

    exponent: Range
    at_pivot: float
    """Median over the draws."""
    pivot: float
    """Budget in the middle of those that the line went through."""
    budgets: tuple[float, float]
    """Between which it went, in the middle draw."""

    @property
    def per_tenfold(self) -> Range:
        """Factor by which the scale grows when compute grows tenfold."""
        own = self.exponent
        return Range(10**own.estimate, 10**own.low, 10**own.high)

    def at(self, budgets: Array) -> Array:
        """The power law."""
        return self.at_pivot * (budgets / self.pivot) ** self.exponent.estimate

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "exponent": self.exponent.to_json(),
            "at_pivot": self.at_pivot,
            "pivot": self.pivot,
            "budgets": list(self.budgets),
        }


def at_bounds(values: Array, groups: Array) -> Array:
    """Which designs have the smallest or the largest value of their group, or nearly, (M,) of bool."""
    found = np.zeros(len(values), dtype=bool)
    for group in np.unique(groups):
        mine = groups == group
        low, high = values[mine].min() * NEAR, values[mine].max() / NEAR
        found[mine] = (values[mine] <= low) | (values[mine] >= high)
    return found


def find_growths(
    scales: Mapping[str, Array], bound: Mapping[str, Array], winners: Array, last: Array, budgets: Array
) -> tuple[dict[str, Growth], dict[str, str]]:
    """Power laws of the scales that have one, and why the others have none.

    Args:
        scales: by name of `SCALE_NAMES`, (M,).
        bound: of those that can be chosen freely, which designs are at a bound, (M,) of bool.
        winners: (R, B) of int, see `Race`.
        last: (R,), the best designs of all, whatever they cost: from them on nothing grows.
        budgets: (B,).
    """
    growing = (winners != NOBODY) & (winners != last[:, None])
    between = {name: _different(scales[name][~at]) for name, at in bound.items()}
    free = {name: ~bound[name][winners] for name, count in between.items() if count >= FEWEST_VALUES}
    found, missing = {}, {}
    for name, values in scales.items():
        own = "patch_size" if name == "sequence_length" else name
        others = [each for other, each in free.items() if other != own]
        if own not in free:
            missing[name] = _too_few(own, between.get(own))
        elif not others:
            missing[name] = f"no other scale has {FEWEST_VALUES} values between its smallest and its largest"
        else:
            used = growing & free[own] & np.any(others, axis=0)
            growth = _fitted(np.log(values[winners]), np.log(budgets), used)
            if growth is None:
                missing[name] = f"nowhere over a factor {SPAN:g} of compute are it and another scale off their bounds"
            else:
                found[name] = growth
    return found, missing


def _too_few(name: str, between: int | None) -> str:
    if between is None:
        return f"one {SCALE_NAMES[name]} alone"
    words = SCALE_NAMES[name] if between == 1 else f"{SCALE_NAMES[name]}s"
    return f"{between} {words} between the smallest and the largest, of {FEWEST_VALUES} needed"


def _different(values: Array) -> int:
    """How many values differ by more than `NEAR`."""
    last, count = 0.0, 0
    for value in np.unique(values):
        if value > NEAR * last:
            last, count = float(value), count + 1
    return count


def _fitted(y: Array, x: Array, used: Array) -> Growth | None:
    """Lines through the used ones of (R, B) points, one for each draw that has enough of them."""
    first, last = np.where(used, x, np.inf).min(axis=1), np.where(used, x, -np.inf).max(axis=1)
    enough = (used.sum(axis=1) >= FEWEST_BUDGETS) & (last - first >= np.log(SPAN))
    if enough.mean() < SHARE:
        return None
    weight, y = used[enough].astype(float), y[enough]
    count = weight.sum(axis=1, keepdims=True)
    middle, height = (weight * x).sum(axis=1, keepdims=True) / count, (weight * y).sum(axis=1, keepdims=True) / count
    off = weight * (x - middle)
    slope = (off * (y - height)).sum(axis=1) / (off**2).sum(axis=1)
    pivot = float(np.median(middle))
    at_pivot = float(np.exp(np.median(height[:, 0] + slope * (pivot - middle[:, 0]))))
    from_, to = (float(np.exp(np.median(end[enough]))) for end in (first, last))
    return Growth(Range.of(slope), at_pivot, float(np.exp(pivot)), (from_, to))
