"""`plan`: which design to train for a budget, what it will reach, how sure that is, and what came close."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scaling.decisions.planning.amounts import BudgetUnit
from scaling.decisions.planning.costs import Setting, Training, decide_setting, decide_training
from scaling.decisions.planning.evidence import Evidence, gather_evidence, load_table, other_outcomes
from scaling.decisions.planning.limits import explain_nothing
from scaling.decisions.planning.outlook import predictions
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.ranking import FrontierPoint, Ranked, find_frontier, ranked_design
from scaling.decisions.planning.search import State, order_of, search, smallest_budget
from scaling.decisions.planning.space import build_space
from scaling.errors import UsageError
from scaling.records import notes_on

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
FAR_OFF = 5.0  # times the noise of a seed, from which a law that misses its records is said to
NO_SPREAD = 1e-6  # of what a law misses by; seeds that differ less are alike but for rounding


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
    state: State = field(repr=False)

    @property
    def chosen(self) -> Ranked:
        """The design to train."""
        return self.ranked[0]

    @property
    def cost_unit(self) -> BudgetUnit:
        """Of frontier and budget line."""
        return self.question.budget.unit if self.question.budget else "gpu_hours"


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
    _check_carried(question, evidence)
    state = search(question, evidence, training, setting, build_space(question, evidence))
    if not len(state.contestants):
        raise explain_nothing(state.limits, smallest_budget(state, question))
    order = order_of(state, question)[:top]
    if not len(order):
        raise _unreachable(state, question, evidence)
    names = [str(state.space.design(int(state.contestants[rank]))) for rank in order]
    return Plan(
        question=question,
        evidence=evidence,
        training=training,
        setting=setting,
        ranked=tuple(ranked_design(rank, state, known.evidences, training, setting) for rank in order),
        frontier=tuple(find_frontier(state, question, evidence)),
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


def _check_carried(question: Question, evidence: Evidence) -> None:
    """Raise UsageError where the question asks for another value of a scale than the only one of the records."""
    asked = {"input": question.input_sizes, "patch": question.patch_sizes}
    for name, values in asked.items():
        known = float(evidence.places.scales[name][0])
        others = [value for value in values or () if value != known]
        if others and name not in evidence.surface.names:
            raise UsageError(
                f"--{name}-sizes {others[0]}: all records of {question.study} have {name} size {known:g}, so they "
                "carry no law over it; add cells with others, or leave the option out"
            )


def _check_target(question: Question, evidence: Evidence) -> None:
    if question.target is not None and not evidence.outcome.is_loss and not 0 < question.target < 1:
        raise UsageError(
            f"--target {question.target:g}: {evidence.outcome.label} lies between 0 and 100 %; write '84%' or 0.84"
        )


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
    misses, seeds = float(np.median(evidence.surface.sigma)), evidence.own_noise
    if misses > FAR_OFF * seeds:
        what = "loss" if evidence.outcome.is_loss else "odds of an error"
        times = f", {misses / seeds:.0f} times what seeds differ" if seeds > NO_SPREAD * misses else ""
        found.append(
            f"the law misses its records by {misses:.0%} of the {what}{times}: "
            "it is not of their form, and what it says of untried designs is doubtful"
        )
    return found
