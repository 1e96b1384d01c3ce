"""Records of which some designs have several seeds and others one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.decisions.planning import Question, decide, learn, parse_budget
from scaling.decisions.planning.evidence import Evidence, gather_evidence

SEEDS = (3, 1)


def table(spread: float, misfit: float = 0.0) -> pd.DataFrame:
    """Losses of three sizes by four patches around a power law; every second design has three seeds, the others one."""
    draw, rows = np.random.default_rng(4), []
    for place, (size, width) in enumerate((("nano", 1.0), ("micro", 2.0), ("tiny", 4.0))):
        for step, patch in enumerate((16, 8, 4, 2)):
            loss = 0.2 * patch**0.5 * width**-0.2 * np.exp(misfit * draw.standard_normal())
            rows += [
                {
                    **{"design": f"deit-{size}/{patch}@64", "architecture": "deit", "size": size, "seed": seed},
                    **{"patch_size": patch, "input_size": 64, "task": "classification", "dataset": "one"},
                    **{"test_loss": loss * np.exp(spread * draw.standard_normal()), "status": "done"},
                    **{"images_seen": 1000},
                }
                for seed in range(SEEDS[(place + step) % 2])
            ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return gather_evidence(table(spread=0.03, misfit=0.1), Question(outcome="test_loss", epochs=1))


def test_each_design_keeps_its_number_of_seeds(evidence: Evidence) -> None:
    counts = table(spread=0.03).groupby("design").size()
    assert dict(zip(evidence.designs, evidence.seeds, strict=True)) == counts.to_dict()
    assert list(evidence.seeds_of(["deit-nano/16@64", "deit-nano/8@64", "deit-nano/1@64"])) == [3, 1, 0]
    assert evidence.luck_of_means == pytest.approx(evidence.own_noise**2 * (1 + 1 / 3) / 2)


def test_what_three_seeds_say_of_a_design_moves_the_surface_more_than_what_one_says(evidence: Evidence) -> None:
    surface = evidence.surface.log_losses(evidence.places).mean(axis=0)
    moved = evidence.log_losses(evidence.places).mean(axis=0) - surface
    share = moved / (evidence.outcome.inner(evidence.values) - surface)
    several = evidence.seeds == 3
    misfit = np.maximum(evidence.surface.sigma**2 - evidence.luck_of_means, 0)
    expected = [float(np.mean(misfit / (misfit + evidence.own_noise**2 / count))) for count in SEEDS]
    assert expected[0] > expected[1] + 0.1
    assert np.median(share[several]) == pytest.approx(expected[0], abs=0.12)
    assert np.median(share[~several]) == pytest.approx(expected[1], abs=0.12)


def test_seeds_without_a_spread_are_no_obstacle(tmp_path: Path) -> None:
    table(spread=0.0, misfit=0.05).to_csv(tmp_path / "t.csv", index=False)
    budget = parse_budget("1e15 flops")
    question = Question(study=str(tmp_path / "t.csv"), budget=budget, outcome="test_loss", train_images=1000, epochs=1)
    plan = decide(question, learn(question))
    (doubt,) = (warning for warning in plan.warnings if "the law misses its records" in warning)
    assert "times what seeds differ" not in doubt
