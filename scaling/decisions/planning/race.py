"""Which design is best within every budget, in every draw of a law. Shapes: M designs, R draws, B budgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scaling.decisions.outcomes import Array
from scaling.decisions.planning.outlook import CHUNK
from scaling.laws.surface import Places

WORK = 2**24  # draws x designs looked at; larger spaces are looked at in fewer draws
FEWEST_DRAWS = 128
NOBODY = -1


class Drawn(Protocol):
    """A surface, or what records say of designs with it."""

    @property
    def draws(self) -> int:
        """R."""
        ...

    def log_losses(self, places: Places, draws: slice = ...) -> Array:
        """Draws (R, M) of inner values."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Race:
    """The best of some designs within each budget; `NOBODY` where a budget affords none of them."""

    winners: Array
    """(R, B) of int, index into all designs, by each draw alone."""
    values: Array
    """(R, B), what they reach: inner values."""
    expected: Array
    """(B,) of int, the design whose median over the draws is best."""
    medians: Array
    """(B,), that median."""

    @property
    def chances(self) -> Array:
        """(B,), share of the draws in which the expected best is the best."""
        return (self.winners == self.expected).mean(axis=0)


def draws_for(surface: Drawn, designs: int) -> slice:
    """All draws, or evenly spaced ones where there are so many designs that all would take too long."""
    count = max(FEWEST_DRAWS, WORK // max(1, designs))
    return slice(None, None, max(1, surface.draws // count))


def race(surface: Drawn, places: Places, costs: Array, which: Array, budgets: Array, draws: slice) -> Race:
    """Sort designs by cost and keep the best so far at every budget, in chunks that fit a processor's cache.

    Args:
        surface: the law.
        places: of M designs.
        costs: (M,), in the unit of the budgets.
        which: of the designs take part, by index.
        budgets: (B,), ascending.
        draws: which of the surface's.
    """
    order = which[np.argsort(costs[which], kind="stable")]
    ends = np.searchsorted(costs[order], budgets, side="right").tolist()
    count = len(range(surface.draws)[draws])
    step = max(1, CHUNK // count)
    best, winner = np.full(count, np.inf), np.full(count, NOBODY)
    lowest_median, expected = np.inf, NOBODY
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        for first in range(start, end, step):
            part = order[first : min(first + step, end)]
            losses = surface.log_losses(places.chosen(part), draws)
            lowest = losses.argmin(axis=1)
            value = losses[np.arange(count), lowest]
            better = value < best
            best, winner = np.where(better, value, best), np.where(better, part[lowest], winner)
            medians = np.median(losses, axis=0)
            if medians.min() < lowest_median:
                lowest_median, expected = float(medians.min()), int(part[medians.argmin()])
        found.append((winner, best, expected, lowest_median))
    winners, values, expecteds, medians = zip(*found, strict=True)
    return Race(np.stack(winners, axis=1), np.stack(values, axis=1), np.array(expecteds), np.array(medians))


def joined(races: Sequence[Race]) -> Race:
    """The race of all designs, from those of its parts."""
    first = np.argmin([each.values for each in races], axis=0)
    expected = np.argmin([each.medians for each in races], axis=0)
    return Race(
        winners=np.take_along_axis(np.stack([each.winners for each in races]), first[None], 0)[0],
        values=np.min([each.values for each in races], axis=0),
        expected=np.take_along_axis(np.stack([each.expected for each in races]), expected[None], 0)[0],
        medians=np.min([each.medians for each in races], axis=0),
    )
