"""Expanding windows: which places are fitted, what they predict, and where there are none."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UsageError
from scaling.laws import Extrapolation, FitError, FitResult, Options, expanding_windows, fit
from tests.laws.truths import noisy, result_of, saturating

X = 2.0 ** np.arange(7)


def fitted(x: np.ndarray, y: np.ndarray, law: str = "auto", **options: Any) -> FitResult:
    table = pd.DataFrame({"x": x, "loss": y, "row": range(len(x))})
    return fit(table, law, "x", "loss", options=Options(**options))


@pytest.mark.parametrize(("sign", "order"), [(-1, [3, 4, 5, 6]), (1, [3, 2, 1, 0])])
def test_windows_grow_towards_the_better_end(sign: int, order: list[int]) -> None:
    windows = expanding_windows(fitted(X, noisy(saturating(X, 0.5, 1.0, sign * 0.5), 0.001, 0), "saturating"))
    assert [window.next_x for window in windows][:1] == [X[order[1]]]
    assert [window.up_to for window in windows] == [X[place] for place in order[:3]]
    assert [window.points for window in windows] == [4, 5, 6]
    assert {window.last_x for window in windows} == {X[order[-1]]}
    assert windows[-1].next == windows[-1].last


def held_out(x: np.ndarray, y: np.ndarray, count: int, place: int, law: str, options: Options) -> FitResult:
    """The first places fitted and another predicted, as --hold-out does it on its own."""
    rows = [*range(count), place]
    table = pd.DataFrame({"x": x[rows], "loss": y[rows]})
    return fit(table, law, "x", "loss", hold_out=f"x == {x[place]}", options=options)


def numbers(found: Extrapolation) -> dict[str, float]:
    return {name: value for name, value in found.to_json().items() if name != "method"}


@pytest.mark.parametrize(("law", "tail_weight"), [("auto", 0.0), ("power", 0.0), ("power", 2.0)])
def test_windows_say_what_holding_out_says(law: str, tail_weight: float) -> None:
    options, laws = Options(tail_weight=tail_weight, intervals="profile"), set()
    for seed in range(1 if law == "auto" else 8):
        y = noisy(saturating(X, 0.5, 1.0, -0.5), 0.01, seed)
        for window in expanding_windows(fitted(X, y, law, tail_weight=tail_weight, intervals="profile")):
            for found, place in ((window.next, window.points), (window.last, len(X) - 1)):
                alone = held_out(X, y, window.points, place, law, options)
                assert alone.extrapolation is not None
                assert (window.law, found.method) == (alone.law, alone.extrapolation.method)
                assert numbers(found) == pytest.approx(numbers(alone.extrapolation), rel=1e-6)
            last_value = abs(np.log(y[window.points - 1] / y[window.points]))
            assert window.next.last_value_rmse_log == pytest.approx(last_value)
            laws.add(window.law)
    assert laws == ({"power", "saturating"} if law == "auto" else {"power"})


def test_accuracies_grow_towards_the_higher_ones() -> None:
    table = pd.DataFrame({"x": X, "accuracy": 1 / (1 + noisy(3 * X**-0.7, 0.01, 0))})
    windows = expanding_windows(fit(table, "power", "x", "accuracy"))
    assert [window.up_to for window in windows] == [4, 8, 16, 32]


def test_repeats_stay_together() -> None:
    x = np.repeat(X, 2)
    windows = expanding_windows(fitted(x, noisy(saturating(x, 0.5, 1.0, -0.5), 0.01, 1), "power", noise="repeats"))
    assert [(window.up_to, window.points, window.next.points) for window in windows] == [
        (X[place], 2 * place + 2, 2) for place in range(1, 6)
    ]


def test_many_places_give_ten_windows_spread_evenly() -> None:
    x = np.geomspace(1, 1e3, 40)
    windows = expanding_windows(fitted(x, noisy(saturating(x, 0.5, 1.0, -0.5), 0.01, 1), "power"))
    assert [window.points for window in windows] == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]


def test_json_has_no_nan() -> None:
    window = expanding_windows(fitted(X, noisy(saturating(X, 0.5, 1.0, -0.5), 0.01, 1), "power", intervals="none"))[0]
    values = json.loads(json.dumps(window.to_json(), allow_nan=False))
    assert (values["fitted_up_to"], values["points"], values["law"]) == (4, 3, "power")
    assert (values["next"]["x"], values["last"]["x"], values["next"]["inside"]) == (8, 64, None)


def test_where_there_are_no_windows_it_is_said_why() -> None:
    with pytest.raises(FitError, match="no first places of the curve can be fitted: 3 points at 3 different x"):
        expanding_windows(result_of(X[:4], saturating(X[:4], 0.5, 1.0, -0.5), "saturating"))
    N, D = np.meshgrid([1e6, 1e7, 1e8], [1e8, 1e9, 1e10])
    table = pd.DataFrame({"N": N.ravel(), "D": D.ravel(), "loss": (1.8 + N**-0.3 + D**-0.3).ravel()})
    with pytest.raises(UsageError, match="goes along one scale, and --x names 2"):
        expanding_windows(fit(table, "chinchilla", ["N", "D"], "loss", options=Options(intervals="none")))
