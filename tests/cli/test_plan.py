"""`scaling plan` as a user gives it."""

import json
from pathlib import Path

import pytest

from tests.cli.command import scaling

ROOT = Path(__file__).parents[2]


def test_the_answer_comes_first_and_doubts_last(tmp_path: Path) -> None:
    result = scaling("plan", "--budget", "5000 gpu-hours", "--gpus", "64", "--save", "plan.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("* Train adventurer-")
    assert "95 % interval" in result.stdout.splitlines()[0]
    assert "next patch" in result.stdout
    assert "note: noise between seeds assumed" in result.stderr
    assert "designs keep within the limits" in result.stderr
    again = scaling("plan", "--against", "plan.json", "--hardware", "h100", "--checkpointing", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "asked: hardware" in again.stdout
    assert "asked: checkpointing" in again.stdout
    assert "speeds: generic" in again.stderr
    dropped = scaling("plan", "--against", "plan.json", "--budget", "None", "--target", "82%", cwd=tmp_path)
    assert dropped.returncode == 0, dropped.stderr
    assert "asked: budget" in dropped.stdout
    nothing = scaling("plan", "--against", "plan.json", "--budget", "none", cwd=tmp_path)
    assert "say what can be spent" in nothing.stderr


def test_json_is_pure_and_complete() -> None:
    options = ("--target", "83%", "--price", "2", "--hold-out", "patch_size < 4", "--top", "3", "--format", "json")
    found = json.loads(scaling("plan", *options).stdout)
    assert found["question"]["target"] == pytest.approx(0.83)
    assert len(found["designs"]) == 3
    first = found["designs"][0]
    assert set(first["predictions"]) == {"accuracy", "test_loss"}
    assert first["chance_target"] >= 0.5
    assert first["dollars"] == pytest.approx(2 * first["gpu_hours"]["estimate"])
    assert found["held_out"]["rank_correlation"] > 0.9
    assert found["verdict"][0].startswith("The cheapest expected to reach 83.0 % is")
    assert set(found["law"]["exponents"]) == {"N", "R", "p"}


def test_a_measured_run_with_its_own_speeds() -> None:
    run = "runs/digits-quick"
    options = ("--hardware", "cpu", "--scan", "recomputed", "--calibration", run, "--patch-sizes", "8,4,2")
    result = scaling("plan", "--study", run, "--budget", "1e15 flops", *options, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "Train deit-micro/" in result.stdout
    assert "images, as the records were" in result.stderr


def test_a_calibration_is_read_as_by_estimate(tmp_path: Path) -> None:
    (tmp_path / "measured.csv").write_text("design,gpu_hours_per_epoch,gpus\ndeit-base/16@224,0.0045,8\n")
    epoch = ("--train-images", "12812", "--epochs", "300", "--calibration", "measured.csv", "--batch-size", "512")
    epoch += ("--gpus", "8", "--format", "json")
    (estimated,) = json.loads(scaling("estimate", "deit-base/16@224", *epoch, cwd=tmp_path).stdout)
    planned = scaling("plan", "--budget", "50 gpu-hours", "--only", "deit-base/16@224", *epoch, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    (found,) = json.loads(planned.stdout)["designs"]
    assert found["gpu_hours"]["estimate"] == pytest.approx(estimated["gpu_hours"])
    assert estimated["gpu_hours"] == pytest.approx(300 * 0.0045, rel=0.01)


def test_a_path_and_the_figures(tmp_path: Path) -> None:
    path = scaling("plan", "--budget", "1e21 flops", "--path", "--figure", "path.png", cwd=tmp_path)
    assert path.returncode == 0, path.stderr
    assert "best design of each budget" in path.stdout
    assert (tmp_path / "path.png").stat().st_size > 10_000
    drawn = scaling("plan", "--budget", "1e21 flops", "--figure", "plan.pdf", cwd=tmp_path)
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF"), drawn.stderr


def test_pilots_and_a_simulated_study_as_json(tmp_path: Path) -> None:
    run = str(ROOT / "runs" / "digits-quick")
    cpu = ("--hardware", "cpu", "--scan", "recomputed", "--study", run, "--gpus", "1")
    asked = ("plan", *cpu, "--budget", "0.5 gpu-hours", "--sizes", "nano,micro", "--patch-sizes", "12,8,6,4,3,2")
    pilots = scaling(*asked, "--next", "2", "--pilot-budget", "0.2 gpu-hours", "--format", "json", cwd=tmp_path)
    found = json.loads(pilots.stdout)
    assert found["choice"].startswith("deit-micro/")
    pilots = ("--next", "2", "--pilot-budget", "0.2 gpu-hours")
    none = scaling(*asked, "--only", "deit-nano/{12,6}@24*", *pilots, "--write", "none.toml", cwd=tmp_path)
    assert (none.returncode, none.stdout.startswith("* ")) == (0, True)
    assert "none.toml: not written, there is no run for it" in none.stderr
    assert not (tmp_path / "none.toml").exists()
    simulated = scaling(*asked, "--simulate", run, "--format", "json", cwd=tmp_path)
    assert simulated.returncode == 0, simulated.stderr
    assert json.loads(simulated.stdout)["after"]["regret"] <= json.loads(simulated.stdout)["now"]["regret"] + 1e-9


def test_a_schedule_of_patches(tmp_path: Path) -> None:
    run = str(ROOT / "runs" / "digits-quick")
    options = ("--study", run, "--schedule", "deit-nano/3@24+linear", "--write", "schedule.toml")
    found = scaling("plan", *options, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "patch 3 alone" in found.stdout
    dry = scaling("run-grid", "schedule.toml", "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert "deit-nano/3@24+linear" in dry.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "say what can be spent"),
        (("--budget", "5000"), 2, "'5000 gpu-hours'"),
        (("--budget", "$5000"), 2, "--price"),
        (("--budget", "1e21 flops", "--hardware", "a1000"), 2, "did you mean 'a100-80gb'?"),
        (("--budget", "1e21 flops", "--gpus", "64", "--nodes", "4"), 2, "are 32 GPUs, not --gpus 64"),
        (("--budget", "1e21 flops", "--deadline", "3 days"), 2, "Add --gpus or --nodes"),
        (("--budget", "1e21 flops", "--gpus", "48"), 2, "use 32 or 64"),
        (("--budget", "1e21 flops", "--patch-sizes", "x"), 2, "whole numbers"),
        (("--budget", "1e21 flops", "--sizes", ","), 2, "--sizes ',': names nothing"),
        (("--budget", "1e21 flops", "--epochs", "3", "--recipe", "deit"), 2, "give one"),
        (("--budget", "1e21 flops", "--task", "detecting", "--epochs", "12"), 2, "did you mean 'detection'?"),
        (("--budget", "1e21 flops", "--precision", "fp8"), 2, "unknown precision 'fp8'"),
        (("--budget", "1e21 flops", "--study", "nowhere"), 2, "no such run directory"),
        (("--budget", "1e21 flops", "--against", "none.json"), 1, "none.json: cannot be read"),
        (("--budget", "1e21 flops", "--hold-out", "patch_size <"), 2, "SyntaxError"),
        (("--budget", "1 gpu-hours", "--only", "deit-base/*@224"), 2, "smallest budget that would do is"),
        (("--budget", "1e21 flops", "--path", "--next", "2"), 2, "two questions"),
        (("--budget", "1e21 flops", "--next", "2"), 2, "--pilot-budget '200 gpu-hours'"),
        (("--budget", "1e21 flops", "--next", "2", "--pilot-budget", "9"), 2, "--pilot-budget '9': no unit"),
        (("--budget", "1e21 flops", "--figure", "plan.jpg"), 2, "plan.jpg"),
        (("--budget", "1e21 flops", "--write", "study.toml"), 2, "--save writes the plan"),
        (("--budget", "1e21 flops", "--simulate", "nothing"), 2, "no built-in study 'nothing'"),
        (("--schedule", "deit-base/16@224"), 1, "no learning curves"),
        (("--schedule", "deit-base/16@224", "--gpus", "8"), 2, "leave out --gpus"),
        (("--schedule", "deit-base/16@224", "--seed-noise", "0"), 2, "leave out --seed-noise"),
        (("--schedule", "deit-base/16@224", "--no-checkpointing"), 2, "leave out --"),
        (("--budget", "1e21 flops", "--path", "--top", "3"), 2, "--top lists designs of the plan; leave out --path"),
        (("--budget", "1e21 flops", "--save", "/dev/null/plan.json"), 1, "cannot be written"),
    ],
)
def test_bad_input_is_named_in_three_lines_at_most(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = scaling("plan", *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 3
    assert not result.stdout
