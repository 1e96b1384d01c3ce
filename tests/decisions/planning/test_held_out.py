"""The published accuracies at small patches, foreseen from the larger ones."""

import json

import numpy as np
import pandas as pd
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


def two_data_sets(tied: bool = False) -> pd.DataFrame:
    """Losses of a grid on one data set; on another, with other losses, more of the small patches."""
    rows = []
    for dataset, factor, seeds in (("one", 1.0, 1), ("two", 3.0, 2)):
        for size, width in (("nano", 1.0), ("micro", 2.0), ("tiny", 4.0)):
            for patch in (16, 8, 4, 2) if dataset == "one" else (2,):
                loss = 0.5 if tied and patch == 2 else factor * 0.2 * patch**0.5 * width**-0.2
                rows += [
                    {
                        **{"design": f"deit-{size}/{patch}@64", "architecture": "deit", "size": size, "seed": seed},
                        **{"patch_size": patch, "input_size": 64, "task": "classification", "dataset": dataset},
                        **{"test_loss": loss * (1 + 0.001 * seed), "status": "done", "images_seen": 1000},
                    }
                    for seed in range(seeds)
                ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("tied", [False, True])
def test_only_the_data_set_that_laws_are_of_is_held_out(tied: bool) -> None:
    records = two_data_sets(tied)
    question = Question(hold_out=HELD_OUT, outcome="test_loss", seed_noise=0.01, epochs=1)
    evidence = gather_evidence(records, question)
    found = check_held_out(evidence, records, HELD_OUT)
    assert evidence.dataset == "one"
    assert set(found.designs) == {f"deit-{size}/2@64" for size in ("nano", "micro", "tiny")}
    of_one = records[(records["dataset"] == "one") & (records["patch_size"] == 2)].set_index("design")["test_loss"]
    assert list(found.reached) == pytest.approx([of_one[design] for design in found.designs])
    assert (found.rank_correlation is None) == tied  # of results that are all the same there is none
    json.dumps(found.to_json(), allow_nan=False)


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
