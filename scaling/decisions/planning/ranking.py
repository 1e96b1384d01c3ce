"""Designs of an answer: what they will reach, cost, and are limited by; and the frontier."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from scaling.cost import CostEstimate
from scaling.cost.roofline import INTERVAL
from scaling.decisions.planning.amounts import BudgetUnit
from scaling.decisions.planning.costs import HOURS_PER_DAY, Setting, Training, full_estimate
from scaling.decisions.planning.evidence import Evidence
from scaling.decisions.planning.outlook import Prediction, places_of, point_predictions, predictions
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.search import State

BEYOND = 1.05  # factor from which a design is called beyond the records
SMALLEST_SPREAD = 1e-6  # of a logarithm, for speeds known exactly


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
    """Of keeping within a budget in GPU-hours or dollars, and a deadline, as far as the hardware's speed is known."""
    gpus: int
    """Of the last stage, as is the layout of its batch."""
    gpus_of_stages: tuple[int, ...]
    micro_batch_size: int
    accumulation: int
    memory_bytes_per_gpu: float
    """Of the stage that needs most."""
    forward_flops_per_image: float
    milliseconds_per_image: float
    limited_by: str
    """What keeps it from the next smaller patch."""
    attention_share: float
    """Of the forward FLOPs."""
    beyond_data: float
    """Factor outside the range of the records; 1 inside."""

    @property
    def extrapolated(self) -> bool:
        """Whether it lies beyond the records by more than rounding."""
        return self.beyond_data > BEYOND

    def cost(self, unit: BudgetUnit) -> float:
        """Of its training, in the unit of a budget."""
        if unit == "flops":
            return self.training_flops
        return self.gpu_hours.estimate if unit == "gpu_hours" else self.dollars or 0.0


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A design that no cheaper one is expected to equal."""

    design: str
    cost: float
    """In the unit of the budget; GPU-hours without one."""
    prediction: Prediction


def ranked_design(
    rank: int, state: State, evidences: Sequence[Evidence], training: Training, setting: Setting
) -> Ranked:
    """All there is to say of one contestant."""
    place = int(state.contestants[rank])
    design, costs = state.space.design(place), state.costs
    row = full_estimate(design, training, setting)
    known, placement = row.estimate, row.estimate.placement
    assert placement is not None  # it is feasible
    stages = [part.estimate for part in row.budget.stages] if row.budget else [known]
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
        gpus_of_stages=tuple(each.placement.gpus for each in stages if each.placement),
        micro_batch_size=placement.micro_batch_size,
        accumulation=placement.accumulation,
        memory_bytes_per_gpu=max(_memory(each) for each in stages),
        forward_flops_per_image=float(costs.forward_flops[place]),
        milliseconds_per_image=float(costs.milliseconds[place]),
        limited_by=_limited_by(place, state),
        attention_share=known.cost.forward.attention / known.cost.forward.total,
        beyond_data=float(state.limits.beyond[place]),
    )


def _memory(stage: CostEstimate) -> float:
    micro_batch = stage.placement.micro_batch_size if stage.placement else 0
    return float(stage.model_state.total + micro_batch * stage.cost.peak_bytes_per_image)


def _chance_within(hours: Prediction, question: Question) -> float | None:
    """Chance that hours, log-normal with this 95 % interval, keep within budget and deadline; None without either."""
    limits = []
    if question.budget is not None and question.budget.unit != "flops":
        limits.append(question.budget.amount / ((question.price or 1.0) if question.budget.unit == "dollars" else 1.0))
    if question.deadline_days is not None and question.gpus is not None:
        limits.append(HOURS_PER_DAY * question.deadline_days * question.gpus)
    if not limits:
        return None
    spread = max(math.log(hours.high / hours.low) / (2 * INTERVAL), SMALLEST_SPREAD)
    return NormalDist().cdf(math.log(min(limits) / hours.estimate) / spread)


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


def find_frontier(state: State, question: Question, evidence: Evidence) -> list[FrontierPoint]:
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
