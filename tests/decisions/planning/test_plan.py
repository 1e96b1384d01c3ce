"""Plans as a whole: what a right answer cannot violate, whatever the records."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.decisions.planning import (
    Plan,
    PlanError,
    changes,
    decide,
    plan,
    question_of,
    read_plan,
    save_plan,
    sentences,
    to_json,
)
from scaling.decisions.planning.checking import check_held_out
from scaling.decisions.planning.evidence import gather_evidence, load_table
from scaling.errors import UsageError
from scaling.records import load_records
from tests.decisions.planning.conftest import answer, ask, published


def test_the_choice_keeps_within_every_limit_and_is_expected_best(paper: Plan) -> None:
    limit, state = 5000, paper.state
    assert paper.chosen.gpu_hours.estimate <= limit
    feasible = np.flatnonzero(state.limits.feasible)
    assert np.all(state.costs.gpu_hours[feasible] <= limit)
    losses = paper.evidence.log_losses(state.places.chosen(feasible))
    best = int(feasible[np.argmin(np.median(losses, axis=0))])
    assert paper.chosen.design == str(state.space.design(best))


def test_leaving_out_larger_patches_changes_no_chance(paper: Plan) -> None:
    """Only the smallest feasible patch of a curve, or one that was tried, can be best."""
    state = paper.state
    feasible = np.flatnonzero(state.limits.feasible)
    losses = paper.evidence.log_losses(state.places.chosen(feasible))
    wins = np.bincount(losses.argmin(axis=1), minlength=len(feasible)) / len(losses)
    everywhere = dict(zip(feasible.tolist(), wins, strict=True))
    contest = dict(zip(state.contestants.tolist(), state.contest.chance_best, strict=True))
    assert sum(contest.values()) == pytest.approx(1)
    assert {place: chance for place, chance in everywhere.items() if chance > 0} == pytest.approx(
        {place: chance for place, chance in contest.items() if chance > 0}
    )


def test_more_money_never_buys_less() -> None:
    budgets = ("50 gpu-hours", "500 gpu-hours", "5000 gpu-hours", "50000 gpu-hours")
    expected = [answer(budget).chosen.predictions["accuracy"].estimate for budget in budgets]
    assert expected == sorted(expected)
    assert expected[-1] > expected[0]


def test_the_frontier_rises_and_goes_on_beyond_the_budget(paper: Plan) -> None:
    costs = [point.cost for point in paper.frontier]
    values = [point.prediction.estimate for point in paper.frontier]
    assert costs == sorted(costs)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(values))
    assert costs[-1] > 5000


def test_every_design_is_counted_once(paper: Plan) -> None:
    assert paper.feasible + sum(paper.ruled_out.values()) == paper.considered


def test_a_design_left_out_is_replaced() -> None:
    first = answer(gpus=64)
    second = answer(gpus=64, without=(first.chosen.design,))
    assert second.chosen.design != first.chosen.design
    assert second.considered == first.considered - 1


def test_a_target_is_met_by_the_cheapest_likely_design() -> None:
    found = answer(None, target=0.83)
    assert found.chosen.chance_target is not None
    assert found.chosen.chance_target >= 0.5
    hours = [each.gpu_hours.estimate for each in found.ranked]
    assert hours == sorted(hours)
    state, reach = found.state, found.state.contest.chance_target
    assert reach is not None
    likely = state.contestants[reach >= 0.5]
    assert state.costs.gpu_hours[likely].min() == pytest.approx(found.chosen.gpu_hours.estimate)


def test_the_smallest_budget_named_would_do() -> None:
    with pytest.raises(UsageError) as refused:
        answer("1 gpu-hours", sizes=("base",), architectures=("deit",), gpus=8)
    enough = float(str(refused.value).split("that would do is ")[1].split(" GPU-hours")[0])
    assert answer(f"{enough} gpu-hours", sizes=("base",), architectures=("deit",), gpus=8).feasible >= 1
    with pytest.raises(UsageError):
        answer(f"{enough * 0.98} gpu-hours", sizes=("base",), architectures=("deit",), gpus=8)


def test_deadline_and_inference_are_limits() -> None:
    slow = answer(None, gpus=64, deadline_days=0.5)
    assert slow.chosen.days <= 0.5
    small = answer(inference_flops=20e9)
    assert small.chosen.forward_flops_per_image <= 20e9
    quick = answer(inference_milliseconds=2.0)
    assert quick.chosen.milliseconds_per_image <= 2.0


def test_dollars_are_hours_times_price() -> None:
    dollars, hours = answer("$10000", price=2.0), answer("5000 gpu-hours")
    assert dollars.chosen.design == hours.chosen.design
    assert dollars.chosen.dollars == pytest.approx(2 * hours.chosen.gpu_hours.estimate)


def test_designs_beyond_the_records_are_left_out_unless_allowed() -> None:
    inside, beyond = answer("1e24 flops", extrapolation=1.0), answer("1e24 flops", extrapolation=8.0)
    assert max(each.beyond_data for each in inside.ranked) <= 1 + 1e-9
    assert inside.ruled_out["extrapolation"] > beyond.ruled_out["extrapolation"]
    assert max(each.beyond_data for each in beyond.ranked) > 1.5


def test_a_saved_plan_can_be_asked_again(paper: Plan, tmp_path: Path) -> None:
    save_plan(paper, tmp_path / "plan.json")
    saved = read_plan(tmp_path / "plan.json")
    again = plan(question_of(saved))
    assert json.loads(json.dumps(to_json(again))) == saved
    assert to_json(again) == to_json(paper)
    nothing = changes(saved, again)
    assert not nothing["question"]
    assert not nothing["choice"]
    assert not nothing["records_changed"]
    other = changes(saved, answer("500 gpu-hours", gpus=64))
    assert other["question"] == {
        "budget": [{"amount": 5000.0, "unit": "gpu_hours"}, {"amount": 500.0, "unit": "gpu_hours"}]
    }
    assert other["choice"]["design"] == [paper.chosen.design, answer("500 gpu-hours", gpus=64).chosen.design]


def test_other_records_are_noticed(paper: Plan, tmp_path: Path) -> None:
    save_plan(paper, tmp_path / "plan.json")
    table = load_records("paper").iloc[3:]
    assert changes(read_plan(tmp_path / "plan.json"), plan(ask(gpus=64), table))["records_changed"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', "\xff\xfe"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(PlanError, match=r"plan\.json"):
        read_plan(tmp_path / "plan.json")


def test_records_held_out_are_ranked_and_covered() -> None:
    """Laws of patches from 4 foresee the published accuracies at 2 and 1 (Tables 1 and 4)."""
    question = ask(hold_out="patch_size < 4")
    table = load_table(question)
    table = table[table["reference"].str.contains(r"Table [14](?:;|$)", regex=True)]
    found = check_held_out(gather_evidence(table, question), table, "patch_size < 4")
    assert len(found.designs) == 19
    assert found.rank_correlation is not None
    assert found.rank_correlation >= 0.95
    assert found.inside >= 0.9 * len(found.designs)


def test_records_that_carry_no_law_are_refused() -> None:
    table = load_records("paper")
    few = table[table["design"].isin(["deit-base/16@64", "deit-base/8@64", "deit-base/4@64"])]
    with pytest.raises(PlanError, match="3 designs with a result cannot carry a law over patch"):
        plan(ask(), few)
    one = table[table["design"].eq("deit-base/16@64")]
    with pytest.raises(PlanError, match="no law along any of them"):
        plan(ask(), one)
    with pytest.raises(PlanError, match=r"has accuracy|has a loss"):
        plan(ask(), table.assign(accuracy=np.nan, test_loss=np.nan, mean_iou=np.nan, box_ap=np.nan, mask_ap=np.nan))


def test_nothing_to_spend_is_asked_for() -> None:
    with pytest.raises(UsageError, match="say what can be spent"):
        plan(ask(None))


def test_a_target_out_of_reach_says_what_is_in_reach() -> None:
    with pytest.raises(UsageError, match=r"no design within the limits is expected to reach 99 %; the best, "):
        answer("100 gpu-hours", target=0.99)
    with pytest.raises(UsageError, match="between 0 and 100 %"):
        answer("100 gpu-hours", target=84.0)


def test_no_design_is_foreseen_along_a_scale_that_records_do_not_vary() -> None:
    table = load_records("paper")
    square = table[table["input_size"].eq(128) & table["accuracy"].notna()]
    found = plan(ask("1e22 flops", extrapolation=4.0, input_sizes=None), square)
    assert found.evidence.surface.names == ("parameters", "patch")
    assert all(each.design.split("@")[1] == "128" for each in found.ranked)
    with pytest.raises(UsageError, match=r"--input-sizes 224: all records of paper have input size 128"):
        plan(ask("1e22 flops", input_sizes=(128, 224)), square)
    one_size = square[square["size"].eq("base")]
    assert all("-base/" in each.design for each in plan(ask("1e22 flops"), one_size).ranked)


def test_what_a_design_reached_counts_against_the_law() -> None:
    """In this run single pixels were trained too short: the law, which never rises, must not choose them."""
    run = str(Path(__file__).parents[3] / "runs" / "digits-adventurer")
    found = plan(ask("1 gpu-hours", study=run, hardware="cpu", architectures=("deit",)))
    assert found.chosen.design == "deit-nano/2@16+linear"
    assert any("the law misses its records" in warning for warning in found.warnings)
    assert found.chosen.predictions["mean_iou"].estimate == pytest.approx(found.chosen.measured, abs=0.02)


def test_one_design_at_two_lengths_is_refused() -> None:
    table = load_records("paper")
    table = table[table["input_size"].eq(128) & table["accuracy"].notna()]
    twice = [table.assign(images_seen=1e8, seed=0.0), table.assign(images_seen=3e8, seed=1.0)]
    with pytest.raises(PlanError, match=r"was trained on 100,000,000 and on 300,000,000 images"):
        plan(ask("1e22 flops"), pd.concat(twice))


def test_rows_without_a_result_say_nothing_of_the_length() -> None:
    table = load_records("paper")
    table = table[table["input_size"].eq(128) & table["accuracy"].notna()].assign(images_seen=1e8)
    failed = table.iloc[:1].assign(images_seen=9e9, accuracy=np.nan, status="failed")
    assert plan(ask("1e22 flops"), pd.concat([table, failed])).training.images == 1e8


def test_doubt_does_not_depend_on_how_many_designs_are_shown() -> None:
    few, many = (decide(ask(gpus=64), published(), top) for top in (1, 20))
    assert sentences(few) == sentences(many)
    assert any(sentence.startswith("Not sure") for sentence in sentences(few))


def test_a_choice_that_may_miss_its_deadline_says_so() -> None:
    found = answer(None, gpus=64, deadline_days=0.92, hardware="h100")
    days = found.chosen.days
    assert found.chosen.chance_within is not None
    assert (found.chosen.chance_within < 0.9) == any("more than there is" in each for each in sentences(found))
    sure = answer(None, gpus=64, deadline_days=days * 20, hardware="h100", only=(found.chosen.design,))
    assert sure.chosen.chance_within == pytest.approx(1, abs=1e-3)


def test_a_kind_without_this_outcome_is_not_ranked_and_stops_nothing() -> None:
    """Records of one architecture may have a loss where those of the other have none."""
    table = load_records("paper")
    table = table[table["task"] == "classification"].copy()
    table.loc[table["architecture"] == "deit", "test_loss"] = np.nan
    found = plan(ask("5000 gpu-hours"), table)
    assert found.evidence.outcome.column == "accuracy"
    assert {"accuracy"} <= set(found.chosen.predictions)
