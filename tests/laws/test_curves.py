from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UsageError
from scaling.laws import fit
from scaling.records import RecordError


def table(**columns: Any) -> pd.DataFrame:
    rows = [
        {"design": f"deit-{size}/{patch}@64", "architecture": "deit", "size": size, "patch_size": patch,
         "input_size": 64, "task": "classification", "seed": 0, "status": "done",
         "test_loss": floor + 0.02 * patch**0.9}
        for size, floor in (("nano", 0.9), ("micro", 0.7)) for patch in (16, 8, 4, 2, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def test_extended_designs_are_no_points_of_the_plain_curve() -> None:
    extended = table(extended_length=256)
    curves = fit(pd.concat([table(extended_length=None), extended[extended["patch_size"] > 2]]))
    assert [curve.fit and len(curve.fit.x) for curve in curves] == [5, 5, 3, 3]


def test_curves_are_told_apart_by_design() -> None:
    curves = fit(table())
    assert [curve.group["size"] for curve in curves] == ["nano", "micro"]
    assert [round(curve.fit.law.E, 6) for curve in curves if curve.fit] == [0.9, 0.7]


def test_group_by_overrides() -> None:
    curves = fit(table(), group_by=["architecture"])
    assert len(curves) == 1
    assert curves[0].fit is not None
    assert curves[0].fit.n_points == 10


def test_left_out_records_are_named() -> None:
    records = table()
    records.loc[2, "status"] = "diverged"
    records.loc[3, "test_loss"] = np.nan
    records.loc[9, "status"] = "failed"
    nano, micro = fit(records)
    assert nano.left_out == ("deit-nano/4@64: diverged", "deit-nano/2@64: no value")
    assert micro.left_out == ("deit-micro/1@64: failed",)
    assert nano.fit is not None
    assert nano.fit.n_points == 3


def test_infinite_values_are_left_out_without_a_status_too() -> None:
    records = table().drop(columns=["status", "design"])
    records.loc[1, "test_loss"] = np.inf
    nano, micro = fit(records)
    assert nano.left_out == ("row 1: no value",)
    assert nano.fit is not None
    assert nano.fit.n_points == 4
    assert micro.left_out == ()


def test_a_curve_that_cannot_be_fitted_does_not_stop_the_others() -> None:
    records = table().iloc[4:]
    nano, micro = fit(records)
    assert nano.fit is None
    assert nano.problem is not None
    assert "1 points" in nano.problem
    assert micro.fit is not None


def test_json_has_no_nan_and_keeps_whole_numbers() -> None:
    values = fit(table(head=[None] * 10))[0].to_json()
    assert values["group"] == {"task": "classification", "architecture": "deit", "size": "nano", "input_size": 64}
    assert values["parameters"]["E"] == pytest.approx(0.9)
    mixed = table(input_size=[64.0] * 9 + [np.nan])
    assert fit(mixed)[0].group["input_size"] == 64
    assert isinstance(fit(mixed)[0].group["input_size"], int)


def test_a_plain_csv_needs_no_design_columns(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    pd.DataFrame({"width": [1, 2, 4, 8, 16], "error": [9, 5, 3, 2, 1.5]}).to_csv(path, index=False)
    (curve,) = fit(path, x="width", y="error")
    assert curve.fit is not None
    assert curve.fit.law.alpha == pytest.approx(-1, abs=1e-6)
    assert pytest.approx(1, abs=1e-6) == curve.fit.law.E


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": "patchsize"}, "no column 'patchsize' in the records; did you mean 'patch_size'?"),
        ({"y": "design"}, "column 'design' does not hold numbers"),
        ({"group_by": ["sise"]}, "did you mean 'size'"),
        ({"law": "linear"}, "unknown law 'linear'"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit(table(), **arguments)  # pyright: ignore[reportArgumentType]
    assert message in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run directory or table"):
        fit(tmp_path / "none.csv")


# Figure 1 (a, c) of the paper, digitised, and the exponents of its points once the floors of its axes are taken off.
FIGURE_1 = {
    "a": ([1.1228, 0.9249, 0.8674, 0.8402, 0.8155], 1.05),
    "c": ([0.7201, 0.6771, 0.6533, 0.6448, 0.6355], 0.93),
}


@pytest.mark.parametrize("panel", FIGURE_1)
def test_floors_of_the_papers_figure(panel: str) -> None:
    losses, exponent = FIGURE_1[panel]
    (curve,) = fit(pd.DataFrame({"patch_size": [16, 8, 4, 2, 1], "test_loss": losses}))
    assert curve.fit is not None
    assert curve.fit.law.name == "saturating"
    low, high = curve.fit.intervals["alpha"]
    assert low < exponent < high
