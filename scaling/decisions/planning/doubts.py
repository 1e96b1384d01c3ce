"""How likely a plan is to choose wrongly, what that would cost, and what there is to learn from.

Shapes: R draws, K contenders, M designs of the search, C candidates.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.conditioning import luck_of_runs, tamed
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence
    from scaling.decisions.planning.plan import Plan
    from scaling.laws.surface import Places

MOST_CONTENDERS = 64
LEAST_CHANCE = 0.002  # of being the best, from which a design is a contender


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is at stake when the design expected to be the best is trained."""

    chance_wrong: float
    """That another contender is better."""
    regret: float
    """By how much the best contender is better on average: points of a rate, or loss."""

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {"chance_wrong": self.chance_wrong, "regret": self.regret}


def regrets(truths: Array, decided: Array, outcome: Outcome) -> Array:
    """By how much the best is better than what was decided for.

    Args:
        truths: (R, K), inner values.
        decided: (R, ...) of int, contenders chosen.
        outcome: of the values.

    Returns:
        (R, ...), points of a rate, or loss.
    """
    values = outcome.outer(truths)
    best = values[np.arange(len(truths)), truths.argmin(axis=1)]
    flat = decided.reshape(len(decided), -1)
    return outcome.gain(best[:, None], np.take_along_axis(values, flat, axis=1)).reshape(decided.shape)


def doubt(truths: Array, means: Array, outcome: Outcome) -> Doubt:
    """Of choosing in every world what is expected to be the best there.

    Args:
        truths: (R, K), inner values of the contenders.
        means: (R, K), what is expected of them.
        outcome: of the values.
    """
    decided = means.argmin(axis=1)
    wrong = decided != truths.argmin(axis=1)
    return Doubt(float(wrong.mean()), float(regrets(truths, decided, outcome).mean()))


def contenders(plan: "Plan") -> Array:
    """Designs of the search that may be the best, the likeliest first, (K,): with the plan's own choice.

    Raises:
        UsageError: for a plan to reach a target, whose designs are ranked by cost.
    """
    if plan.question.target is not None:
        raise UsageError(
            "what runs would tell is foreseen for the best design of a budget, not for the cheapest that reaches "
            "a target; give --budget or --deadline instead of --target"
        )
    state = plan.state
    order = np.lexsort((state.contest.median, -state.contest.chance_best))
    kept = order[state.contest.chance_best[order] >= LEAST_CHANCE][:MOST_CONTENDERS]
    chosen = int(np.argmin(state.contest.median))
    return state.contestants[kept if chosen in kept else np.concatenate([kept, [chosen]])]


def worlds(evidence: "Evidence", places: "Places") -> Array:
    """Draws of the inner values of places, (R, C), without the luck of a run."""
    return tamed(evidence.log_losses(places))


def luck(evidence: "Evidence", before: Array, seeds: Array | int = 1) -> Array:
    """Standard deviation of further runs around the surface, (C,).

    Args:
        evidence: what the records say.
        before: (C,), seeds of each that have been run.
        seeds: (C,), further seeds of each.
    """
    total = float(np.mean(evidence.surface.sigma**2))
    misfit = np.sqrt(max(total - evidence.luck_of_means, 0.0))
    return luck_of_runs(float(misfit), evidence.own_noise, before, seeds)
