"""By which power of a cost the reducible loss falls along an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.decisions.candidates import Candidate
from scaling.decisions.outcomes import Outcome
from scaling.laws import Estimate, FitError, FitResult, fit

WITH_FLOOR = ("power", "saturating")


@dataclass(frozen=True, slots=True)
class Elasticity:
    """d log (loss - E) / d log cost along an axis; of rates, of the odds of an error."""

    exponent: Estimate
    """Negative where more cost helps."""
    law: str
    designs: int
    fit: FitResult

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.exponent.to_json() | {"law": self.law, "designs": self.designs}


def elasticity_of(line: Sequence[Candidate], cost: str, outcome: Outcome) -> Elasticity | None:
    """Fitted to all designs of an axis that have a result; None where they are too few or the cost does not vary."""
    import pandas as pd

    rows = [
        {cost: candidate.costs[cost], outcome.column: float(value)}
        for candidate in line
        if cost in candidate.costs
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
    return Elasticity(found.parameters["b"], found.law, int(table[cost].nunique()), found)
