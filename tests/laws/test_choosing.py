"""Which law is chosen, how seldom a floor is claimed that is not there, and how far laws reach."""

import numpy as np
import pandas as pd
import pytest

from scaling.laws import Candidate, FitResult, Options, fit, fit_points, forecast, gather
from scaling.laws.choosing import aicc, candidate_laws
from tests.laws.truths import PATCHES, noisy, result_of, saturating


def chosen(x: np.ndarray, y: np.ndarray) -> FitResult:
    return fit(pd.DataFrame({"x": x, "loss": y, "row": range(len(x))}), "auto", "x", "loss")


def test_a_pure_power_law_has_no_floor_and_says_so() -> None:
    result = chosen(PATCHES, noisy(0.3 * PATCHES**0.3, 0.01, 2))
    assert result.law == "power"
    assert any("floor not identified by these data, any E from 0 to" in note for note in result.notes)


def test_a_clear_floor_is_found_and_argued() -> None:
    x = np.repeat(PATCHES, 3)
    result = chosen(x, noisy(saturating(x), 0.003, 5))
    assert result.law == "saturating"
    assert result.parameters["E"].low > 0.7
    assert result.choice is not None
    assert result.choice.verdict.startswith("saturating beats power: the floor's interval starts at 0.7")
    assert "fitted without x = 1, power misses it by" in result.choice.verdict
    power, best = result.choice.candidates
    assert power.aicc - best.aicc > 10
    assert best.weight > 0.99
    assert power.left_out_error is not None
    assert best.left_out_error is not None
    assert power.left_out_error > 3 * best.left_out_error


def test_a_false_floor_is_rarely_claimed() -> None:
    """On pure power laws the test of the floor errs in about its nominal 2.5 % of cases."""
    x = np.repeat(PATCHES, 2)
    false = sum(chosen(x, noisy(0.3 * x**0.3, 0.01, seed)).law == "saturating" for seed in range(200))
    assert false <= 14


def test_three_points_cannot_test_a_floor() -> None:
    assert any(
        "a floor cannot be tested" in note for note in chosen(np.array([1, 2, 4]), np.array([1, 1.9, 4.1])).notes
    )


def test_a_break_is_found_with_enough_points() -> None:
    x = np.geomspace(1, 1e4, 60)
    y = noisy(0.9 * (1 + (x / 100) ** 2) ** -0.2, 0.002, 0)
    result = chosen(x, y)
    assert result.law in ("broken", "M4")
    assert result.choice is not None
    losers = {candidate.law: candidate for candidate in result.choice.candidates}
    assert losers["power"].weight < 1e-6


def test_candidates_are_those_that_the_points_can_carry() -> None:
    assert candidate_laws(("x",), 5, 5) == ["power", "saturating"]
    assert candidate_laws(("x",), 30, 30) == ["power", "saturating", "M3", "M4", "broken"]
    assert candidate_laws(("parameters", "patch_size"), 40, 40) == ["additive", "multiplicative", "interaction"]
    assert candidate_laws(("parameters", "tokens"), 40, 40) == ["chinchilla"]


def test_the_criterion_is_hurvich_and_tsai_s() -> None:
    y = noisy(saturating(PATCHES), 0.01, 0)
    fitted = result_of(PATCHES, y, "power", intervals="none").fitted
    squares = 2 * fitted.objective
    assert aicc(fitted) == pytest.approx(5 * np.log(squares / 5) + 2 * 3 + 2 * 3 * 4 / (5 - 3 - 1))


def test_weights_of_candidates_add_up() -> None:
    result = chosen(np.geomspace(1, 100, 30), noisy(saturating(np.geomspace(1, 100, 30), 0.3, 1, -0.5), 0.01, 1))
    assert result.choice is not None
    candidates: tuple[Candidate, ...] = result.choice.candidates
    assert sum(candidate.weight for candidate in candidates) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_extrapolation_beats_a_line_and_the_last_value(seed: int) -> None:
    """On curves that are not in their last regime yet."""
    x = np.geomspace(1, 300, 60)
    truth = 0.15 + 0.8 * (1 + (x / 20) ** 1.3) ** -0.4
    seen = x < 100
    points = gather(x[seen], noisy(truth[seen], 0.003, seed))
    later = x[~seen][None]

    def error(predicted: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.log(predicted / truth[~seen]) ** 2)))

    line = fit_points(points, "power", Options(intervals="none")).predict(later)
    assert error(forecast(points, later)) < 0.5 * error(line)
    assert error(forecast(points, later)) < 0.3 * error(np.full(later.shape[1], points.y[-1]))


