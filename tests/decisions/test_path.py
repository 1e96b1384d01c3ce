"""The path of the best designs: against power laws known in closed form, naive searches, and the plan it belongs to."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from scaling.decisions.planning.amounts import parse_budget
from scaling.decisions.planning.growth import Growth, at_bounds, find_growths
from scaling.decisions.planning.path import optimal_path
from scaling.decisions.planning.plan import Plan, plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.race import NOBODY, Race, joined, race
from scaling.errors import UsageError
from scaling.laws.surface import Places, Surface
from scaling.laws.surface.deviations import WAVES, Waves
from scaling.laws.surface.form import Form

ALL = slice(None)


def surface(alphas: np.ndarray, betas: np.ndarray) -> Surface:
    """loss = E + A N^-alpha + B p^beta, balanced at N = 1e8 and p = 8 where compute costs N p^-2; no deviations."""
    form, draws = Form(2, 1), len(alphas)
    fine = np.full(draws, np.log(1e-3))
    coarse = np.log(betas / (2 * alphas) * 1e-3 * 8**betas) + alphas * np.log(1e8)
    none = np.zeros(draws)
    values = np.stack([none, coarse, alphas, fine, none, betas, none, none], axis=1)
    waves = Waves.spread(("parameters",), 1)
    return Surface(form, ("parameters", "patch"), np.zeros(2), 0.0, values, waves, np.zeros((draws, WAVES)), none)


def grid(models: int = 161, patches: int = 121, largest: float = 1e10) -> tuple[Places, np.ndarray]:
    """Places, and their cost N p^-2."""
    size, patch = (
        each.ravel() for each in np.meshgrid(np.geomspace(1e6, largest, models), np.geomspace(1, 64, patches))
    )
    return Places({"parameters": size, "patch": patch}, np.zeros(len(size), int)), size / patch**2


def growths(
    law: Surface, places: Places, costs: np.ndarray, budgets: np.ndarray
) -> tuple[dict[str, Growth], dict[str, str]]:
    scales = {
        "patch_size": places.scales["patch"],
        "parameters": places.scales["parameters"],
        "sequence_length": (224 / places.scales["patch"]) ** 2,
    }
    bound = {name: at_bounds(scales[name], places.kinds) for name in ("patch_size", "parameters")}
    found = race(law, places, costs, np.arange(len(places)), np.append(budgets, np.inf), ALL)
    return find_growths(scales, bound, found.winners[:, :-1], found.winners[:, -1], budgets)


@pytest.mark.parametrize(("alpha", "beta"), [(0.4, 1.5), (0.3, 0.9), (0.8, 1.2)])
def test_exponents_are_those_of_the_closed_form(alpha: float, beta: float) -> None:
    # At the optimum of A N^-alpha + B p^beta for N p^-2 = C, alpha A N^-alpha = beta B p^beta / 2 (Lagrange), so that
    # p ~ N^(-alpha / beta), and with C = N p^-2: N ~ C^(beta / (beta + 2 alpha)), p ~ C^(-alpha / (beta + 2 alpha)).
    places, costs = grid()
    budgets = np.geomspace(costs.min(), costs.max(), 60)
    found, missing = growths(surface(np.array([alpha]), np.array([beta])), places, costs, budgets)
    assert not missing
    total = beta + 2 * alpha
    assert found["parameters"].exponent.estimate == pytest.approx(beta / total, abs=0.01)
    assert found["patch_size"].exponent.estimate == pytest.approx(-alpha / total, abs=0.01)
    assert found["sequence_length"].exponent.estimate == pytest.approx(2 * alpha / total, abs=0.02)
    at_eight = np.array([1e8 / 8**2])
    assert found["parameters"].at(at_eight)[0] == pytest.approx(1e8, rel=0.1)
    assert found["patch_size"].at(at_eight)[0] == pytest.approx(8, rel=0.05)
    assert found["patch_size"].per_tenfold.estimate == pytest.approx(10 ** (-alpha / total), rel=0.03)


def test_every_draw_has_its_own_exponent() -> None:
    alphas = np.linspace(0.2, 0.8, 41)
    places, costs = grid()
    found, _ = growths(surface(alphas, np.full(41, 1.4)), places, costs, np.geomspace(costs.min(), costs.max(), 60))
    known = -alphas / (1.4 + 2 * alphas)
    exponent = found["patch_size"].exponent
    expected = np.quantile(known, (0.025, 0.5, 0.975))
    assert [exponent.low, exponent.estimate, exponent.high] == pytest.approx(expected, abs=0.012)


def test_budgets_at_a_bound_do_not_bend_the_line() -> None:
    # Models end at 3e8, so that from there on only the patch shrinks, with the exponent -1/2 of the cost alone.
    places, costs = grid(largest=3e8)
    budgets = np.geomspace(costs.min(), costs.max(), 60)
    found, _ = growths(surface(np.array([0.4]), np.array([1.5])), places, costs, budgets)
    assert found["patch_size"].exponent.estimate == pytest.approx(-0.4 / 2.3, abs=0.02)
    reached = 3e8 / (8 * 3 ** (-0.4 / 1.5)) ** 2  # the compute at which the best model is the largest
    assert found["patch_size"].budgets[1] <= reached < costs.max() / 30


def test_without_a_second_scale_to_share_with_there_is_no_exponent() -> None:
    places, costs = grid(models=4)
    found, missing = growths(surface(np.array([0.4]), np.array([1.5])), places, costs, np.geomspace(1e3, 1e9, 40))
    assert not found
    assert missing["parameters"] == "2 model sizes between the smallest and the largest, of 3 needed"
    assert missing["patch_size"].startswith("no other scale has 3 values")


def test_a_race_is_a_naive_search() -> None:
    generator = np.random.default_rng(1)
    law = surface(generator.uniform(0.2, 0.8, 30), generator.uniform(0.5, 2, 30))
    places, costs = grid(23, 17)
    costs = costs * generator.uniform(0.5, 2, len(costs))
    budgets = np.sort(generator.choice(costs, 12))
    losses = law.log_losses(places)
    found = race(law, places, costs, np.arange(len(places)), budgets, ALL)
    for at, budget in enumerate(budgets):
        within = np.where(costs <= budget, losses, np.inf)
        assert np.array_equal(found.winners[:, at], within.argmin(axis=1))
        assert np.array_equal(found.values[:, at], within.min(axis=1))
        assert found.expected[at] == np.median(within, axis=0).argmin()
    assert np.all(np.diff(found.values, axis=1) <= 0)
    assert np.all(np.diff(found.medians) <= 0)


def test_parts_race_as_the_whole() -> None:
    law = surface(np.linspace(0.2, 0.8, 7), np.linspace(1, 2, 7))
    places, costs = grid(23, 17)
    budgets = np.geomspace(costs.min(), costs.max(), 9)
    whole = race(law, places, costs, np.arange(len(costs)), budgets, ALL)
    half = places.scales["patch"] < 8
    parts = [race(law, places, costs, np.flatnonzero(which), budgets, ALL) for which in (half, ~half)]
    assert any(NOBODY in part.winners for part in parts)
    both = joined(parts)
    for name in Race.__slots__:
        assert np.array_equal(getattr(both, name), getattr(whole, name)), name
    assert np.array_equal(both.chances, whole.chances)


@cache
def of_paper(**changes: object) -> Plan:
    asked = Question(study="paper", budget=parse_budget("5000 gpu-hours"), gpus=64, draws=256)
    return plan(replace(asked, **changes))  # pyright: ignore[reportArgumentType]


def test_at_the_plans_budget_the_path_has_the_plans_choice() -> None:
    (point,) = optimal_path(of_paper(), [5000.0]).points
    chosen = of_paper().chosen
    assert point.design == chosen.design
    assert point.chance == pytest.approx(chosen.chance_best)
    assert point.prediction.estimate == pytest.approx(chosen.predictions["accuracy"].estimate, abs=1e-5)
    assert point.cost == pytest.approx(chosen.gpu_hours.estimate)


def test_published_recipes_have_a_path_between_named_sizes_and_no_exponents() -> None:
    found = optimal_path(of_paper())
    assert found.points[0].chance == 1
    assert found.points[-1].budget > 5000
    assert found.growth == {}
    assert "named model sizes" in found.searched
    assert "of 3 needed" in found.without_growth["parameters"]
    accuracies = [point.prediction.estimate for point in found.points]
    assert accuracies == sorted(accuracies)
    assert len({(point.design, point.prediction) for point in found.points}) == len({p.design for p in found.points})
    assert any("the best input size is the largest allowed" in note for note in found.notes)


def test_free_sizes_have_exponents_of_every_architecture() -> None:
    found = optimal_path(of_paper(epochs=300.0, input_sizes=(128, 224)))
    assert set(found.by_architecture) == {"deit", "adventurer"}
    assert -0.5 < found.growth["patch_size"].exponent.estimate < 0
    assert 0 < found.growth["parameters"].exponent.estimate < 1
    for growth in found.growth.values():
        assert growth.exponent.low <= growth.exponent.estimate <= growth.exponent.high
    known = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert known["growth"]["patch_size"]["exponent"]["estimate"] == found.growth["patch_size"].exponent.estimate
    assert {"budget", "design", "cost", "chance", "prediction", "scales"} == set(known["points"][0])
    assert any("too far beyond the records" in note for note in found.notes)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([0.0], "a budget of 0 GPU-hours: give positive numbers"),
        ([float("nan")], "give positive numbers"),
        ([1.0], "no design costs as little as 1 GPU-hours; the cheapest, adventurer-tiny/16@64"),
        ([], "no budget"),
    ],
)
def test_budgets_that_cannot_be(budgets: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        optimal_path(of_paper(), budgets)


def test_sizes_between_are_none_of_the_named_ones() -> None:
    space = of_paper(epochs=300.0, free_sizes=True, input_sizes=(224,)).state.space
    shapes = [(model.architecture, model.head, model.shape) for model in space.models]
    assert len(set(shapes)) == len(shapes) > 500
