"""The published accuracies at small patches, foreseen from the larger ones."""

import numpy as np
import pytest

from scaling.decisions.planning.checking import HeldOut, check_held_out
from scaling.decisions.planning.evidence import gather_evidence
from scaling.decisions.planning.question import Question
from scaling.records import load_records

HELD_OUT = "patch_size < 4"


def foreseen(seed: int, tables: bool) -> HeldOut:
    """Cells at patches 2 and 1 of Tables 1 and 4, or of all that is published."""
    records = load_records("paper")
    if tables:
        known = records["reference"].astype(str).str.contains(r"Table [14]\b")
        records = records[known & (records["task"] == "classification")]
    evidence = gather_evidence(records, Question(hold_out=HELD_OUT, seed=seed))
    assert min(evidence.places.scales["patch"]) == 4
    return check_held_out(evidence, records, HELD_OUT)


@pytest.mark.parametrize(("tables", "seed"), [(True, 0), (True, 1), (False, 0), (False, 1)])
def test_small_patches_are_ranked_and_covered(tables: bool, seed: int) -> None:
    found = foreseen(seed, tables)
    assert len(found.designs) >= 19
    assert found.rank_correlation is not None
    assert found.rank_correlation >= 0.95
    assert found.inside / len(found.designs) >= 0.9
    errors = [abs(each.estimate - value) for _, each, value, _ in found.rows()]
    assert np.mean(errors) < 0.005


def test_the_seed_of_the_draws_hardly_matters() -> None:
    """Expected accuracies of two seeds differ by a small part of their own intervals."""
    one, other = (
        dict(zip(found.designs, found.predicted, strict=True)) for found in (foreseen(2, True), foreseen(3, True))
    )
    for design, first in one.items():
        assert abs(first.estimate - other[design].estimate) < 0.1 * (first.high - first.low)