def test_a_joint_choice_finds_the_additive_law() -> None:
    N, p = (side.ravel() for side in np.meshgrid(np.geomspace(5e6, 3e8, 5), [16.0, 8, 4, 2, 1]))
    loss = noisy(0.5 + 900 * N**-0.45 + 0.02 * p**0.9, 0.001, 0)
    table = pd.DataFrame({"parameters": N, "patch_size": p, "test_loss": loss})
    result = fit(table, "auto", ["parameters", "patch_size"])
    assert result.law in ("additive", "interaction")
    assert result.choice is not None
    assert {candidate.law for candidate in result.choice.candidates} == {"additive", "multiplicative", "interaction"}
    if result.law == "additive":
        assert result.parameters["beta"].low < 0.9 < result.parameters["beta"].high


@pytest.mark.parametrize("points", [5, 6, 7, 8, 12])
def test_a_clear_floor_is_found_at_any_number_of_points(points: int) -> None:
    """The criterion cannot speak with few points, and must not be asked then."""
    x = 2.0 ** np.arange(points)
    for seed in range(5):
        assert chosen(x, noisy(0.5 + x**0.4, 0.002, seed)).law == "saturating"


def test_end_errors_are_in_the_unit_of_y() -> None:
    x = np.geomspace(1, 64, 7)
    table = pd.DataFrame({"x": x, "accuracy": noisy(1 / (1 + saturating(x, 0.2, 3.0, -0.7)), 0.002, 0)})
    result = fit(table, "auto", "x", "accuracy")
    assert any("fitted to the odds of an error" in note for note in result.notes)
    assert result.choice is not None
    power = result.choice.candidates[0]
    assert power.end_error is not None
    assert -0.2 < power.end_error < 0.2


def test_the_end_is_that_of_the_scale_and_not_the_lowest_row() -> None:
    """What is said of the end is what a fit without it misses there, whichever row is lowest."""
    x = np.repeat(2.0 ** np.arange(5), 2)
    loss = np.array([0.30, 0.40, 0.345, 0.345, 0.45, 0.45, 0.60, 0.60, 0.80, 0.81])
    result = chosen(x, loss)  # lowest row at x = 1, lowest mean at x = 2
    assert result.choice is not None
    others = pd.DataFrame({"x": x, "loss": loss, "row": range(10)})[2:]
    errors = {
        candidate.law: fit(others, candidate.law, "x", "loss").predict([1.0])[0] - 0.35
        for candidate in result.choice.candidates
    }
    assert {each.law: each.end_error for each in result.choice.candidates} == pytest.approx(errors, rel=1e-4)
    assert f"fitted without x = 1, saturating misses it by {errors['saturating']:+.2g}" in result.choice.verdict
    assert f"power by {errors['power']:+.2g}" in result.choice.verdict


def test_the_end_of_two_scales_is_the_largest_model_where_it_is_best() -> None:
    table = pd.DataFrame([(n, p) for n in (1e6, 4e6, 2e7, 1e8) for p in (2, 4, 8, 16)], columns=["parameters", "patch"])
    table["loss"] = 0.3 + 40 * table["parameters"] ** -0.4 + 0.02 * table["patch"] ** 0.9
    table.loc[0, "loss"] = 0.3  # the smallest model was lucky
    result = fit(table, "auto", ["parameters", "patch"], "loss")
    assert result.choice is not None
    additive = result.choice.candidates[0]
    alone = fit(table.drop(index=12), "additive", ["parameters", "patch"], "loss")
    expected = alone.predict(np.array([[1e8], [2.0]]))[0] - table["loss"][12]
    assert additive.end_error == pytest.approx(expected, rel=1e-3)
