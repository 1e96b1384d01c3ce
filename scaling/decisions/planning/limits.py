"""What a question rules out, and what keeps a design from the next smaller patch. Shapes: M designs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.decisions.outcomes import Array
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.costs import Costs
    from scaling.decisions.planning.question import Question

WORDS = {
    "recipe": "the recipe does not say how",
    "extrapolation": "too far beyond the records",
    "memory": "one image does not fit a GPU, or the batch no number of them",
    "inference": "beyond the inference budget",
    "deadline": "beyond the deadline",
    "budget": "beyond the budget",
}
"""Limits in the order in which a design is counted under one."""
HINTS = {
    "recipe": "the recipe (--epochs)",
    "extrapolation": "--extrapolate",
    "memory": "--memory-per-gpu, --gpus, --checkpointing or --sharding fsdp",
    "inference": "--inference-budget",
    "deadline": "--deadline",
    "budget": "--budget",
}


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Which designs keep within each limit."""

    kept: dict[str, Array]
    """By name of `WORDS`, (M,) of bool."""
    beyond: Array
    """(M,), factor beyond the records."""
    over: dict[str, Array]
    """By name, how many times its limit each design takes, (M,); of limits that have a size."""

    @property
    def feasible(self) -> Array:
        """(M,) of bool."""
        return np.logical_and.reduce(list(self.kept.values()))

    def but(self, name: str) -> Array:
        """Which designs keep within all limits but one."""
        return np.logical_and.reduce([kept for each, kept in self.kept.items() if each != name])

    def counts(self) -> dict[str, int]:
        """How many designs each limit rules out, each design under the first of its limits."""
        left = np.ones(len(self.beyond), dtype=bool)
        found = {}
        for name, kept in self.kept.items():
            found[name] = int(np.sum(left & ~kept))
            left &= kept
        return {name: count for name, count in found.items() if count}

    def first(self, place: int) -> str | None:
        """The first limit that a design breaks."""
        return next((name for name, kept in self.kept.items() if not kept[place]), None)


def find_limits(costs: "Costs", beyond: Array, question: "Question") -> Limits:
    """All limits of a question over a space."""
    over: dict[str, Array] = {}
    if question.budget is not None:
        over["budget"] = costs.in_unit(question.budget.unit, question.price) / question.budget.amount
    if question.deadline_days is not None:
        over["deadline"] = costs.days / question.deadline_days
    if question.inference_flops is not None:
        over["inference"] = costs.forward_flops / question.inference_flops
    if question.inference_milliseconds is not None:
        slower = costs.milliseconds / question.inference_milliseconds
        over["inference"] = np.maximum(over.get("inference", slower), slower)
    kept = {
        "recipe": costs.trainable,
        "extrapolation": beyond <= question.extrapolation * (1 + 1e-9),
        "memory": costs.fits | ~costs.trainable,
        **{name: ~(over[name] > 1) for name in ("inference", "deadline", "budget") if name in over},
    }
    return Limits(kept, beyond, over)


def explain_nothing(limits: Limits, smallest: str | None) -> UsageError:
    """Why no design is left: what each limit rules out, and the least that would do where one limit bites alone."""
    counts = ", ".join(f"{count:,} {WORDS[name]}" for name, count in limits.counts().items())
    lines = [f"none of {len(limits.beyond):,} designs keeps within all limits: {counts}"]
    hints = [HINTS[name] for name in limits.counts() if name in HINTS]
    lines.append(smallest or f"loosen {' or '.join(hints)}")
    return UsageError("\n".join(lines))
