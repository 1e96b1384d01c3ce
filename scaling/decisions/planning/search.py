"""The search: costs, limits and chances of every design of a space. Shapes: M designs, F of them contestants."""

import math
from dataclasses import dataclass

import numpy as np

from scaling.decisions.outcomes import Array
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.costs import Costs, Setting, Training, cost_space
from scaling.decisions.planning.evidence import Evidence
from scaling.decisions.planning.limits import Limits, find_limits
from scaling.decisions.planning.outlook import Contest, beyond_data, contest, places_of
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.space import Space
from scaling.laws.surface import Places

LIKELY = 0.5  # chance from which a design counts as reaching a target


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a plan was computed from, for paths, pilots and figures."""

    space: Space
    places: Places
    costs: Costs
    limits: Limits
    contestants: Array
    """(F,) places of the smallest feasible patch of every model and input, and of those tried; with a target of all."""
    contest: Contest


def search(question: Question, evidence: Evidence, training: Training, setting: Setting, space: Space) -> State:
    """Try every design."""
    costs = cost_space(space, training, setting)
    places = places_of(space, evidence, training.images)
    limits = find_limits(costs, beyond_data(places, evidence), question)
    contestants = np.flatnonzero(limits.feasible)
    if question.target is None:
        tried = contestants[evidence.tried(places.chosen(contestants)) >= 0]  # these may lie off the law
        contestants = np.union1d(_smallest_patches(space, contestants), tried)
    return State(
        space, places, costs, limits, contestants, contest(evidence, places.chosen(contestants), question.target)
    )


def _smallest_patches(space: Space, found: Array) -> Array:
    """Of every model and input the design found with the smallest patch, which no law has worse than a larger one."""
    order = found[np.lexsort((space.patch_size[found], space.curves[found]))]
    _, first = np.unique(space.curves[order], return_index=True)
    return order[first]


def order_of(state: State, question: Question) -> Array:
    """Contestants (places among them) in the order of the answer: the best first, or with a target the cheapest."""
    if question.target is None:
        return np.lexsort((state.costs.gpu_hours[state.contestants], state.contest.median))
    reach = state.contest.chance_target
    assert reach is not None
    unit = question.budget.unit if question.budget else "gpu_hours"
    cost = state.costs.in_unit(unit, question.price)[state.contestants]
    likely = np.flatnonzero(reach >= LIKELY)
    return likely[np.argsort(cost[likely], kind="stable")]


def smallest_budget(state: State, question: Question) -> str | None:
    """The least of a limit that would do, where it alone leaves no design; None if several do together."""
    limits = (("budget", _budget_words), ("deadline", _deadline_words), ("inference", _inference_words))
    for name, words in limits:
        over = state.limits.over.get(name)
        if over is None:
            continue
        others = np.flatnonzero(state.limits.but(name) & np.isfinite(over))
        if len(others):
            best = int(others[np.argmin(over[others])])
            return f"{words(float(over[best]), question)} (for {state.space.design(best)})"
    return None


def _budget_words(over: float, question: Question) -> str:
    assert question.budget is not None
    return f"the smallest budget that would do is {Budget(_up(over * question.budget.amount), question.budget.unit)}"


def _deadline_words(over: float, question: Question) -> str:
    return f"the nearest deadline that would do is {_up(over * (question.deadline_days or 0.0)):g} days"


def _inference_words(over: float, question: Question) -> str:
    return f"the smallest inference budget that would do is {_up(over):g} times the one given"


def _up(value: float) -> float:
    """Rounded up to three digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / step * (1 - 1e-12)) * step
