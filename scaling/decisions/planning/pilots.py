"""Pilots: the next runs that would most make a plan's choice surer, for what they cost.

A choice hangs on how far the contenders lie from each other. Pilots are chosen one after another by how much of the
variance of these distances they take away per cost (Bayesian I-optimal design, Chaloner and Verdinelli 1995), in worlds
whose curves follow the law: there few cheap runs pin down exponents and floor, on which every design depends. In the
plan's own worlds every untried curve may lie off the law, and only a dear run at a contender's own size and input would
tell; chosen so, few hours of pilots told less in simulation, even where curves do lie off. Where records show that they
do, pilots are chosen in the plan's own worlds. Doubts are those of the plan's own worlds.
Shapes: R draws, K contenders, C candidates.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.decisions.outcomes import Array
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.conditioning import Beliefs, beliefs
from scaling.decisions.planning.doubts import Doubt, contenders, doubt, luck, worlds
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence
    from scaling.decisions.planning.plan import Plan

LEAST_TOLD = 0.01  # share of the variance that a pilot must take away
LEAST_WEIGHT = 1e-3  # of a contender, besides its chance of being the best


@dataclass(frozen=True, slots=True)
class Pilot:
    """One run that is worth its cost."""

    design: str
    again: bool
    """Whether the records have it already: a further seed."""
    cost: float
    """In the unit of the budget."""
    gpu_hours: float
    days: float
    after: Doubt
    """With this pilot and those before it."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        own = {"design": self.design, "again": self.again, "cost": self.cost}
        return own | {"gpu_hours": self.gpu_hours, "days": self.days, "after": self.after.to_json()}


@dataclass(frozen=True, slots=True)
class Pilots:
    """Runs to do next, in the order of what they are worth; none where none is worth its cost."""

    pilots: tuple[Pilot, ...]
    now: Doubt
    budget: Budget
    contenders: tuple[str, ...]
    """Designs that may be the best."""
    candidates: int
    """Designs that the budget allows as pilots."""
    unit: str
    """Of regret: 'points' or 'loss'."""

    @property
    def after(self) -> Doubt:
        """With all pilots."""
        return self.pilots[-1].after if self.pilots else self.now

    @property
    def cost(self) -> float:
        """Of all pilots, in the unit of the budget."""
        return sum(pilot.cost for pilot in self.pilots)

    @property
    def gpu_hours(self) -> float:
        """Of all pilots."""
        return sum(pilot.gpu_hours for pilot in self.pilots)

    @property
    def left(self) -> float:
        """Of the budget."""
        return self.budget.amount - self.cost

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pilots": [pilot.to_json() for pilot in self.pilots],
            "now": self.now.to_json(),
            "after": self.after.to_json(),
            "regret_unit": self.unit,
            "budget": self.budget.amount,
            "cost_unit": self.budget.unit,
            "cost": self.cost,
            "left": self.left,
            "gpu_hours": self.gpu_hours,
            "contenders": list(self.contenders),
            "candidates": self.candidates,
        }


def next_pilots(plan: "Plan", count: int, budget: Budget) -> Pilots:
    """The runs that tell most of how far the contenders lie from each other, for what they cost.

    Args:
        plan: whose choice is to be made surer.
        count: pilots at most.
        budget: of all of them together.

    Raises:
        UsageError: for a count below one, dollars without a price, a plan with a target, or a budget that pays for no
            pilot, with the cheapest.
    """
    _check(plan, count, budget)
    state = plan.state
    places, costs = _affordable(plan, budget)
    targets = contenders(plan)
    names = [str(state.space.design(int(place))) for place in places]
    seeds = plan.evidence.seeds_of(names)
    held, weights = _against_each_other(_as_followed(plan), plan, targets, places, seeds)
    lucks = np.random.default_rng(plan.question.seed).standard_normal((count, plan.evidence.draws))
    chosen = _greedy(held, weights, costs, budget.amount, lucks)
    doubts = _doubts(plan, targets, places[chosen], seeds[chosen], lucks)
    if len(chosen) == count:  # what one run tells then matters more than what it costs
        other = _greedy(held, weights, costs, budget.amount, lucks, power=0.0)
        after = _doubts(plan, targets, places[other], seeds[other], lucks)
        chosen, doubts = min((chosen, doubts), (other, after), key=lambda found: found[1][-1].regret)
    return Pilots(
        pilots=tuple(
            Pilot(
                design=names[place],
                again=bool(seeds[place]),
                cost=float(costs[place]),
                gpu_hours=float(state.costs.gpu_hours[places[place]]),
                days=float(state.costs.days[places[place]]),
                after=after,
            )
            for place, after in zip(chosen, doubts[1:], strict=True)
        ),
        now=doubts[0],
        budget=budget,
        contenders=tuple(str(state.space.design(int(place))) for place in targets),
        candidates=len(places),
        unit="loss" if plan.evidence.outcome.is_loss else "points",
    )


