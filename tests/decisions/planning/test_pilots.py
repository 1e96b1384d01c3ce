"""Pilots and simulated studies against exact conditioning, brute force, and surfaces fitted again."""

import json
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.cli.output import Format
from scaling.cli.pilots_output import show_pilots, show_simulation
from scaling.decisions.outcomes import OUTCOMES
from scaling.decisions.planning import Budget, Plan, Question, plan
from scaling.decisions.planning.conditioning import beliefs, luck_of_runs, tamed
from scaling.decisions.planning.doubts import doubt, worlds
from scaling.decisions.planning.pilot_studies import pilot_study
from scaling.decisions.planning.pilots import Pilot, Pilots, _as_followed, _greedy, next_pilots
from scaling.decisions.planning.simulation import simulate_grid
from scaling.design import Design, load_study, study_text
from scaling.errors import ScalingError, UsageError

LOSS = OUTCOMES["test_loss"]
GIVEN = [f"deit-{size}/{patch}@{side}" for size in ("tiny", "small") for patch in (32, 16) for side in (64, 128)] + [
    "deit-tiny/8@64"
]
QUESTION = Question(
    budget=Budget(3000, "gpu_hours"),
    outcome="test_loss",
    epochs=300,
    sizes=("tiny", "small", "base", "large"),
    patch_sizes=(4, 8, 16, 32),
    input_sizes=(64, 128, 224),
    extrapolation=64,
)


def loss_of(name: str) -> float:
    """A world in which the best designs are close to each other."""
    design = Design.parse(name)
    widths = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "nano": 32, "micro": 64}
    size, side, patch = widths[design.size] / 768, design.input_sides[0] / 128, design.patch_size / 16
    return 0.5 + 0.3 * size**-0.7 * side**-0.5 + 0.25 * size**-0.2 * side**-0.4 * patch**0.9


def records(results: dict[str, list[float]]) -> pd.DataFrame:
    """One row for every result, seeds in their order."""
    rows = []
    for name, values in results.items():
        design = Design.parse(name)
        fields = ("architecture", "size", "patch_size", "input_size", "head", "sequence_length")
        about = {"design": name, "task": "", "dataset": "", "status": "done"}
        about |= {field: getattr(design, field) for field in fields}
        rows += [about | {"seed": seed, "test_loss": value} for seed, value in enumerate(values)]
    return pd.DataFrame(rows)


def given(names: list[str] = GIVEN) -> dict[str, list[float]]:
    luck = np.random.default_rng(0).standard_normal(len(names))
    return {name: [loss_of(name) * np.exp(0.005 * each)] for name, each in zip(names, luck, strict=True)}


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan(QUESTION, records(given()), top=3)


