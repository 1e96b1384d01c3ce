"""`scaling estimate` as a user types it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.device_constants import DATA
from scaling import load_records
from scaling.design import study_to_toml
from tests.cli.command import scaling, scaling_afresh
from tests.conftest import small_study

ROOT = Path(__file__).parents[2]
# What other tools may rely on; see the README.
KEYS = {
    *("design", "architecture", "size", "patch_size", "input_size", "sequence_length", "parameters"),
    *("forward_flops_per_image", "training_flops_per_image", "saved_activation_bytes_per_image"),
    *("model_state_bytes", "images_per_gpu", "min_gpus", "min_nodes", "images_per_second_per_gpu"),
    *("gpu_hours_per_epoch", "gpu_hours_per_epoch_low", "gpu_hours_per_epoch_high", "hardware", "precision"),
}


def answer(*arguments: str | Path) -> list[dict[str, object]]:
    result = scaling("estimate", *arguments, "--format", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_table_6_in_one_command() -> None:
    rows = answer("{deit,adventurer}-base/{16,8,4,2,1}@224", "--precision", "fp16")
    assert [row["design"] for row in rows][:2] == ["deit-base/16@224", "deit-base/8@224"]
    assert all(set(row) >= KEYS for row in rows)
    assert rows[0]["parameters"] == 86_567_656
    assert rows[0]["training_flops_per_image"] == 105_151_758_336
    assert [row["min_nodes"] for row in rows] == [1, 1, 2, 8, 32, 1, 1, 3, 10, 43]
    assert all(row["hardware"] == "a100-80gb" and row["misfit"] is None for row in rows)


def test_the_table_is_for_people_and_notes_go_to_stderr() -> None:
    result = scaling("estimate", "deit-base/{16,1}@224", "--precision", "fp16")
    assert result.returncode == 0
    assert "deit-base/1@224" in result.stdout
    assert "50,176" in result.stdout
    assert "15.68 GiB" in result.stdout
    assert "0.386 [0.335, 0.443]" in result.stdout
    assert "Table 6 of the paper" in result.stderr
    assert "10% of 79.3 GiB is kept free" in result.stderr


def test_csv_is_a_table_of_the_same() -> None:
    text = scaling("estimate", "deit-tiny/{16,8}@224", "deit-huge/1@224", "--epochs", "2", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["design"] for row in rows] == ["deit-tiny/16@224", "deit-tiny/8@224", "deit-huge/1@224"]
    assert float(rows[0]["gpu_hours"]) == pytest.approx(2 * float(rows[0]["gpu_hours_per_epoch"]))
    assert rows[2]["gpu_hours"] == ""


def test_budget_of_a_recipe() -> None:
    (row,) = answer("adventurer-base/4@224", "--recipe", "adventurer", "--price", "2", "--gpus", "64")
    stages = row["stages"]
    assert isinstance(stages, list)
    assert [stage["name"] for stage in stages] == ["pretraining", "intermediate", "finetuning"]
    assert row["dollars"] == pytest.approx(2 * float(str(row["gpu_hours"])))
    dense = json.loads(scaling("estimate", "deit-base/16@512+upernet", "--recipe", "ade20k", "--format", "json").stdout)
    (known,) = dense
    assert (known["gpus"], known["batch_size"]) == (8, 16)  # the recipe's batch, not the default
    table = scaling("estimate", "adventurer-base/4@224", "--recipe", "adventurer", "--price", "2").stdout
    assert "kWh" in table
    assert "$" in table


def test_breakdown_sums_to_the_totals() -> None:
    (row,) = answer("adventurer-tiny/16@224", "--breakdown")
    breakdown = row["breakdown"]
    assert isinstance(breakdown, dict)
    for quantity in ("parameters", "forward_flops_per_image", "saved_activation_bytes_per_image"):
        assert sum(breakdown[quantity].values()) == row[quantity]
    assert set(breakdown["scan_flops_by_convention"]) == {"dual", "causal", "recurrence"}
    assert "scan flops by convention" in scaling("estimate", "adventurer-tiny/16@224", "--breakdown").stdout


def test_the_stages_of_a_study_are_told_apart() -> None:
    shown = scaling("estimate", "--study", "imagenet-adventurer", "--hardware", "a100-80gb").stdout
    assert "adventurer-base/8@128 (pretraining)" in shown
    assert "adventurer-base/8@224 (intermediate)" in shown
    assert shown.count("adventurer-base/8@224") == 2


def test_a_study_and_its_own_device(tmp_path: Path) -> None:
    device = {
        "memory_bytes": 16_000_000_000,
        "peak_flops": {"fp32": 8e12},
        "bandwidth_bytes_per_second": 320e9,
        "link_bytes_per_second": 16e9,
        "network_bytes_per_second": 1e9,
        "power_watts": 70,
    }
    path = tmp_path / "study.toml"
    path.write_text(study_to_toml(small_study(hardware={"t4": device}, grid__seeds=[0, 1])))
    rows = answer("--study", path, "--hardware", "t4")
    assert [row["hardware"] for row in rows] == ["t4", "t4"]
    assert all(isinstance(row["gpu_hours"], float) for row in rows)
    assert "all rows together" in scaling("estimate", "--study", path, "--hardware", "t4").stderr


def test_a_study_is_executed_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    asked = {"processes": 4, "sharding": "fsdp", "activation_checkpointing": True}
    path.write_text(study_to_toml(small_study(**{f"resources__{key}": value for key, value in asked.items()})))
    planned = scaling("run-grid", path, "--dry-run", "--format", "json", "--device", "cpu", cwd=tmp_path)
    options = ("--study", path, "--hardware", "a100-80gb")
    rows = answer(*options)
    assert [row["saved_activation_bytes_per_image"] for row in rows] == [
        cell["activation_bytes_per_image"] for cell in json.loads(planned.stdout)
    ]
    assert {(row["gpus"], row["sharding"], row["checkpointing"]) for row in rows} == {(4, "fsdp", True)}
    assert {(row["gpus"], row["sharding"]) for row in answer(*options, "--gpus", "2", "--sharding", "ddp")} == {
        (2, "ddp")
    }
    assert "a100-80gb, fp32, batch 8, fsdp, checkpointing\n" in scaling("estimate", *options).stdout.replace("  ", "")


def test_calibration_from_a_table(tmp_path: Path) -> None:
    slow = tmp_path / "measured.csv"
    slow.write_text("design,images_per_second\ndeit-base/16@224,100\n")
    (row,) = answer("deit-base/16@224", "--precision", "fp16", "--calibration", slow)
    assert row["images_per_second_per_gpu"] == pytest.approx(100, rel=0.05)
    assert row["constants"] == f"{slow}: 1 measured"
    (row,) = answer("deit-base/1@224", "--precision", "fp16", "--calibration", DATA / "table6.csv")
    assert row["gpu_hours_per_epoch"] == pytest.approx(967.99, rel=0.05)


def test_calibration_from_the_reference_study() -> None:
    """The committed records of two CPU cores: one set of constants explains all cells."""
    records = load_records(ROOT / "runs" / "digits-quick")
    measured = records.groupby("design")["images_per_second"].mean()
    options = ("--hardware", "cpu", "--calibration", ROOT / "runs" / "digits-quick")
    rows = answer("--study", "digits-quick", *options)
    assert len(rows) == 8
    for row in rows:
        assert row["images_per_second_per_gpu"] == pytest.approx(measured[str(row["design"])], rel=0.15)


def test_calibration_from_a_parquet_file(tmp_path: Path) -> None:
    """A finished row counts, one that ran out of memory does not."""
    records = pd.DataFrame(
        {
            "design": ["deit-nano/4@32", "deit-nano/2@32"],
            "status": ["done", "oom"],
            "images_per_second": [500.0, None],
            "precision": ["fp32", "fp32"],
            "batch_size": [32, 32],
            "micro_batch_size": [32, 32],
            "classes": [10, 10],
        }
    )
    path = tmp_path / "records.parquet"
    records.to_parquet(path)
    options = ("--hardware", "cpu", "--batch-size", "32", "--gpus", "1", "--classes", "10", "--calibration", path)
    (row,) = answer("deit-nano/4@32", *options)
    assert row["images_per_second_per_gpu"] == pytest.approx(500, rel=0.1)


def test_check_of_a_dense_study_whose_input_is_not_its_canvas(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(study_to_toml(small_study(grid__input_sizes=[32], grid__patch_sizes=[8])))
    result = scaling_afresh("estimate", "--study", path, "--check")
    assert result.returncode == 0, result.stderr
    assert "deit-nano/8@32+linear" in result.stdout
    assert "+0.000%" in result.stdout


@pytest.mark.usefixtures("twins")
def test_check_counts_on_the_real_model_and_names_what_has_none() -> None:
    names = ("deit-128x2/16@64", "adventurer-nano/16@64", "twin-one/16@64")
    result = scaling_afresh("estimate", *names, "--check", "--format", "json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["design"] for row in rows} == set(names[:2])
    assert {row["error"] for row in rows} == {0.0}
    assert "saved_tensors_hooks" in {row["counter"] for row in rows}
    assert "not checked: twin-one/16@64" in result.stderr
    alone = scaling("estimate", names[2], "--check")
    assert alone.returncode == 2
    assert "'twin' has costs and no model" in alone.stderr


def test_calibration_takes_only_records_of_the_device() -> None:
    options = ("--study", "digits-quick", "--hardware", "h100", "--calibration", ROOT / "runs" / "digits-quick")
    result = scaling("estimate", *options)
    assert result.returncode == 2
    assert "none of the 16 rows is a finished run on h100; they ran on AMD EPYC" in result.stderr


@pytest.mark.parametrize(("kernel", "scan"), [("mamba-ssm", "fused"), ("torch", "recomputed")])
def test_a_record_s_kernels_are_those_of_the_estimate(kernel: str, scan: str, tmp_path: Path) -> None:
    """Calibrating on a record with a kernel's name is calibrating on a table with the estimator's word."""
    speeds = {}
    for column in (kernel, scan):
        table = pd.DataFrame({"design": ["adventurer-base/4@224"], "images_per_second": [40.0], "scan": [column]})
        table.to_csv(tmp_path / "speeds.csv", index=False)
        (row,) = answer("adventurer-base/2@224", "--hardware", "h100", "--calibration", tmp_path / "speeds.csv")
        speeds[column] = row["images_per_second_per_gpu"]
    assert speeds[kernel] == speeds[scan]


def test_a_budget_that_does_not_fit_keeps_its_keys() -> None:
    text = scaling("estimate", "deit-huge/1@224", "--epochs", "10", "--format", "json").stdout
    assert json.loads(text)[0]["gpu_hours"] is None
    assert json.loads(text)[0]["stages"] is None


def test_what_does_not_fit_keeps_its_counts_and_fails() -> None:
    result = scaling("estimate", "deit-huge/1@224", "deit-tiny/16@224", "--format", "json")
    assert result.returncode == 1
    large, small = json.loads(result.stdout)
    assert large["parameters"] == 695_194_600
    assert large["gpu_hours_per_epoch"] is None
    assert small["gpu_hours_per_epoch"] > 0
    assert result.stderr.startswith("error: deit-huge/1@224: one image needs 81.5 GiB, 10.2 GiB more than")
    assert "Infinity" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either designs, such as deit-base/16@224, or --study NAME"),
        (("deit-base/16@224", "--study", "digits"), "give either designs"),
        (("deit-base/15@224",), "15 does not divide input size 224"),
        (("deit-base/16@224", "--hardware", "a100"), "did you mean 'a100-40gb' or 'a100-80gb'?"),
        (("deit-base/16@224", "--hardware", "v100", "--precision", "bf16"), "v100 has no rate for precision 'bf16'"),
        (("deit-base/16@224", "--precision", "fp8"), "unknown precision 'fp8': known: fp32, bf16, fp16"),
        (("deit-base/16@224", "--classes", "0"), "classes must be at least 1 and at most 10,000,000, not 0"),
        (("deit-base/16@224", "--batch-size", "0"), "batch size must be 1 to"),
        (("deit-base/16@224", "--train-images", "-5"), "train images must be 1 to"),
        (("deit-base/16@224", "--gpus", "7"), "does not divide over 7 GPUs; use 4 or 8"),
        (("deit-base/16@224", "--epochs", "nan"), "epochs must be positive"),
        (("deit-base/16@224", "--epochs", "1", "--recipe", "deit"), "give one"),
        (("deit-base/16@224", "--price", "2"), "a price needs a duration"),
        (("deit-base/16@224", "--epochs", "1", "--price", "-2"), "the price of a GPU-hour must be positive"),
        (("--study", "digits", "--classes", "5"), "--classes: the study's data say it"),
        (("--study", "digits", "--batch-size", "7"), "--batch-size: the study says"),
        (("deit-base/16@224", "--check", "--epochs", "3"), "--epochs does not go with --check: leave out one of them"),
        (("--study", "", "deit-base/16@224"), "give either designs"),
        (("deit-base/16@224", "--recipe", "deit", "--batch-size", "7"), "--batch-size: the recipe says"),
        (("deit-base/16@224", "--precision", ""), "unknown precision ''"),
        (("deit-base/16@224", "--breakdown", "--format", "csv"), "--breakdown does not fit into a CSV table"),
        (("deit-base/16@224", "--epochs", "1e308"), "epochs must be positive and at most 1,000,000"),
        (("deit-base/16@224", "--epochs", "1", "--price", "1e308"), "positive and at most 1,000,000"),
        (("deit-base/16@224", "--classes", "9" * 300), "at most 10,000,000"),
        ((f"deit-base/{'9' * 5000}@224",), "is not a design"),
        (("deit-base/16@224+extend=0",), "stretch to lengths such as 784"),
        (("adventurer-base/16@224", "--recipe", "deit"), "does not say how adventurer-base/16@224 is trained"),
        (("adventurer-base/4@224", "--recipe", "adventurer", "--gpus", "1024"), "finetuning of adventurer-base/4@224"),
        (("deit-base/1@224", "--batch-size", "1021"), "divides over no number"),
    ],
)
def test_wrong_usage_is_a_plain_line(arguments: tuple[str, ...], message: str) -> None:
    result = scaling("estimate", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3
    assert not result.stdout


def test_calibration_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n1,2\n")
    result = scaling("estimate", "deit-base/16@224", "--calibration", path)
    assert result.returncode == 2
    assert "needs the columns design and images_per_second (or gpu_hours_per_epoch); found a, b" in result.stderr
    for column, value, told in (
        ("data.train_images", "-5", "data.train_images: -5"),
        ("data.image_size", "[224", "data.image_size: '[224': not a list"),
        ("recipe.detector.proposals", "-1", "recipe.detector.proposals: -1"),
    ):
        path.write_text(
            f"design,images_per_second,data.name,data.task,{column}\ndeit-base/16@224,90,digits,segmentation,{value}\n"
        )
        broken = scaling("estimate", "deit-base/16@224", "--calibration", path)
        assert (broken.returncode, broken.stderr.count("\n")) == (2, 1), broken.stderr
        assert f"calibration, row 1: {told}" in broken.stderr
    missing = scaling("estimate", "deit-base/16@224", "--calibration", tmp_path / "none.csv")
    assert missing.returncode == 2
    assert "no such run directory" in missing.stderr


def test_one_estimate_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom scaling.cli import main\nsys.argv = ['scaling', 'estimate', 'deit-base/16@224']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, sep='\\n')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "scipy", "matplotlib"} & set(found.stdout.splitlines())
