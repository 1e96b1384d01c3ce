"""Every command as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.cli.fit_options import places_of
from scaling.design import load_study, study_to_toml
from scaling.errors import UsageError
from scaling.records import Record, RunDirectory, Status, describe, load_all, load_records
from tests.cli.command import scaling, scaling_afresh
from tests.conftest import small_study
from tests.laws.test_tables import table


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with 5 patch sizes, one of them failed, without training anything."""
    study = small_study(grid__patch_sizes=[16, 8, 4, 2, 1])
    run = RunDirectory(tmp_path_factory.mktemp("cli") / "small")
    run.prepare(study)
    for cell in study.cells():
        run.begin(cell)
        patch = cell.design.patch_size
        known = describe(cell) | {"parameters": 1000, "training_seconds": 3.0}
        if patch == 16:
            run.fail(Record(**known, status=Status.FAILED, error="ValueError: no luck"), "Traceback")
        else:
            loss = 0.5 + 0.01 * patch + 0.001 * (patch == 4)
            run.finish(
                Record(**known, status=Status.DONE, test_loss=loss, test_loss_standard_error=0.002, mean_iou=0.5)
            )
    return run.path


COMMANDS = (
    "estimate",
    "measure",
    "run-grid",
    "evaluate",
    "status",
    "recipes",
    "fit",
    "compare",
    "plot",
    "table",
    "records",
    "init",
    "doctor",
)


def test_help_lists_every_command_and_shows_examples() -> None:
    top = scaling("--help")
    assert top.returncode == 0
    assert all(command in top.stdout for command in COMMANDS)
    for command in COMMANDS:
        assert "Example" in scaling(command, "--help").stdout


def test_version() -> None:
    assert scaling_afresh("--version").stdout.strip().count(".") == 2


