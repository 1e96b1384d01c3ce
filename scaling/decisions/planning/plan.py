"""`plan`: which design to train for a budget, what it will reach, how sure that is, and what came close."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from scaling.cost.roofline import INTERVAL
from scaling.decisions.outcomes import Array
from scaling.decisions.planning.amounts import Budget, BudgetUnit
from scaling.decisions.planning.costs import (
    Costs,
    Setting,
    Training,
    cost_space,
    decide_setting,
    decide_training,
    full_estimate,
)
from scaling.decisions.planning.evidence import Evidence, gather_evidence, load_table, other_outcomes
from scaling.decisions.planning.limits import Limits, explain_nothing, find_limits
from scaling.decisions.planning.outlook import (
    Contest,
    Prediction,
    beyond_data,
    contest,
    places_of,
    point_predictions,
    predictions,
)
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.space import Space, build_space
from scaling.errors import UsageError
from scaling.laws.surface import Places
from scaling.records import notes_on

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
LONG = 0.5  # share of a design's FLOPs in attention from which the sequence is called long
LIKELY = 0.5  # chance from which a design counts as reaching a target


@dataclass(frozen=True, slots=True)
class Ranked:
    """One design of the answer."""

    design: str
    predictions: dict[str, Prediction]
    """By outcome; the one that designs are ranked by comes first."""
    chance_best: float
    """Of the best expected outcome of all designs within the limits."""
    chance_target: float | None
    """Of reaching the target in one training."""
    measured: float | None
    """What the records say of this very design."""
    gpu_hours: Prediction
    training_flops: float
    days: float
    dollars: float | None
    chance_within: float | None
    """Of keeping within a budget in GPU-hours or dollars, as far as the hardware's speed is known."""
    gpus: int
    micro_batch_size: int
    accumulation: int
    memory_bytes_per_gpu: float
    forward_flops_per_image: float
    milliseconds_per_image: float
    limited_by: str
    """What keeps it from the next smaller patch."""
    attention_share: float
    """Of the forward FLOPs."""
    beyond_data: float
    """Factor outside the range of the records; 1 inside."""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A design that no cheaper one is expected to equal."""

    design: str
    cost: float
    """In the unit of the budget; GPU-hours without one."""
    prediction: Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The answer to a question."""

    question: Question
    evidence: Evidence
    training: Training
    setting: Setting
    ranked: tuple[Ranked, ...]
    frontier: tuple[FrontierPoint, ...]
    ruled_out: dict[str, int]
    """Designs by the limit that they break."""
    considered: int
    feasible: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    """What the publisher of records says of the designs returned."""
    state: "State" = field(repr=False)

    @property
    def chosen(self) -> Ranked:
        """The design to train."""
        return self.ranked[0]

    @property
    def cost_unit(self) -> BudgetUnit:
        """Of frontier and budget line."""
        return self.question.budget.unit if self.question.budget else "gpu_hours"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a plan was computed from, for paths, pilots and figures. Shapes: M designs, F of them contestants."""

    space: Space
    places: Places
    costs: Costs
    limits: Limits
    contestants: Array
    """(F,) places of the smallest feasible patch of every model and input; of all feasible designs with a target."""
    contest: Contest


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Records and what they say, for any number of questions about them."""

    table: "pd.DataFrame"
    evidences: tuple[Evidence, ...]
    """On the outcome that designs are ranked by, then on the others that the records state."""


def learn(question: Question, table: "pd.DataFrame | None" = None) -> Known:
    """Fit surfaces to the records of a question; what it asks beyond records, noise and draws plays no part.

    Args:
        question: names the records, the outcome, the seed noise, what is held out, and the draws.
        table: records, instead of those that the question names.

    Raises:
        PlanError: if the records carry no law.
    """
    records = load_table(question) if table is None else table
    main = gather_evidence(records, question)
    return Known(records, (main, *other_outcomes(records, question, main)))


def plan(question: Question, table: "pd.DataFrame | None" = None, top: int = TOP) -> Plan:
    """Answer a question.

    Args:
        question: what is asked.
        table: records, instead of those that the question names.
        top: designs to return.

    Raises:
        PlanError: if the records carry no law.
        UsageError: for limits that contradict each other or leave no design, with the smallest budget that would do.
    """
    check_spending(question)
    return decide(question, learn(question, table), top)


