"""By which power of a cost the reducible loss falls along an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.decisions.candidates import Candidate
from scaling.decisions.outcomes import Outcome
from scaling.laws import Estimate, FitError, FitResult, fit
from scaling.laws.law import Array

SURE = 4.0
"""Standard errors; more than of one comparison, since many are made and seeds are few."""
WITH_FLOOR = ("power", "saturating")


@dataclass(frozen=True, slots=True)
class Elasticity:
    """d log (loss - E) / d log cost along an axis; of rates, of the odds of an error."""

    exponent: Estimate
    """Negative where more cost helps."""
    law: str
    designs: int
    fit: FitResult
    turns: bool
    """Whether results surely get better and worse again along the axis, or the reverse: then no power describes it."""

    @property
    def doubt(self) -> str | None:
        """Why the exponent must not be used, if so."""
        if self.turns:
            return "better, then worse, or the reverse"
        if np.isinf([self.exponent.low, self.exponent.high]).any():
            return "not identified by these designs"
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {"law": self.law, "designs": self.designs, "turns": self.turns, "doubt": self.doubt}
        return self.exponent.to_json() | plain


def elasticity_of(line: Sequence[Candidate], cost: str, outcome: Outcome) -> Elasticity | None:
    """Fitted to all designs of an axis that have a result; None where they are too few or the cost does not vary."""
    import pandas as pd

    known = [candidate for candidate in line if cost in candidate.costs]
    rows = [
        {cost: candidate.costs[cost], outcome.column: float(value)}
        for candidate in known
        for value in candidate.results
    ]
    table = pd.DataFrame(rows)
    if table.empty or table[cost].nunique() < 3:
        return None
    table[cost] /= np.exp(np.log(table[cost]).mean())
    try:
        found = fit(table, "auto", cost, outcome.column, link=outcome.link, group_by=[])
        if found.law not in WITH_FLOOR:
            found = fit(table, "saturating", cost, outcome.column, link=outcome.link, group_by=[])
    except FitError:
        return None
    turns = _turn([each.results for each in sorted(known, key=lambda each: each.costs[cost])])
    return Elasticity(found.parameters["b"], found.law, int(table[cost].nunique()), found, turns)


def _turn(results: Sequence[Array]) -> bool:
    """Whether a design in the middle differs from the first and the last one alike by more than seeds explain."""
    results = [values for values in results if len(values)]
    freedom = sum(len(values) - 1 for values in results)
    if not freedom:
        return False  # nothing is known of the seeds
    noise = np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in results) / freedom)
    means, counts = np.array([values.mean() for values in results]), np.array([len(values) for values in results])
    z = [(means - means[end]) / (noise * np.sqrt(1 / counts + 1 / counts[end])) for end in (0, -1)]
    return bool((np.minimum(*z) > SURE).any() or (np.maximum(*z) < -SURE).any())
