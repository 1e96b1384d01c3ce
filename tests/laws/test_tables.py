"""Tables of records: which curves, which rows, and the form of what comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UsageError
from scaling.laws import FitError, FitResult, Options, Unfitted, default_x, fit, fit_groups, parse_share
from scaling.records import RecordError


def table(**columns: Any) -> pd.DataFrame:
    rows = [
        {"design": f"deit-{size}/{patch}@64", "architecture": "deit", "size": size, "patch_size": patch,
         "input_size": 64, "task": "classification", "seed": 0, "status": "done",
         "test_loss": floor + 0.02 * patch**0.9}
        for size, floor in (("nano", 0.9), ("micro", 0.7)) for patch in (16, 8, 4, 2, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def fitted(results: list[FitResult | Unfitted]) -> list[FitResult]:
    assert all(isinstance(result, FitResult) for result in results)
    return results  # pyright: ignore[reportReturnType]


def test_extended_designs_are_no_points_of_the_plain_curve() -> None:
    extended = table(extended_length=256)
    curves = fit_groups(pd.concat([table(extended_length=None), extended[extended["patch_size"] > 2]]))
    assert [curve.points_used for curve in fitted(curves)] == [5, 5, 3, 3]


def test_curves_are_told_apart_by_design() -> None:
    curves = fitted(fit_groups(table()))
    assert [curve.group["size"] for curve in curves] == ["nano", "micro"]
    assert [round(curve.parameters["E"].estimate, 6) for curve in curves] == [0.9, 0.7]
    with pytest.raises(UsageError, match="the table holds 2 curves"):
        fit(table())


def test_group_by_overrides() -> None:
    (curve,) = fitted(fit_groups(table(), group_by=["architecture"]))
    assert curve.points_used == 10


def test_left_out_records_are_named() -> None:
    records = table()
    records.loc[2, "status"] = "diverged"
    records.loc[3, "test_loss"] = np.nan
    records.loc[9, "status"] = "oom"
    nano, micro = fitted(fit_groups(records))
    assert nano.left_out == ("deit-nano/4@64: diverged", "deit-nano/2@64: no value")
    assert micro.left_out == ("deit-micro/1@64: oom",)
    assert nano.points_used == 3


def test_copies_are_left_out_and_repeats_are_not() -> None:
    records = pd.DataFrame({"x": [1, 2, 4, 8, 8, 8], "loss": [8, 4, 2, 1, 1, 1.1]})
    result = fit(records, "power", "x", "loss")
    assert result.points_used == 5
    assert result.left_out == ("row 4: copy of another row",)
    seeds = records.assign(seed=[0, 0, 0, 0, 1, 2])
    assert fit(seeds, "power", "x", "loss").points_used == 6


def test_infinite_values_are_left_out_without_a_status_too() -> None:
    records = table().drop(columns=["status", "design"])
    records.loc[1, "test_loss"] = np.inf
    nano, micro = fitted(fit_groups(records))
    assert nano.left_out == ("row 1: no value",)
    assert nano.points_used == 4
    assert micro.left_out == ()


def test_a_curve_that_cannot_be_fitted_does_not_stop_the_others() -> None:
    nano, micro = fit_groups(table().iloc[4:])
    assert isinstance(nano, Unfitted)
    assert "1 points" in nano.problem
    assert isinstance(micro, FitResult)
    with pytest.raises(FitError, match="1 points"):
        fit(table().iloc[4:5])


def test_json_has_the_promised_keys_and_no_nan() -> None:
    values = fit_groups(table(head=[None] * 10))[0].to_json()
    assert values["group"] == {"task": "classification", "architecture": "deit", "size": "nano", "input_size": 64}
    assert set(values["parameters"]["E"]) == {"estimate", "low", "high"}
    assert values["parameters"]["E"]["estimate"] == pytest.approx(0.9)
    assert {"law", "objective", "status", "points_used", "points_left_out", "extrapolation"} <= set(values)
    json.dumps(values, allow_nan=False)
    mixed = table(input_size=[64.0] * 9 + [np.nan])
    assert isinstance(fit_groups(mixed)[0].group["input_size"], int)


def test_summary_and_frame_say_the_same() -> None:
    result = fitted(fit_groups(table()))[0]
    frame = result.to_frame()
    assert list(frame["parameter"]) == ["E", "A", "b"]
    assert float(frame["estimate"].iloc[0]) == pytest.approx(0.9)
    assert "E = 0.9" in result.summary()
    assert "classification deit nano 64" in result.summary()


def test_a_plain_csv_needs_no_design_columns(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    pd.DataFrame({"width": [1, 2, 4, 8, 16], "error": [9, 5, 3, 2, 1.5]}).to_csv(path, index=False)
    result = fit(path, x="width", y="error", law="saturating")
    assert result.parameters["b"].estimate == pytest.approx(-1, abs=1e-6)
    assert result.parameters["E"].estimate == pytest.approx(1, abs=1e-6)


def test_the_scale_is_what_varies() -> None:
    assert default_x(table()) == "patch_size"
    assert default_x(pd.DataFrame({"patch_size": [4, 4], "parameters": [1, 2]})) == "parameters"


def held_table() -> pd.DataFrame:
    return table().assign(training_flops=lambda rows: 1e15 / rows["patch_size"] ** 2)


@pytest.mark.parametrize("how", [{"hold_out": "patch_size < 2"}, {"hold_out_compute": 0.2}])
def test_held_out_rows_are_predicted_and_not_fitted(how: dict[str, Any]) -> None:
    for result in fitted(fit_groups(held_table(), "saturating", **how)):
        assert result.points_used == 4
        found = result.extrapolation
        assert found is not None
        assert (found.points, found.method, found.reach) == (1, "saturating", 2.0)
        assert found.rmse_log == pytest.approx(0, abs=1e-6)
        assert found.last_value_rmse_log is not None
        assert found.last_value_rmse_log > 0.01
        assert found.inside == 1.0


def test_compute_is_counted_from_what_the_table_has() -> None:
    per_image = held_table().rename(columns={"training_flops": "training_flops_per_image"}).assign(images_seen=10)
    result = fitted(fit_groups(per_image, "saturating", hold_out_compute=0.2))[0]
    assert result.points_used == 4
    with pytest.raises(UsageError, match="no numbers in a column 'training_flops'"):
        fit_groups(table(), hold_out_compute=0.2)


def test_the_area_of_a_patch_is_made_where_it_lacks() -> None:
    for result in fitted(fit_groups(table(), "saturating", "patch_area")):
        assert result.to_json()["x_range"] == {"patch_area": [1, 256]}
        assert result.parameters["b"].estimate == pytest.approx(0.45, abs=1e-6)
    own = table().assign(patch_area=lambda rows: rows["patch_size"] ** 2 / 7)
    assert fitted(fit_groups(own, "saturating", "patch_area"))[0].fitted.points.scales.max() == 256 / 7


def test_training_flops_are_made_of_their_parts_beyond_64_bits() -> None:
    parts = table().assign(training_flops_per_image=lambda rows: 10**13 * rows["patch_size"], images_seen=10**10)
    for result in fitted(fit_groups(parts, "saturating", "training_flops", group_by="size")):
        assert result.to_json()["x_range"] == {"training_flops": [1e23, 1.6e24]}
        assert result.parameters["b"].estimate == pytest.approx(0.9, abs=1e-6)
    with pytest.raises(UsageError, match="no column 'training_flops' in the records; did you mean"):
        fit_groups(parts.drop(columns="images_seen"), x="training_flops")
    with pytest.raises(UsageError, match="column 'images_seen' does not hold numbers"):
        fit_groups(parts.assign(images_seen="many"), x="training_flops")
    held = fitted(fit_groups(parts, "saturating", hold_out_compute=0.2))[0]
    assert held.fitted.points.scales.max() == 8


def test_a_run_without_results_says_what_became_of_its_cells() -> None:
    lost = table().assign(test_loss=None, status=lambda rows: ["failed"] + ["oom"] * (len(rows) - 1))
    with pytest.raises(UsageError, match=rf"^no record has a test_loss \({len(lost) - 1} oom, 1 failed\)$"):
        fit_groups(lost)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": "patchsize"}, "no column 'patchsize' in the records; did you mean 'patch_size'?"),
        ({"y": "design"}, "column 'design' does not hold numbers"),
        ({"errors": "test_los"}, "no column 'test_los'"),
        ({"group_by": ["sise"]}, "did you mean 'size'"),
        ({"law": "linear"}, "unknown law 'linear'"),
        ({"law": "chinchilla"}, "the chinchilla law takes 2 column(s) for x: N, D"),
        ({"hold_out": "patch_siz < 2"}, "--hold-out 'patch_siz < 2'"),
        ({"hold_out": "patch_size + 2"}, "is not a condition on rows"),
        ({"hold_out_compute": 1.5}, "not between 0 % and 100 %"),
        ({"clusters": "seed"}, "clusters with intervals 'profile'"),
        ({"link": "logit"}, "unknown link 'logit'"),
        ({"hold_out": "patch_size < 0"}, "no row is so"),
        ({"law": "additive", "x": ["patch_size", "input_size"]}, "patch_size is its p"),
        ({"x": ["patch_size", "input_size"]}, "the additive law takes N, p in this order, and patch_size is its p"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit_groups(table(), **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0.25", 0.25)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == share
    with pytest.raises(UsageError, match="not a share"):
        parse_share("half")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run directory"):
        fit_groups(tmp_path / "none.csv")


# Figure 1 (a, c) of the paper, digitised, and the exponents of its points once the floors of its axes are taken off.
FIGURE_1 = {
    "a": ([1.1228, 0.9249, 0.8674, 0.8402, 0.8155], 1.05),
    "c": ([0.7201, 0.6771, 0.6533, 0.6448, 0.6355], 0.93),
}


@pytest.mark.parametrize("panel", FIGURE_1)
def test_floors_of_the_papers_figure(panel: str) -> None:
    losses, exponent = FIGURE_1[panel]
    result = fit(pd.DataFrame({"patch_size": [16, 8, 4, 2, 1], "test_loss": losses}), options=Options(level=0.95))
    assert result.law == "saturating"
    assert result.parameters["b"].low < exponent < result.parameters["b"].high


def test_compute_is_held_out_of_every_curve() -> None:
    records = held_table()
    records.loc[records["size"] == "nano", "training_flops"] *= 100
    results = fitted(fit_groups(records, "saturating", hold_out_compute=0.2))
    assert [result.points_used for result in results] == [4, 4]


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_rows_that_cannot_be_used_take_no_share_of_compute(share: float) -> None:
    """The dearest cells run out of memory; what is held out is as if they had not been tried."""
    records = held_table()
    dear = records[records["patch_size"] == 1].assign(patch_size=0.5, training_flops=4e15)
    oom, unknown = dear.assign(status="oom", test_loss=np.nan), dear.assign(test_loss=np.inf)
    copies = records[records["patch_size"] == 1]
    with_them = fitted(fit_groups(pd.concat([records, oom, unknown, copies]), "power", hold_out_compute=share))
    for result, expected in zip(with_them, fitted(fit_groups(records, "power", hold_out_compute=share)), strict=True):
        assert result.extrapolation == expected.extrapolation
        assert result.parameters == expected.parameters
        assert len(result.left_out) == 3


def test_a_curve_whose_rows_are_all_held_out_says_so() -> None:
    nano, micro = fit_groups(table(), "saturating", hold_out="size == 'nano'")
    assert isinstance(nano, Unfitted)
    assert nano.problem == "all its rows are held out"
    assert isinstance(micro, FitResult)


def test_percentages_are_known_by_name_or_by_all_values_or_asked_for() -> None:
    x = np.array([1.0, 2, 4, 8, 16])
    share = 1 / (1 + 3 * x**-0.7)
    expected = fit(pd.DataFrame({"x": x, "accuracy": share}), "power", "x", "accuracy").parameters["b"].estimate
    for name, values in (("accuracy", 100 * share), ("top1_accuracy_percent", share)):
        result = fit(pd.DataFrame({"x": x, name: values}), "power", "x", name)
        assert result.to_json()["options"]["link"] == "accuracy-percent"
        if name == "accuracy":
            assert result.parameters["b"].estimate == pytest.approx(expected)
    mixed = pd.DataFrame({"x": x, "accuracy": [0.4, 0.5, 60, 70, 80]})
    with pytest.raises(UsageError, match="mixed units"):
        fit(mixed, "power", "x", "accuracy")
    assert fit(mixed, "power", "x", "accuracy", link="accuracy-percent").points_used == 5


def test_rows_without_a_standard_error_are_left_out() -> None:
    records = table().assign(se=0.01).iloc[:5]
    records.loc[1, "se"] = np.nan
    result = fit(records, "power", errors="se")
    assert result.points_used == 4
    assert result.left_out == ("deit-nano/8@64: no value",)


def test_bounds_that_a_form_lacks_do_not_stop_a_forecast() -> None:
    options = Options(bounds={"E": (0, 1)}, intervals="none")
    result = fitted(fit_groups(table(), "auto", hold_out="patch_size < 2", options=options))[0]
    assert result.extrapolation is not None


def test_losses_that_are_not_positive_have_no_logarithmic_error() -> None:
    records = table().assign(test_loss=lambda rows: rows["test_loss"] - 3)
    options = Options(residual="linear", intervals="none")
    result = fit_groups(records, "log-linear", hold_out="patch_size < 2", options=options)[0]
    assert isinstance(result, Unfitted)
    assert "not positive" in result.problem
