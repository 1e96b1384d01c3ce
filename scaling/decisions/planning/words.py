"""A plan in sentences that a person can act on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from scaling.decisions.planning.limits import WORDS
from scaling.decisions.planning.outlook import Prediction
from scaling.decisions.verdict import chance_words

if TYPE_CHECKING:
    from scaling.decisions.outcomes import Outcome
    from scaling.decisions.planning.plan import Plan

UNSURE = 0.8  # chance of being best below which the runner-up is named as a rival
SAFE = 0.9  # chance of keeping within the budget below which a warning is due


def sentences(plan: "Plan") -> list[str]:
    """What to train, what came close, and what more or less would buy."""
    return [*_answer(plan), *_rival(plan), *_cheaper(plan), *_next_step(plan)]


def ruled_out(plan: "Plan") -> str:
    """How many designs were looked at, and what the others were left out for."""
    counts = ", ".join(f"{count:,} {WORDS[name]}" for name, count in plan.ruled_out.items())
    return f"{plan.feasible:,} of {plan.considered:,} designs keep within the limits" + (
        f" ({counts})" if counts else ""
    )


def value_words(value: float, outcome: "Outcome") -> str:
    """Such as '84.3 %' or '0.7123'."""
    return f"{value:.4g}" if outcome.is_loss else f"{100 * value:.1f} %"


def interval_words(found: Prediction, outcome: "Outcome") -> str:
    """Such as '84.3 % [83.6, 85.1]'."""
    if outcome.is_loss:
        return f"{found.estimate:.4g} [{found.low:.4g}, {found.high:.4g}]"
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _answer(plan: "Plan") -> Iterator[str]:
    best, outcome = plan.chosen, plan.evidence.outcome
    found = best.predictions[outcome.column]
    low, high = (value_words(each, outcome) for each in (found.low, found.high))
    reach = f"{outcome.label} {value_words(found.estimate, outcome)} (95 % interval {low} to {high})"
    hours = best.gpu_hours
    cost = f"{_hours(hours.estimate)} GPU-hours ({_hours(hours.low)} to {_hours(hours.high)})"
    least, most = min(best.gpus_of_stages), max(best.gpus_of_stages)
    gpus = f"{least} to {most} GPUs" if least < most else f"{most} GPUs" if most > 1 else "one GPU"
    where = f"{_days(best.days)} on {gpus}"
    far = f"; it lies {best.beyond_data:.2g}x beyond the records" if best.extrapolated else ""
    if plan.question.target is None:
        odds = f"the best of {plan.feasible:,} designs with probability {chance_words(best.chance_best)}"
        yield f"Train {best.design}: {reach}, {odds}, for {cost}, {where}{far}."
        yield from _overrun(plan)
        return
    target = value_words(plan.question.target, outcome)
    odds = f"with probability {chance_words(best.chance_target or 0.0)}"
    yield f"The cheapest expected to reach {target} is {best.design} {odds}: {reach}, for {cost}, {where}{far}."


def _overrun(plan: "Plan") -> Iterator[str]:
    """Whether the choice may take more than there is."""
    within = plan.chosen.chance_within
    if within is not None and within < SAFE:
        yield (
            f"It may take more than there is: it keeps within budget and deadline with probability "
            f"{chance_words(within)}, as far as the speed of {plan.setting.hardware.name} is known (--calibration "
            "narrows that)."
        )


def _rival(plan: "Plan") -> Iterator[str]:
    """The design most likely to be better than the choice, where that is not sure."""
    state, outcome = plan.state, plan.evidence.outcome
    chances = state.contest.chance_best.copy()
    chosen = int(np.argmin(state.contest.median))
    if plan.question.target is not None or chances[chosen] >= UNSURE or len(chances) < 2:
        return
    chances[chosen] = 0.0
    rank = int(np.argmax(chances))
    place = int(state.contestants[rank])
    expected = value_words(float(outcome.outer(state.contest.median[rank])), outcome)
    cost = state.costs.in_unit(plan.cost_unit, plan.question.price)
    if chances[rank] > 0:
        yield (
            f"Not sure: {state.space.design(place)} is the best with probability {chance_words(float(chances[rank]))} "
            f"({expected} expected, for {cost[place] / cost[state.contestants[chosen]]:.2g}x the cost); --next says "
            "which runs would tell."
        )


def _cheaper(plan: "Plan") -> Iterator[str]:
    """The cheapest design that is expected within the noise between seeds of the choice."""
    outcome, best = plan.evidence.outcome, plan.chosen
    expected = best.predictions[outcome.column].estimate
    noise = plan.evidence.noise.estimate(expected)
    inner = float(outcome.inner(np.array(expected)))
    chosen_cost = best.cost(plan.cost_unit)
    close = [
        point
        for point in plan.frontier
        if point.cost < chosen_cost and float(outcome.inner(np.array(point.prediction.estimate))) < inner + noise
    ]
    if close and plan.question.target is None:
        least = close[0]
        yield (
            f"{least.design} is expected within the noise between seeds of it "
            f"({value_words(least.prediction.estimate, outcome)}) at {least.cost / chosen_cost:.0%} of its cost."
        )


def _next_step(plan: "Plan") -> Iterator[str]:
    """The first design beyond what can be spent that is expected to be better by more than seeds differ."""
    budget, outcome = plan.question.budget, plan.evidence.outcome
    if budget is None or plan.question.target is not None:
        return
    expected = plan.chosen.predictions[outcome.column].estimate
    for point in plan.frontier:
        gain = float(outcome.gain(np.array(point.prediction.estimate), np.array(expected)))
        inner = [float(outcome.inner(np.array(value))) for value in (expected, point.prediction.estimate)]
        if point.cost > budget.amount and inner[0] - inner[1] > plan.evidence.noise.estimate(expected):
            unit = "of loss" if outcome.is_loss else "points"
            yield (
                f"The next step up is {point.design}: {gain:.2g} {unit} better, for {point.cost / budget.amount:.3g}x "
                f"the budget."
            )
            return


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _days(value: float) -> str:
    return f"{value:.2g} days" if value >= 1 else f"{24 * value:.2g} hours"
