"""What a GPU-hour of each design is worth, by plans and pilots as they are written."""

import json
from pathlib import Path
from typing import Any

import pytest

from scaling.decisions.planning import Budget, Pilots, Plan, PlanError, save_plan, to_json, values_of_plan
from scaling.decisions.planning.doubts import Doubt
from scaling.decisions.planning.pilots import Pilot
from tests.decisions.planning.conftest import answer


def pilots(*runs: tuple[str, float, float]) -> dict[str, Any]:
    """Of designs with their GPU-hours and the regret after them; 8 points without any."""
    made = [Pilot(name, False, hours, hours, 1.0, Doubt(0.5, regret)) for name, hours, regret in runs]
    found = Pilots(tuple(made), Doubt(0.5, 8.0), Budget(100, "gpu_hours"), ("a", "b"), 9, "points")
    return {"choice": "a"} | found.to_json()


def written(folder: Path, values: Any) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(values))
    return path


def test_of_a_plan_it_is_the_chance_to_be_best_per_hour(paper: Plan, tmp_path: Path) -> None:
    save_plan(paper, tmp_path / "plan.json")
    values = values_of_plan(tmp_path / "plan.json")
    assert list(values) == [each.design for each in paper.ranked]
    for each in paper.ranked:
        assert values[each.design] == each.chance_best / each.gpu_hours.estimate


def test_of_a_plan_with_a_target_it_is_the_chance_to_reach_it_per_hour(tmp_path: Path) -> None:
    plan = answer("5000 gpu-hours", target=0.8)
    values = values_of_plan(written(tmp_path, to_json(plan)))
    chances = {each.design: each.chance_target for each in plan.ranked}
    assert all(chances.values())
    assert values == {each.design: (each.chance_target or 0) / each.gpu_hours.estimate for each in plan.ranked}


def test_of_pilots_it_is_the_regret_that_each_takes_away_per_hour(tmp_path: Path) -> None:
    told = pilots(("a", 2.0, 4.0), ("b", 10.0, 3.0), ("c", 1.0, 3.5), ("a", 1.0, 0.5))
    assert values_of_plan(written(tmp_path, told)) == {"a": 2.0, "b": 0.1, "c": 0.0}  # c made nothing better


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "not a plan of this version"),
        ({"pilots": 3, "now": {"regret": 1.0}}, "without its chance, its regret or its GPU-hours"),
        (pilots(("a", 2.0, 4.0)) | {"now": {}}, r"KeyError\('regret'\)"),
        (pilots(("a", 0.0, 4.0)), "ZeroDivisionError"),
        (pilots(("a", 1.0, float("-inf"))), "OverflowError"),
        (pilots(("a", 1.0, float("nan"))), "OverflowError"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_name(values: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        values_of_plan(written(tmp_path, values))
    assert str(tmp_path / "plan.json") in str(caught.value)


def test_a_design_without_hours_is_refused(paper: Plan, tmp_path: Path) -> None:
    told = json.loads(json.dumps(to_json(paper)))
    del told["designs"][1]["gpu_hours"]
    with pytest.raises(PlanError, match="KeyError"):
        values_of_plan(written(tmp_path, told))