def decide(question: Question, known: Known, top: int = TOP) -> Plan:
    """Answer a question with what is known; see `plan`."""
    check_spending(question)
    evidence = known.evidences[0]
    _check_target(question, evidence)
    training, setting = decide_training(question, evidence), decide_setting(question, evidence)
    state = _search(question, evidence, training, setting, build_space(question, evidence))
    if not len(state.contestants):
        raise explain_nothing(state.limits, _smallest_budget(state, question))
    order = _order(state, question)[:top]
    if not len(order):
        raise _unreachable(state, question, evidence)
    names = [str(state.space.design(int(state.contestants[rank]))) for rank in order]
    return Plan(
        question=question,
        evidence=evidence,
        training=training,
        setting=setting,
        ranked=tuple(_ranked(rank, state, known.evidences, training, setting) for rank in order),
        frontier=tuple(_frontier(state, question, evidence)),
        ruled_out=state.limits.counts(),
        considered=len(state.space),
        feasible=int(state.limits.feasible.sum()),
        warnings=tuple(_warnings(question, evidence, training)),
        notes=tuple(notes_on(known.table[known.table[evidence.outcome.column].notna()], names)),
        state=state,
    )


def check_spending(question: Question) -> None:
    """Raise UsageError for a question without anything to spend or to reach."""
    if question.budget is None and question.deadline_days is None and question.target is None:
        raise UsageError(
            "say what can be spent: --budget '5000 gpu-hours', --deadline '14 days' with --gpus 64, or --target"
        )


def _search(question: Question, evidence: Evidence, training: Training, setting: Setting, space: Space) -> State:
    costs = cost_space(space, training, setting)
    places = places_of(space, evidence, training.images)
    limits = find_limits(costs, beyond_data(places, evidence), question)
    contestants = np.flatnonzero(limits.feasible)
    if question.target is None:
        contestants = _smallest_patches(space, contestants)
    return State(
        space, places, costs, limits, contestants, contest(evidence, places.chosen(contestants), question.target)
    )


def _smallest_patches(space: Space, found: Array) -> Array:
    """Of every model and input the design found with the smallest patch, which no law has worse than a larger one."""
    order = found[np.lexsort((space.patch_size[found], space.curves[found]))]
    _, first = np.unique(space.curves[order], return_index=True)
    return order[first]


def _check_target(question: Question, evidence: Evidence) -> None:
    if question.target is not None and not evidence.outcome.is_loss and not 0 < question.target < 1:
        raise UsageError(
            f"--target {question.target:g}: {evidence.outcome.label} lies between 0 and 100 %; write '84%' or 0.84"
        )


def _order(state: State, question: Question) -> Array:
    """Contestants (places among them) in the order of the answer: the best first, or with a target the cheapest."""
    if question.target is None:
        return np.lexsort((state.costs.gpu_hours[state.contestants], state.contest.median))
    reach = state.contest.chance_target
    assert reach is not None
    unit = question.budget.unit if question.budget else "gpu_hours"
    cost = state.costs.in_unit(unit, question.price)[state.contestants]
    likely = np.flatnonzero(reach >= LIKELY)
    return likely[np.argsort(cost[likely], kind="stable")]


def _ranked(rank: int, state: State, evidences: Sequence[Evidence], training: Training, setting: Setting) -> Ranked:
    place = int(state.contestants[rank])
    design, costs = state.space.design(place), state.costs
    row = full_estimate(design, training, setting)
    known, placement = row.estimate, row.estimate.placement
    assert placement is not None  # it is feasible
    memory = known.model_state.total + placement.micro_batch_size * known.cost.peak_bytes_per_image
    here = np.array([place])
    reach = state.contest.chance_target
    price = setting.question.price
    hours = Prediction(*(float(array[place]) for array in (costs.gpu_hours, costs.gpu_hours_low, costs.gpu_hours_high)))
    return Ranked(
        design=str(design),
        predictions={
            each.outcome.column: predictions(each, places_of(state.space.chosen(here), each, training.images))[0]
            for each in evidences
            if each.kind(design.architecture, design.head) is not None
        },
        chance_best=float(state.contest.chance_best[rank]),
        chance_target=None if reach is None else float(reach[rank]),
        measured=evidences[0].measured(str(design)),
        gpu_hours=hours,
        training_flops=float(costs.flops[place]),
        days=float(costs.days[place]),
        dollars=None if price is None else hours.estimate * price,
        chance_within=_chance_within(hours, setting.question),
        gpus=placement.gpus,
        micro_batch_size=placement.micro_batch_size,
        accumulation=placement.accumulation,
        memory_bytes_per_gpu=float(memory),
        forward_flops_per_image=float(costs.forward_flops[place]),
        milliseconds_per_image=float(costs.milliseconds[place]),
        limited_by=_limited_by(place, state),
        attention_share=known.cost.forward.attention / known.cost.forward.total,
        beyond_data=float(state.limits.beyond[place]),
    )


