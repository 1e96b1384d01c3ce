"""Seed noise pooled over the curves of a table: what it is, and that its intervals cover and are narrower."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f

from scaling.errors import UsageError
from scaling.laws import FitResult, Options, checklist, fit_groups, fit_points, gather
from tests.laws.truths import PATCHES, saturating

EXPONENTS = {"a": 0.3, "b": 0.5, "c": 0.8, "d": 1.1}
POOLED, REPEATS = Options(noise="pooled"), Options(noise="repeats")


def table(seed: int, deviation: float = 0.02) -> pd.DataFrame:
    """Four power laws, of five patch sizes and two seeds each."""
    random = np.random.default_rng(seed)
    rows = [
        {"curve": name, "x": x, "seed": repeat, "loss": 0.2 * x**b * math.exp(deviation * random.standard_normal())}
        for name, b in EXPONENTS.items() for x in PATCHES for repeat in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def fits(records: pd.DataFrame, options: Options = POOLED, law: str = "power", **more: Any) -> list[FitResult]:
    found = fit_groups(records, law, "x", "loss", "curve", options=options, **more)
    assert all(isinstance(result, FitResult) for result in found)
    return found  # pyright: ignore[reportReturnType]


@pytest.mark.slow
def test_pooled_intervals_cover_and_are_narrower_than_those_of_repeats() -> None:
    hits, narrower = [], []
    for seed in range(300):
        records = table(seed)
        pooled = [result.parameters["b"] for result in fits(records)]
        hits += [part.low <= b <= part.high for part, b in zip(pooled, EXPONENTS.values(), strict=True)]
        if seed < 100:
            single = [result.parameters["b"] for result in fits(records, REPEATS)]
            ours, theirs = (np.mean([part.high - part.low for part in parts]) for parts in (pooled, single))
            narrower.append(ours / theirs)
    assert 0.93 <= np.mean(hits) <= 0.975
    # The quantiles of t at 20 and 5 degrees of freedom differ by a fifth.
    assert np.mean(narrower) < 0.95


def test_the_noise_is_the_pooled_scatter_of_seeds() -> None:
    records = table(0)
    variances = records.assign(loss=np.log(records["loss"])).groupby(["curve", "x"])["loss"].var(ddof=1)
    for result in fits(records):
        noise = result.fitted.noise
        assert noise.variance == pytest.approx(variances.mean())  # of one degree of freedom each
        assert noise.degrees_of_freedom == 20
        assert noise.cutoff == pytest.approx(f.ppf(0.95, 1, 20))
        values = result.to_json()["options"]
        assert (values["noise"], values["noise_degrees_of_freedom"]) == ("pooled", 20)
        assert values["noise_deviation"] == pytest.approx(math.sqrt(variances.mean()))


@pytest.mark.parametrize("law", ["power", "auto"])
def test_curves_without_repeats_use_the_noise_of_the_others(law: str) -> None:
    records = table(1)
    records = records[(records["curve"] != "d") | (records["seed"] == 0)]
    results = fits(records, law=law)
    assert results[-1].fitted.repeats is None
    assert {result.fitted.noise.degrees_of_freedom for result in results} == {15}
    assert len({result.fitted.noise.variance for result in results}) == 1


def test_held_out_rows_say_nothing_of_the_noise() -> None:
    held = fits(table(2), hold_out="x < 2")
    assert {result.fitted.noise.degrees_of_freedom for result in held} == {16}


def test_a_curve_without_repeats_that_misses_its_points_is_doubted() -> None:
    records = table(3, 0.002)
    bent = pd.DataFrame({"curve": "e", "x": PATCHES, "seed": 0, "loss": saturating(PATCHES)})
    results = fits(pd.concat([records, bent]))
    doubts = ["lack of fit" in " ".join(result.notes) for result in results]
    assert doubts == [False] * 4 + [True]


def test_pooled_noise_that_cannot_be_is_refused() -> None:
    single = table(0).query("seed == 0")
    with pytest.raises(UsageError, match="no curve has two rows at the same x; use --noise residuals"):
        fits(single)
    with pytest.raises(UsageError, match="logarithmic residuals"):
        Options(noise="pooled", residual="linear")
    with pytest.raises(UsageError, match="logarithmic residuals"):
        Options(noise="pooled", tail_weight=1.0)
    with pytest.raises(UsageError, match="--noise pooled with --errors se"):
        fits(table(0).assign(se=0.01), errors="se")
    with pytest.raises(UsageError, match="use residuals, repeats or pooled"):
        Options(noise="seeds")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="needs a table of curves"):
        fit_points(gather(PATCHES, saturating(PATCHES)), "power", POOLED)


def test_the_checklist_says_where_the_noise_is_from() -> None:
    answers = [answer.answer for answer in checklist(fits(table(0)))]
    assert "95%, profile, noise from repeats of all curves" in answers