def _as_followed(plan: "Plan") -> "Evidence":
    """The records as if all curves followed the law, unless they show that these do not."""
    if not plan.evidence.may_follow:
        return plan.evidence
    return plan.evidence.as_if_followed(plan.question.draws, plan.question.seed)


def _against_each_other(
    evidence: "Evidence", plan: "Plan", targets: Array, places: Array, seeds: Array
) -> tuple[Beliefs, Array]:
    """Beliefs of the contenders' distances from their mean, weighted by the chance of being best; the weights."""
    drawn = worlds(evidence, plan.state.places.chosen(targets))
    weights = np.bincount(drawn.argmin(axis=1), minlength=len(targets)) / len(drawn) + LEAST_WEIGHT
    weights /= weights.sum()
    results = worlds(evidence, plan.state.places.chosen(places))
    return beliefs(drawn - (drawn @ weights)[:, None], results, luck(evidence, seeds)), weights


def _doubts(plan: "Plan", targets: Array, places: Array, seeds: Array, lucks: Array) -> list[Doubt]:
    """In the plan's own worlds, now and after each of some runs with those before it."""
    evidence, state = plan.evidence, plan.state
    drawn, results = (worlds(evidence, state.places.chosen(each)) for each in (targets, places))
    held = beliefs(drawn, results, luck(evidence, seeds))
    found = [doubt(held.targets, held.means, evidence.outcome)]
    for place, own in enumerate(lucks[: len(places)]):
        held = held.after(place, own)
        found.append(doubt(held.targets, held.means, evidence.outcome))
    return found


def _check(plan: "Plan", count: int, budget: Budget) -> None:
    if count < 1:
        raise UsageError(f"--next {count}: ask for one pilot or more")
    if budget.unit == "dollars" and plan.question.price is None:
        raise UsageError(f"--pilot-budget {budget} needs --price, the dollars of one GPU-hour")


def _affordable(plan: "Plan", budget: Budget) -> tuple[Array, Array]:
    """Designs of the search that the budget pays for, (C,), whatever the plan's own budget, and their costs."""
    state = plan.state
    costs = state.costs.in_unit(budget.unit, plan.question.price)
    possible = state.costs.trainable & state.costs.fits & state.limits.kept["extrapolation"]
    places = np.flatnonzero(possible & (costs <= budget.amount))
    if not len(places):
        every = np.flatnonzero(possible)
        cheapest = int(every[np.argmin(costs[every])])
        least = Budget(float(costs[cheapest]), budget.unit)
        raise UsageError(
            f"--pilot-budget {budget} pays for no run of the search; the cheapest, {state.space.design(cheapest)}, "
            f"takes {least}"
        )
    return places, costs[places]


def _greedy(held: Beliefs, weights: Array, costs: Array, left: float, lucks: Array, power: float = 1.0) -> list[int]:
    """Candidates one after another, by the variance that each takes away over cost^power.

    Args:
        held: of contenders against each other.
        weights: (K,), of their variances.
        costs: (C,).
        left: of the budget.
        lucks: (count, R), standard normal.
        power: 1 for what is told per cost, 0 for what is told.
    """
    least = LEAST_TOLD * float(weights @ held.targets.var(axis=0))
    found: list[int] = []
    open_ = np.isfinite(held.noise)
    for own in lucks:
        places = np.flatnonzero(open_ & (costs <= left))
        told = held.told(places, weights)
        worth = np.where(told > least, told / costs[places] ** power, 0.0)
        if not np.any(worth > 0):
            break
        place = int(places[np.argmax(worth)])
        held = held.after(place, own)
        left -= costs[place]
        open_[place] = False
        found.append(place)
    return found