def _chance_within(hours: Prediction, question: Question) -> float | None:
    """Chance that hours, log-normal with this 95 % interval, stay below the budget; None where it is not of time."""
    if question.budget is None or question.budget.unit == "flops":
        return None
    limit = question.budget.amount / (question.price if question.budget.unit == "dollars" and question.price else 1.0)
    spread = math.log(hours.high / hours.low) / (2 * INTERVAL)
    return NormalDist().cdf(math.log(limit / hours.estimate) / spread)


def _limited_by(place: int, state: State) -> str:
    """What keeps a design from the next smaller patch: a limit, and by how much it would be broken."""
    space = state.space
    curve = np.flatnonzero((space.model == space.model[place]) & (space.input_size == space.input_size[place]))
    smaller = curve[space.patch_size[curve] < space.patch_size[place]]
    if not len(smaller):
        return "-"
    after = int(smaller[np.argmax(space.patch_size[smaller])])
    limit = state.limits.first(after)
    if limit is None:
        return "within"
    over = state.limits.over.get(limit)
    if limit == "extrapolation":
        over = state.limits.beyond
    size = f" {over[after]:.2g}x" if over is not None and np.isfinite(over[after]) else ""
    return f"{space.patch_size[after]:.0f}: {limit}{size}"


def _frontier(state: State, question: Question, evidence: Evidence) -> list[FrontierPoint]:
    """Designs within all limits but the budget that no cheaper one is expected to equal."""
    within = np.flatnonzero(state.limits.but("budget"))
    unit = question.budget.unit if question.budget else "gpu_hours"
    cost = state.costs.in_unit(unit, question.price)[within]
    means = point_predictions(evidence, state.places.chosen(within))
    order = np.lexsort((means, cost))
    best = np.minimum.accumulate(means[order])
    kept = order[np.concatenate([[True], best[1:] < best[:-1]])]
    found = predictions(evidence, state.places.chosen(within[kept]))
    return [
        FrontierPoint(str(state.space.design(int(within[place]))), float(cost[place]), prediction)
        for place, prediction in zip(kept, found, strict=True)
    ]


def _smallest_budget(state: State, question: Question) -> str | None:
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


def _unreachable(state: State, question: Question, evidence: Evidence) -> UsageError:
    """No design reaches the target: which comes nearest."""
    reach = state.contest.chance_target
    assert reach is not None
    best = int(np.argmin(state.contest.median))
    place = int(state.contestants[best])
    found = predictions(evidence, state.places.chosen(np.array([place])))[0]
    return UsageError(
        f"no design within the limits is expected to reach {_shown(question.target, evidence)}; the best, "
        f"{state.space.design(place)}, is expected at {_shown(found.estimate, evidence)} "
        f"(95 % interval {_shown(found.low, evidence)} to {_shown(found.high, evidence)}; "
        f"{reach[best]:.0%} likely to reach it)"
    )


def _shown(value: float | None, evidence: Evidence) -> str:
    assert value is not None
    return f"{value:.4g}" if evidence.outcome.is_loss else f"{100 * value:.4g} %"


def _warnings(question: Question, evidence: Evidence, training: Training) -> list[str]:
    """What makes the numbers less sure than they look."""
    found = []
    if training.images is not None and "data" not in evidence.places.scales:
        known = evidence.images_seen
        if known is None:
            found.append(
                f"{question.study} does not vary how long models are trained: its laws hold for trainings like its "
                f"own, what {training.words} change is not foreseen"
            )
        elif not 0.9 < training.images / known < 1.1:
            found.append(
                f"the records were trained on {known:,.0f} images, not on {training.images:,.0f}; what that changes "
                "is not foreseen: add cells with other lengths"
            )
    if evidence.noise.degrees_of_freedom is None:
        found.append(evidence.noise.words)
    return found
