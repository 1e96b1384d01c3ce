"""Draws of what every design would have reached with other seeds, and of a path between its designs.

All comparisons use the same draws, so that the base's own luck cancels. Shapes: R draws, Q costs, K designs of a path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.decisions.candidates import Candidate, Field
from scaling.decisions.outcomes import Array, Outcome, SeedNoise

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Spread:
    """An estimate with its 95 % interval and the chance of being above zero; a tie counts half."""

    estimate: float
    low: float
    high: float
    chance: float

    @staticmethod
    def of(draws: Array, estimate: float) -> "Spread":
        """From draws (R,)."""
        low, high = np.quantile(draws, (0.025, 0.975))
        return Spread(estimate, float(low), float(high), float(np.mean((draws > 0) + (draws == 0) / 2)))

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Draws:
    """Inner values of every design: what was observed, and (R,) draws around it."""

    outcome: Outcome
    observed: dict[str, float]
    drawn: dict[str, Array]

    def value(self, design: str) -> Spread:
        """What a design reaches, in the unit of the outcome."""
        observed, drawn = self._of(design)
        return Spread.of(self.outcome.outer(drawn), float(self.outcome.outer(observed)))

    def gain(self, candidate: Candidate, base: Candidate) -> Spread:
        """How much better a design is than another, in the unit of gains."""
        return self._gain(self._of(candidate.design), self._of(base.design))

    def gain_along(self, curve: "Curve", ratio: float) -> Spread:
        """How much better a path is at a cost ratio than at its start."""
        return self._gain(curve.at(ratio, self), self._of(curve.designs[0]))

    def difference(self, first: "Curve", second: "Curve", ratio: float) -> Spread:
        """How much better the first path is than the second at a cost ratio."""
        return self._gain(first.at(ratio, self), second.at(ratio, self))

    def chances_best(self, curves: dict[str, "Curve"], ratio: float) -> dict[str, float]:
        """By name, the chance that a path is the best at a cost ratio."""
        inner = np.stack([curve.at(ratio, self)[1] for curve in curves.values()])
        best = inner == inner.min(axis=0)
        shares = (best / best.sum(axis=0)).mean(axis=1)  # of those that tie, each an equal share
        return dict(zip(curves, map(float, shares), strict=True))

    def _of(self, design: str) -> tuple[Array, Array]:
        return np.array(self.observed[design]), self.drawn[design]

    def _gain(self, better: tuple[Array, Array], base: tuple[Array, Array]) -> Spread:
        outer, gain = self.outcome.outer, self.outcome.gain
        observed, draws = (gain(outer(one), outer(other)) for one, other in zip(better, base, strict=True))
        return Spread.of(draws, float(observed))


@dataclass(frozen=True, slots=True)
class Curve:
    """A path as a curve over one cost: straight lines between its designs, in logarithms of both."""

    designs: tuple[str, ...]
    ratios: Array
    """(K,) of the cost to the base's, increasing from 1."""

    @property
    def end(self) -> float:
        """The largest ratio."""
        return float(self.ratios[-1])

    def at(self, ratio: float, draws: Draws) -> tuple[Array, Array]:
        """Observed inner value, and its draws (R,), at a ratio of the cost."""
        logs = np.log(self.ratios)
        place = int(np.clip(np.searchsorted(logs, np.log(ratio)), 1, len(logs) - 1))
        share = (np.log(ratio) - logs[place - 1]) / (logs[place] - logs[place - 1])
        left, right = self.designs[place - 1], self.designs[place]
        observed = (1 - share) * draws.observed[left] + share * draws.observed[right]
        return np.array(observed), (1 - share) * draws.drawn[left] + share * draws.drawn[right]


def curve_of(path: Sequence[Candidate], cost: str) -> Curve | None:
    """A path over one cost; None where the cost is unknown, or does not grow with every step."""
    costs = np.array([candidate.costs.get(cost, np.nan) for candidate in path])
    if len(costs) < 2 or not np.all(np.isfinite(costs)) or not np.all(np.diff(costs) > 0):
        return None
    return Curve(tuple(candidate.design for candidate in path), costs / costs[0])


def draw_outcomes(field: Field, noise: SeedNoise, seed: int = 0) -> Draws:
    """Draw every design's mean: its seeds' noise, Student-t where it is estimated, and what reading it off adds."""
    outcome, generator = field.outcome, np.random.default_rng(seed)
    observed, drawn = {}, {}
    for candidate in field.candidates:
        if candidate.value is None:
            continue
        inner = outcome.inner(candidate.results)
        centre, error = float(inner.mean()), noise.estimate(candidate.value) / np.sqrt(len(inner))
        freedom = noise.degrees_of_freedom
        unit = generator.standard_normal(DRAWS) if freedom is None else generator.standard_t(freedom, DRAWS)
        reading = outcome.inner_error(candidate.value, candidate.reading_error) * generator.uniform(-1, 1, DRAWS)
        observed[candidate.design] = centre
        drawn[candidate.design] = centre + error * unit + reading
    return Draws(outcome, observed, drawn)