def test_dry_run_lists_cells_and_touches_nothing(tmp_path: Path) -> None:
    result = scaling("run-grid", "digits-quick", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0
    assert "deit-micro/3@24+linear seed 0" in result.stdout
    rows = json.loads(scaling("run-grid", "digits-quick", "--dry-run", "--format", "json", cwd=tmp_path).stdout)
    assert len(rows) == len(load_study("digits-quick").cells())
    assert all(row["status"] == "planned" and row["forward_flops_per_image"] > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_fit_table_and_json(run_path: Path, tmp_path: Path) -> None:
    shown = scaling("fit", run_path, cwd=tmp_path)
    assert shown.returncode == 0
    assert "segmentation deit nano 16 linear" in shown.stdout
    assert "left out of the fits: deit-nano/16@16+linear: failed" in shown.stderr
    result = scaling("fit", run_path, "--format", "json", "--law", "power", cwd=tmp_path)
    (curve,) = json.loads(result.stdout)["fits"]
    assert curve["law"] == "power"
    assert curve["points_used"] == 4
    exponent = curve["parameters"]["b"]
    assert exponent["low"] < exponent["estimate"] < exponent["high"]
    written = tmp_path / "analysis" / "small" / "fit.json"
    assert f"wrote {written.relative_to(tmp_path)}" in result.stderr
    assert json.loads(written.read_text()) == json.loads(result.stdout)


def test_many_rows_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    records = table()
    records.loc[[0, 1, 2], "status"] = "oom"
    records.loc[5:7, "test_loss"] = float("nan")
    records.to_csv(tmp_path / "six.csv", index=False)
    named = scaling("fit", "six.csv", cwd=tmp_path).stderr
    assert named.count("deit-") == 6
    assert "deit-nano/16@64: oom; deit-nano/8@64: oom" in named
    records.loc[8, "status"] = "failed"
    records.to_csv(tmp_path / "seven.csv", index=False)
    result = scaling("fit", "seven.csv", "--law", "power", "--out", "found.json", cwd=tmp_path)
    counts = "3 oom (deit-nano/16@64, deit-nano/8@64, ...); 3 no value (deit-micro/16@64, deit-micro/8@64, ...)"
    assert f"left out of the fits: 7 rows: {counts}; 1 failed (deit-micro/2@64)" in result.stderr
    assert result.returncode == 1  # two points and one are no curve


def test_the_range_of_the_data_is_shown_on_every_scale(tmp_path: Path) -> None:
    wide = [(n, p, 1.8 + 480 * n**-0.35 + 0.1 * p**0.8) for n in (1e7, 1e8, 3.2e9) for p in (2, 4, 8)]
    pd.DataFrame(wide, columns=["parameters", "patch_size", "loss"]).to_csv(tmp_path / "two.csv", index=False)
    arguments = ("--law", "additive", "--x", "parameters,patch_size", "--y", "loss", "--predict", "1e8:1,1e10:4")
    lines = [line.split() for line in scaling("fit", "two.csv", *arguments, cwd=tmp_path).stdout.splitlines()]
    assert ["parameters", "1e+07", "to", "3.2e+09"] in lines
    assert ["patch_size", "2", "to", "8"] in lines
    predicted = [line for line in lines if line[:3] == ["all", "records", "1e+08"] or "beyond" in line]
    assert [line[-2:] for line in predicted] == [["2x", "beyond"], ["3.12x", "beyond"]]


def test_predictions_and_windows_as_tables_and_json(run_path: Path, tmp_path: Path) -> None:
    shown = scaling("fit", run_path, "--predict", "2,0.5", "--windows", "--law", "power", cwd=tmp_path).stdout
    assert "predicted test_loss" in shown
    assert "inside the data" in shown
    assert "2x beyond" in shown
    assert "first places fitted, predicted by: power" in shown
    (curve,) = json.loads((tmp_path / "analysis" / "small" / "fit.json").read_text())["fits"]
    assert [found["x"] for found in curve["predictions"]] == [[2.0], [0.5]]
    assert all(found["low"] < found["estimate"] < found["high"] for found in curve["predictions"])
    assert [window["fitted_up_to"] for window in curve["windows"]] == [2]
    (window,) = curve["windows"]
    lines = [line.split() for line in shown.splitlines()]
    header = "curve law fitted up to x = points next x error last value inside last x error last value inside"
    assert header.split() in lines
    label = ["[1]", "segmentation", "deit", "nano", "16", "linear"]
    assert [*label, "power", "2", "3", "1"] in [line[:10] for line in lines]
    assert f"{window['last']['bias_log']:+.2%}" in shown
    plain = json.loads(scaling("fit", run_path, "--format", "json", cwd=tmp_path).stdout)["fits"][0]
    assert not {"predictions", "windows"} & set(plain)


def test_fit_takes_some_of_the_rows(run_path: Path, tmp_path: Path) -> None:
    found = json.loads(scaling("fit", run_path, "--where", "patch_size < 8", "--format", "json", cwd=tmp_path).stdout)
    assert found["where"] == "patch_size < 8"
    (curve,) = found["fits"]
    assert (curve["points_used"], curve["x_range"]) == (3, {"patch_size": [1.0, 4.0]})
    for arguments, words in ((("--where", "patch_size < 0"), "no row is so"), (("--where", "1 +"), "SyntaxError")):
        refused = scaling("fit", run_path, *arguments, cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"error: --where '{arguments[1]}'" in refused.stderr
        assert words in refused.stderr


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("1,one", ["x"], "--predict 'one': 'one' is not a number; write x such as"),
        ("-2", ["x"], "--predict '-2': -2 is not positive and finite"),
        ("1:inf", ["N", "p"], "--predict '1:inf': inf is not positive and finite"),
        ("1:2,3", ["N", "p"], "--predict '3': 1 value(s) for 2 scale(s) (N, p); write one for each"),
    ],
)
def test_what_cannot_be_predicted_is_named(text: str, columns: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        places_of(text, columns)
    assert message in str(caught.value)
    assert places_of("1e8:1,1e9:2", ["N", "p"]).tolist() == [[1e8, 1e9], [1.0, 2.0]]


def test_a_curve_without_windows_says_why(tmp_path: Path) -> None:
    table().head(5).query("patch_size > 1").to_csv(tmp_path / "t.csv", index=False)
    result = scaling("fit", "t.csv", "--law", "saturating", "--windows", "--format", "json", cwd=tmp_path)
    assert result.returncode == 0
    assert "no windows of classification deit nano 64: no first places of the curve can be fitted" in result.stderr
    assert json.loads(result.stdout)["fits"][0]["windows"] == []


def test_narrow_terminals_get_blocks_instead_of_ellipses(run_path: Path, tmp_path: Path) -> None:
    script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", script, sys.executable, "-m", "scaling", "fit", str(run_path)]
    narrow = os.environ | {"COLUMNS": "60", "TERM": "xterm"}
    result = subprocess.run(command, capture_output=True, text=True, env=narrow, timeout=120, cwd=tmp_path)
    assert result.returncode == 0
    assert "…" not in result.stdout
    assert "  b " in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 100


def test_text_in_a_table_is_never_markup(tmp_path: Path) -> None:
    pd.DataFrame({"size": ["[/b]"] * 5, "patch_size": [16, 8, 4, 2, 1], "test_loss": [5, 4, 3, 2, 1.5]}).to_csv(
        tmp_path / "odd.csv", index=False
    )
    for command in ("fit", "records"):
        result = scaling(command, tmp_path / "odd.csv")
        assert result.returncode == 0, result.stderr
        assert "[/b]" in result.stdout


def test_fit_of_a_csv_by_other_columns(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "t.csv", index=False)
    result = scaling("fit", tmp_path / "t.csv", "--group-by", "size", "--format", "json")
    assert [curve["group"] for curve in json.loads(result.stdout)["fits"]] == [{"size": "nano"}, {"size": "micro"}]


def test_held_out_rows_are_predicted(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "t.csv", index=False)
    arguments = ("fit", "t.csv", "--law", "saturating", "--hold-out", "patch_size < 2", "--out", "found.json")
    shown = scaling(*arguments, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "held-out rows of" in shown.stdout
    for curve in json.loads((tmp_path / "found.json").read_text())["fits"]:
        assert curve["extrapolation"]["rmse_log"] < 1e-6


def test_a_law_of_two_scales_with_options(tmp_path: Path) -> None:
    rows = [(n, d, 1.8 + 480 * n**-0.35 + 2100 * d**-0.37) for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)]
    pd.DataFrame(rows, columns=["N", "D", "loss"]).to_csv(tmp_path / "t.csv", index=False)
    arguments = ("--law", "chinchilla", "--x", "N,D", "--y", "loss", "--loss", "huber:0.001", "--bound", "E=1.8")
    result = scaling("fit", "t.csv", *arguments, "--format", "json", cwd=tmp_path)
    (found,) = json.loads(result.stdout)["fits"]
    assert found["parameters"]["E"] == {"estimate": 1.8, "low": 1.8, "high": 1.8}
    assert found["parameters"]["alpha"]["estimate"] == pytest.approx(0.35, rel=1e-4)
    assert found["options"]["loss"] == "huber:0.001"


def test_learning_curves_and_checklist(tmp_path: Path) -> None:
    run = Path(__file__).parents[2] / "runs" / "digits-quick"
    few = RunDirectory(tmp_path / "few")
    few.prepare(load_study("digits-quick"))
    for cell in sorted((run / "cells").iterdir())[:3]:
        (few.path / "cells" / cell.name).symlink_to(cell)
    shown = scaling("fit", few.path, "--learning-curves", "--at", "50%", cwd=tmp_path)
    assert shown.stdout.count("deit-") == 3
    found = json.loads(scaling("fit", few.path, "--learning-curves", "--format", "json", cwd=tmp_path).stdout)
    assert len(found["forecasts"]) == 3
    listed = scaling("fit", run, "--checklist", cwd=tmp_path).stdout
    assert "- [x] What is the form? power: A * x^b" in listed
    assert "- [ ] Are code, records and fits public?" in listed
    for option in (("--where", "seed == 0"), ("--law", "power"), ("--out", "fit.json"), ("--checklist",)):
        refused = scaling("fit", few.path, *option, "--learning-curves", cwd=tmp_path)
        said = f"error: {option[0]} does not go with --learning-curves: leave out one of them\n"
        assert (refused.returncode, refused.stderr) == (2, said)


def test_plot_draws_several_sources_together(run_path: Path, tmp_path: Path) -> None:
    result = scaling("plot", run_path, "paper", "--figure", "1", "--out", "both", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    small, published = (load_records(source) for source in (run_path, "paper"))
    both = load_all([run_path, "paper"])
    assert len(both) == len(small) + len(published)
    assert set(both) == {*small, *published}
    assert both["test_loss"].dtype == float
    assert (tmp_path / "both" / "figure1.png").is_file()


def test_plot_writes_three_files(run_path: Path, tmp_path: Path) -> None:
    result = scaling("plot", run_path, "--figure", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "analysis" / "small").iterdir()) == [
        "figure1.pdf",
        "figure1.png",
        "figure1.svg",
    ]


def test_records_table_json_and_export(run_path: Path, tmp_path: Path) -> None:
    assert "failed" in scaling("records", run_path).stdout
    rows = json.loads(scaling("records", run_path, "--format", "json").stdout)
    assert [row["patch_size"] for row in rows] == [16, 8, 4, 2, 1]
    assert rows[0]["test_loss"] is None
    result = scaling("records", run_path, "--export", tmp_path / "all.csv")
    assert result.returncode == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 5
    result = scaling("records", run_path, tmp_path / "all.csv", "--export", tmp_path / "both.csv")
    assert "10 records written" in result.stderr


def test_gaps_of_any_kind_are_null_in_json(tmp_path: Path) -> None:
    rows = pd.DataFrame({"design": ["a", "b"], "when": [pd.Timestamp("2026-01-02"), pd.NaT], "loss": [np.inf, np.nan]})
    rows.to_parquet(tmp_path / "t.parquet")
    found = json.loads(scaling("records", "t.parquet", "--format", "json", cwd=tmp_path).stdout)
    assert [row["when"] for row in found] == ["2026-01-02 00:00:00", None]
    assert [row["loss"] for row in found] == [None, None]


def test_init_then_dry_run(tmp_path: Path) -> None:
    assert scaling("init", "mine.toml", cwd=tmp_path).returncode == 0
    assert scaling("run-grid", "mine.toml", "--dry-run", cwd=tmp_path).returncode == 0


def test_doctor_reports_in_both_formats() -> None:
    assert "attention" in scaling("doctor").stdout
    assert json.loads(scaling_afresh("doctor", "--format", "json").stdout)["can_train"] is True


WRONG = [
    ("run-grid", "digits-quik"),
    ("run-grid", "nowhere.toml"),
    ("fit", "nothing.csv"),
    ("fit", "good.csv", "--learning-curves"),
    ("run-grid", "bad.toml"),
    ("run-grid", "not.toml"),
    ("run-grid", "digits-quick", "--only", "vit-*"),
    ("run-grid", "digits-quick", "--device", "gpu"),
    ("run-grid", "digits-quick", "--workers", "0"),
    ("run-grid", "digits-quick", "--wrokers", "2"),
    ("fit", "good.csv", "--x", "patchsize"),
    ("fit", "good.csv", "--law", "cubic"),
    ("fit", "good.csv", "--level", "95"),
    ("fit", "good.csv", "--loss", "huber"),
    ("fit", "good.csv", "--bound", "E"),
    ("fit", "good.csv", "--hold-out", "patch_size <"),
    ("fit", "good.csv", "--hold-out-compute", "half"),
    ("fit", "good.csv", "--residual", "cubic"),
    ("fit", "good.csv", "--learning-curves", "--at", "some"),
    ("fit", "good.csv", "--at", "50%"),
    ("fit", "good.csv", "--predict", "one"),
    ("fit", "good.csv", "--predict", "1,-2"),
    ("fit", "good.csv", "--predict", "inf"),
    ("fit", "good.csv", "--predict", "1:2"),
    ("fit", "good.csv", "--predict", ""),
    ("fit", "good.csv", "--predict", "1", "--checklist"),
    ("fit", "good.csv", "--windows", "--learning-curves"),
    ("fit", "good.csv", "--windows", "--x", "patch_size,input_size"),
    ("fit", "good.csv", "--windows", "--intervals", "group", "--clusters", "seed"),
    ("fit", "good.csv", "--clusters", "seed"),
    ("fit", "good.csv", "--clusters", "seed", "--intervals", "pairs"),
    ("fit", "good.csv", "--noise", "repeats", "--intervals", "residual"),
    ("fit", "good.csv", "--noise", "pooled"),
    ("fit", "good.csv", "--noise", "pooled", "--residual", "linear"),
    ("fit", "good.csv", "--x", "training_flops"),
    ("fit", "good.csv", "--checklist", "--format", "json"),
    ("fit", "good.csv", "--law", "chinchilla", "--x", "patch_size"),
    ("plot", "good.csv", "--figure", "9"),
    ("plot", "good.csv", "empty.csv"),
    ("plot", "good.csv", "--figure", "1", "--from", "deit-nano/4@8"),
    ("plot", "good.csv", "--figure", "3,heatmap", "--law", "power"),
    ("init", "a/b"),
    ("init", "new", "--from", "nothing"),
    ("nonsense",),
    ("fit",),
    ("fit", "good.csv", "--format", "yaml"),
    ("compare", "good.csv", "--seed-noise", "1e9"),
]
FAILING = [
    ("run-grid", "good.toml", "--out", "a-file/run"),
    ("run-grid", "good.toml", "--out", "a-file", "--dry-run"),
    ("run-grid", "good.toml", "--out", "other-run"),
    ("fit", "empty.csv"),
    ("fit", "other-run"),
    ("fit", "short.csv"),
    ("fit", "short.csv", "--out", "never.json"),
    ("fit", "good.csv", "--out", "a-file/fit.json"),
    ("records", "broken-run"),
    ("records", "newer-run"),
    ("records", "latin.csv"),
    ("records", "good.csv", "--export", "a-file/t.csv"),
    ("plot", "empty.csv"),
    ("table", "plain.csv"),
    ("plot", "good.csv", "--out", "a-file/figures"),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    good = study_to_toml(small_study())
    (folder / "good.toml").write_text(good)
    (folder / "bad.toml").write_text(good.replace("learning_rate", "learning_rat"))
    (folder / "not.toml").write_text("= = =")
    (folder / "a-file").write_text("")
    (folder / "empty.csv").write_text("")
    (folder / "plain.csv").write_text("patch_size,test_loss\n1,0.5\n")
    (folder / "latin.csv").write_bytes("patch_size,étape\n1,2\n".encode("latin-1"))
    table().to_csv(folder / "good.csv", index=False)
    table().head(2).to_csv(folder / "short.csv", index=False)
    RunDirectory(folder / "other-run").prepare(small_study(name="other"))
    for name, content in (("broken-run", '{"schema_version": 1, "cel'), ("newer-run", '{"schema_version": 99}')):
        run = RunDirectory(folder / name)
        run.prepare(small_study())
        (run.begin(small_study().cells()[0]) / "record.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code"),
    [pytest.param(arguments, 2, id=" ".join(arguments)) for arguments in WRONG]
    + [pytest.param(arguments, 1, id=" ".join(arguments)) for arguments in FAILING],
)
def test_bad_input_gets_one_clear_error(workplace: Path, arguments: tuple[str, ...], code: int) -> None:
    before = {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    result = scaling(*arguments, cwd=workplace)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    last = result.stderr[result.stderr.index("error: ") :]
    assert len(last.splitlines()) <= 3
    assert {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fit",), "missing argument 'SOURCE'; see '"),
        (("fit", "good.csv", "--format", "yaml"), "'yaml' is not one of 'table', 'json'; see '"),
        (("records", "latin.csv"), "latin.csv: not UTF-8"),
        (("records", "study"), "did you mean runs/study?"),
        (("records", "papers"), "give a run directory, a .csv or .parquet file, or 'paper'"),
    ],
)
def test_errors_name_what_to_do(workplace: Path, arguments: tuple[str, ...], told: str) -> None:
    (workplace / "runs/study").mkdir(parents=True, exist_ok=True)
    (workplace / "runs/study/study.toml").touch()
    assert told in scaling(*arguments, cwd=workplace).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_and_a_narrow_character_set_are_no_tracebacks(run_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scaling", "records", run_path]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (1, "error: No space left on device\n")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True, timeout=100)
    assert (closed.returncode, closed.stderr) == (0, "")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, text=True, env=ascii_only, timeout=100)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "0.5800 ? 0.0020" in shown.stdout  # a plus-minus sign


def test_a_plan_that_says_nothing_of_the_study_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    pilots = [{"design": "deit-huge/16@224", "gpu_hours": 1.0, "after": {"regret": 0.5}}]
    for text, code, told in (
        (None, 1, "cannot be read"),
        ("{}", 1, "not a plan of this version"),
        (
            json.dumps({"pilots": pilots, "now": {"regret": 1.0}}),
            2,
            "has no design of 'digits-quick', only such as deit-h",
        ),
    ):
        if text is not None:
            plan.write_text(text)
        result = scaling("run-grid", "digits-quick", "--plan", plan, "--out", tmp_path / "run")
        assert (result.returncode, result.stdout) == (code, "")
        assert told in result.stderr
    assert not (tmp_path / "run").exists()
