"""How well plans from these records would have done: designs held out, predicted and reached."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.decisions.candidates import gather_candidates
from scaling.decisions.outcomes import Array
from scaling.decisions.planning.evidence import Evidence, PlanError, of_data, places_of_designs
from scaling.decisions.planning.outlook import Prediction, predictions
from scaling.laws import rows_where

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Designs that the laws did not see, the best expected first."""

    designs: tuple[str, ...]
    predicted: tuple[Prediction, ...]
    reached: tuple[float, ...]
    rank_correlation: float | None
    """Spearman's, between predicted and reached; None for fewer than three designs."""

    def rows(self) -> Iterator[tuple[str, Prediction, float, bool]]:
        """Design, prediction, what was reached, and whether it lies inside the interval."""
        for design, found, value in zip(self.designs, self.predicted, self.reached, strict=True):
            yield design, found, value, found.low <= value <= found.high

    @property
    def inside(self) -> int:
        """How many lie inside their 95 % interval."""
        return sum(inside for *_, inside in self.rows())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rank_correlation": self.rank_correlation,
            "inside": self.inside,
            "designs": [
                {"design": design, "predicted": found.to_json(), "reached": value, "inside": inside}
                for design, found, value, inside in self.rows()
            ],
        }


def check_held_out(evidence: Evidence, table: "pd.DataFrame", expression: str) -> HeldOut:
    """Predict the records that an expression holds out, from a surface fitted to the others.

    Raises:
        PlanError: if none of them has a result and a kind that the surface knows.
    """
    rows = of_data(table[rows_where(table, expression)], evidence.task, evidence.dataset)
    rows = rows[rows[evidence.outcome.column].notna()]
    if rows.empty:
        raise PlanError(f"--hold-out '{expression}': no row of it has a {evidence.outcome.label}")
    tried = gather_candidates(rows, evidence.outcome).candidates
    used, _, places = places_of_designs(tried, rows, evidence.kinds)
    if not used:
        raise PlanError(f"--hold-out '{expression}': no record left is of the same architecture and head")
    found = predictions(evidence, places)
    order = sorted(
        range(len(used)), key=lambda place: evidence.outcome.gain(np.array(0.0), np.array(found[place].estimate))
    )
    reached = [float(used[place].value or 0.0) for place in order]
    expected = np.array([found[place].estimate for place in order])
    return HeldOut(
        designs=tuple(used[place].design for place in order),
        predicted=tuple(found[place] for place in order),
        reached=tuple(reached),
        rank_correlation=_spearman(expected, np.array(reached)) if len(order) > 2 else None,
    )


def _spearman(first: Array, second: Array) -> float | None:
    """None where one side is the same throughout."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Array) -> Array:
    """Of those that tie the mean."""
    return np.array([np.mean(values < one) + np.mean(values == one) / 2 for one in values])