@pytest.fixture(scope="module")
def found(made: Plan) -> Pilots:
    return next_pilots(made, 4, Budget(100, "gpu_hours"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory of the demo, with a study alone."""
    (tmp_path / "study.toml").write_text(study_text("digits-quick"))
    return tmp_path


@pytest.fixture
def digits(run: Path) -> Plan:
    """Few runs of both sizes, so that there is something to learn."""
    names = [f"deit-{size}/{patch}@24+linear" for size in ("nano", "micro") for patch in (12, 6, 4, 3)]
    question = Question(study=str(run), outcome="test_loss", budget=Budget(0.1, "gpu_hours"), hardware="cpu")
    rows = records({name: [value[0], value[0] * 1.3] for name, value in given(names).items()})
    return plan(replace(question, extrapolation=4), rows.assign(images_seen=38400), top=1)


def gaussian(draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws of two targets and four results that depend on each other, with the mixing matrix (6, 6)."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(6, 6))
    return generator.standard_normal((draws, 6)) @ mixing.T, mixing


def test_results_one_by_one_are_exact_conditioning_of_all_at_once() -> None:
    drawn, _ = gaussian(500)
    targets, results, noise = drawn[:, :2], drawn[:, 2:], np.array([0.5, 1.0, 2.0, 0.1])
    lucks = np.random.default_rng(1).standard_normal((3, 500))
    held = beliefs(targets, results, noise)
    for place, luck in zip((2, 0, 3), lucks, strict=True):
        held = held.after(place, luck)
    which = [2, 0, 3]
    seen = results[:, which] + noise[which] * lucks.T - results[:, which].mean(axis=0)
    covariance = np.cov(drawn.T, bias=True)
    inverse = np.linalg.inv(covariance[2:, 2:][np.ix_(which, which)] + np.diag(noise[which] ** 2))
    expected = np.median(targets, axis=0) + seen @ inverse @ covariance[2:, :2][which]
    np.testing.assert_allclose(held.means, expected, rtol=1e-9, atol=1e-9)


def test_what_is_left_is_the_variance_of_exact_conditioning() -> None:
    drawn, mixing = gaussian(40_000)
    noise = np.array([0.5, 1.0, 2.0, 0.1])
    lucks = np.random.default_rng(2).standard_normal((2, len(drawn)))
    held = beliefs(drawn[:, :2], drawn[:, 2:], noise).after(1, lucks[0]).after(2, lucks[1])
    truth = mixing @ mixing.T
    observed = truth[2:, 2:][np.ix_([1, 2], [1, 2])] + np.diag(noise[[1, 2]] ** 2)
    left = truth[:2, :2] - truth[:2, [3, 4]] @ np.linalg.solve(observed, truth[[3, 4], :2])
    np.testing.assert_allclose(np.cov((held.targets - held.means).T), left, rtol=0.05, atol=0.05)


def test_order_of_results_does_not_matter() -> None:
    drawn, _ = gaussian(200)
    held = beliefs(drawn[:, :2], drawn[:, 2:], np.full(4, 0.3))
    lucks = np.random.default_rng(1).standard_normal((4, 200))
    one, other = held, held
    for place in range(4):
        one, other = one.after(place, lucks[place]), other.after(3 - place, lucks[3 - place])
    np.testing.assert_allclose(one.means, other.means, atol=1e-9)


@pytest.mark.parametrize(
    ("misfit", "seed_noise", "before", "new"), [(0.02, 0.01, 2, 1), (0.01, 0.03, 1, 3), (0, 1, 2, 1)]
)
def test_a_repeat_tells_what_two_results_tell_beyond_one(
    misfit: float, seed_noise: float, before: int, new: int
) -> None:
    first = misfit**2 + seed_noise**2 / before
    both = np.array([[first, misfit**2], [misfit**2, misfit**2 + seed_noise**2 / new]])
    information = np.linalg.inv(both).sum() - 1 / first
    luck = luck_of_runs(misfit, seed_noise, np.array([float(before)]), new)
    assert luck[0] ** -2 == pytest.approx(information, rel=1e-9)


def test_a_repeat_without_seed_noise_tells_nothing_and_a_new_design_has_misfit_and_seed() -> None:
    assert np.isinf(luck_of_runs(0.1, 0.0, np.array([1.0]))[0])
    assert luck_of_runs(0.3, 0.4, np.array([0.0]))[0] == pytest.approx(0.5)


def test_doubt_is_counted_over_worlds() -> None:
    truths = np.log([[1.0, 2.0], [3.0, 2.0], [4.0, 5.0], [4.0, 1.0]])
    held = doubt(truths, np.broadcast_to([0.0, 1.0], (4, 2)), LOSS)  # the first is always chosen
    assert held.chance_wrong == 0.5
    assert held.regret == pytest.approx((1.0 + 3.0) / 4)


def tiny_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two contenders whose difference is a sum of parts; each result is one part, three of five matter."""
    parts = np.random.default_rng(0).standard_normal((4000, 5))
    difference = parts @ [0.05, 0.1, 0.0, 0.2, 0.0]
    return np.column_stack([difference, np.zeros(4000)]), parts, np.full(5, 0.1)


EQUAL = np.array([0.5, 0.5])


def greedy(order: list[int], costs: list[float], left: float = 10.0, count: int = 5, noise: float = 0.1) -> list[int]:
    """What is chosen in the tiny case, whose results come in this order."""
    targets, results, _ = tiny_case()
    targets = targets - targets.mean(axis=1, keepdims=True)
    held = beliefs(targets, results[:, order], np.full(5, noise))
    lucks = np.random.default_rng(1).standard_normal((count, 4000))
    return [order[place] for place in _greedy(held, EQUAL, np.array(costs), left, lucks)]


def test_greedy_finds_the_pair_that_leaves_the_least_regret() -> None:
    held = beliefs(*tiny_case())
    lucks = np.random.default_rng(1).standard_normal((2, 4000))
    left = {}
    for pair in combinations(range(5), 2):
        after = held.after(pair[0], lucks[0]).after(pair[1], lucks[1])
        left[pair] = doubt(after.targets, after.means, LOSS).regret
    assert set(greedy(list(range(5)), [1.0] * 5, count=2)) == set(min(left, key=lambda pair: left[pair])) == {1, 3}


def test_what_a_result_tells_is_the_variance_that_it_takes_away() -> None:
    drawn, mixing = gaussian(40_000)
    held = beliefs(drawn[:, :2], drawn[:, 2:], np.array([0.5, 1.0, 2.0, 0.1])).after(1, np.zeros(40_000))
    truth, weights = mixing @ mixing.T, np.array([0.7, 0.3])
    truth[3, 3] += 1.0  # with the luck of the second result
    rest = truth - np.outer(truth[3], truth[3]) / truth[3, 3]
    expected = [weights @ rest[:2, 2 + place] ** 2 / (rest[2 + place, 2 + place] + 0.5**2) for place in (0,)]
    np.testing.assert_allclose(held.told(np.array([0]), weights), expected, rtol=0.05)


def test_greedy_stops_where_nothing_is_learnt_and_does_not_look_at_order() -> None:
    assert greedy(list(range(5)), [1.0] * 5) == [3, 1, 0]
    assert greedy([4, 2, 0, 1, 3], [1.0] * 5) == [3, 1, 0]
    assert greedy(list(range(5)), [1.0] * 5, noise=1e6) == []


def test_cheap_ones_come_first_where_they_tell_as_much() -> None:
    dear = [1.0, 1.0, 1.0, 100.0, 1.0]
    assert greedy(list(range(5)), dear, left=1000.0) == [1, 0, 3]
    assert greedy(list(range(5)), dear, left=50.0) == [1, 0]
    assert greedy(list(range(5)), [1.0, 1.0, 1.0, 1.5, 1.0], left=1.5) == [3]


def test_curves_that_follow_the_law_do_not_lie_off_it(made: Plan) -> None:
    followed = made.evidence.as_if_followed(made.question.draws, made.question.seed)
    places = made.state.places.chosen(made.state.contestants)
    off = [
        np.std(replace(each.surface, values=0 * each.surface.values).log_losses(places), axis=0).max()
        for each in (made.evidence, followed)
    ]
    assert off[1] < 0.03 < off[0]
    assert followed.designs == made.evidence.designs


def test_records_whose_curves_lie_off_the_law_are_taken_at_that(made: Plan) -> None:
    surface = made.evidence.surface
    values = surface.values.copy()
    values[:, -2] = np.log(0.05)
    off = replace(made, evidence=replace(made.evidence, surface=replace(surface, values=values)))
    assert made.evidence.may_follow
    assert not off.evidence.may_follow
    assert _as_followed(off) is off.evidence
    assert np.median(_as_followed(made).surface.deviations) < 0.02


def test_scales_of_which_two_values_are_known_get_a_third() -> None:
    """Two values fix no exponent and floor; a third of the cheapest other values does."""
    names = [name for name in GIVEN if "/8@" not in name]
    pilots = next_pilots(plan(QUESTION, records(given(names)), top=1), 3, Budget(30, "gpu_hours")).pilots
    designs = [Design.parse(pilot.design) for pilot in pilots]
    assert {design.patch_size for design in designs} & {4, 8}
    assert {design.size for design in designs} & {"base", "large"}


def test_pilots_keep_within_budget_and_count_and_lower_the_regret(made: Plan, found: Pilots) -> None:
    assert 0 < len(found.pilots) <= 4
    assert found.cost <= 100
    regret = [found.now.regret, *(pilot.after.regret for pilot in found.pilots)]
    assert regret[-1] < regret[0]
    assert all(later < 1.1 * earlier for earlier, later in pairwise(regret))
    assert made.chosen.design in found.contenders
    assert found.left == pytest.approx(100 - sum(pilot.gpu_hours for pilot in found.pilots))
    json.dumps(found.to_json(), allow_nan=False)


def test_same_plan_same_pilots(made: Plan, found: Pilots) -> None:
    assert next_pilots(made, 4, Budget(100, "gpu_hours")) == found


def test_pilots_are_not_bound_by_the_budget_of_the_plan(found: Pilots) -> None:
    """What can be spent on one training says nothing of what pilots may cost."""
    small = plan(replace(QUESTION, budget=Budget(60, "gpu_hours")), records(given()), top=1)
    pilots = next_pilots(small, 4, Budget(200, "gpu_hours"))
    costs = small.state.costs.gpu_hours
    assert pilots.candidates == int(np.sum((costs <= 200) & small.state.costs.trainable & small.state.costs.fits))
    assert pilots.candidates > found.candidates


@pytest.mark.parametrize(
    ("count", "budget", "words"),
    [
        (0, Budget(100, "gpu_hours"), "--next 0"),
        (3, Budget(100, "dollars"), "--price"),
        (3, Budget(1e-6, "gpu_hours"), "the cheapest, deit-tiny/32@64, takes"),
    ],
)
def test_bad_questions_name_the_value_and_the_fix(made: Plan, count: int, budget: Budget, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        next_pilots(made, count, budget)


def test_a_target_is_refused() -> None:
    asked = plan(replace(QUESTION, budget=None, target=1.4), records(given()), top=1)
    with pytest.raises(UsageError, match="--budget or --deadline instead of --target"):
        next_pilots(asked, 3, Budget(100, "gpu_hours"))


def test_the_study_of_pilots_loads_and_its_cells_are_new(digits: Plan, run: Path, tmp_path: Path) -> None:
    pilots = next_pilots(digits, 3, Budget(1, "gpu_hours"))
    names = ["deit-nano/8@24+linear", "deit-micro/3@24+linear"]  # the second has been run with seeds 0 and 1
    chosen = replace(pilots, pilots=tuple(Pilot(name, False, 0.01, 0.01, 0.01, pilots.now) for name in names))
    path = tmp_path / "more.toml"
    path.write_text(pilot_study(chosen, digits, "more"))
    study, old = load_study(path), load_study(run)
    assert [str(cell.design) for cell in study.cells()] == names
    assert not {cell.id for cell in study.cells()} & {cell.id for cell in old.cells()}
    assert (study.recipe, study.data, study.measure) == (old.recipe, old.data, old.measure)
    with pytest.raises(ScalingError, match="name"):
        pilot_study(chosen, digits, "a name with spaces")
    with pytest.raises(UsageError, match="no run is worth its cost"):
        pilot_study(replace(chosen, pilots=()), digits, "more")


def test_pilots_of_published_records_are_listed_but_cannot_be_trained(made: Plan, found: Pilots) -> None:
    with pytest.raises(UsageError, match="no run directory") as caught:
        pilot_study(found, made, "more")
    assert found.pilots[0].design in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


CELLS = ("deit-base/32@64", "deit-base/32@224", "deit-large/16@64")


def test_a_simulated_study_tells_what_surfaces_fitted_again_tell(made: Plan) -> None:
    told = simulate_grid(made, CELLS)
    chosen = [each.name for each in told.contenders[:3]]
    foreseen = np.log([each.after[1] / each.after[0] for each in told.contenders[:3]])
    state, surface = made.state, made.evidence.surface
    space = {str(state.space.design(place)): place for place in range(len(state.space))}
    places = state.places.chosen(np.array([space[name] for name in chosen]))
    cells = worlds(made.evidence, state.places.chosen(np.array([space[name] for name in CELLS])))
    generator, widths = np.random.default_rng(0), []
    for world in np.linspace(0, surface.draws - 1, 8).astype(int):
        noise = surface.sigma[world] * generator.standard_normal(len(CELLS))
        results = {name: [float(np.exp(value))] for name, value in zip(CELLS, cells[world] + noise, strict=True)}
        refitted = plan(QUESTION, records(given() | results), top=1).evidence.surface.log_losses(places)
        widths.append(np.diff(np.quantile(refitted, (0.025, 0.975), axis=0), axis=0)[0])
    now = np.log([each.now[1] / each.now[0] for each in told.contenders[:3]])
    assert np.all(foreseen < now)
    ratio = foreseen / np.mean(widths, axis=0)
    assert np.all((ratio > 0.6) & (ratio < 1.6))


def test_simulated_costs_are_sums_over_cells(made: Plan) -> None:
    one, two = simulate_grid(made, CELLS[:1]), simulate_grid(made, [*CELLS, CELLS[0]])
    assert (two.designs, two.cells) == (3, 4)
    alone = sum(simulate_grid(made, [name]).gpu_hours for name in CELLS)
    assert two.gpu_hours == pytest.approx(alone + one.gpu_hours)
    assert two.after.regret < one.now.regret
    json.dumps(two.to_json(), allow_nan=False)


def test_a_study_is_simulated_with_all_its_seeds(digits: Plan) -> None:
    told = simulate_grid(digits, "digits-quick")
    assert (told.study, told.designs, told.cells) == ("digits-quick", 8, 16)
    assert any("8 of its designs have been run" in note for note in told.notes)


@pytest.mark.parametrize(
    ("designs", "words"),
    [
        ([], "no design"),
        (["adventurer-base/16@224"], "nothing of its kind; they have deit"),
        (["deit-base/16@128x64"], "square inputs"),
        (["deit-base/16@64+extend=64"], "without extension"),
        (["deit-huge/1@448"], "its cost is not known: one image does not fit"),
    ],
)
def test_designs_that_cannot_be_simulated_are_named(made: Plan, designs: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        simulate_grid(made, designs)


def test_both_are_printed(made: Plan, found: Pilots, capsys: pytest.CaptureFixture[str]) -> None:
    show_pilots(found, made, Format.TABLE)
    shown = capsys.readouterr()
    assert all(pilot.design in shown.out for pilot in found.pilots)
    show_pilots(replace(found, pilots=()), made, Format.TABLE)
    assert "No run within 100 GPU-hours is worth its cost" in capsys.readouterr().out
    show_pilots(found, made, Format.JSON)
    assert json.loads(capsys.readouterr().out)["choice"] == made.chosen.design
    told = simulate_grid(made, CELLS)
    show_simulation(told, made, Format.TABLE)
    printed = capsys.readouterr().out
    assert all(each.name in printed for each in told.contenders)
    show_simulation(told, made, Format.JSON)
    assert json.loads(capsys.readouterr().out)["cells"] == 3


def test_wild_draws_are_drawn_in() -> None:
    draws = np.concatenate([np.random.default_rng(0).standard_normal(999), [1e9]])[:, None]
    assert np.abs(tamed(draws)).max() < 4
