"""Cells that are stopped, killed and damaged, and continue: for real, and to the last bit."""

import json
import resource
import shutil
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scaling.design import Cell, build_study
from scaling.errors import ScalingError
from scaling.records import Record, RunDirectory, Status
from scaling.training import run_cell
from scaling.training.loop import Progress
from tests.conftest import small_study, study_values

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
STAGES = [{"patch_size": 8, "share": 0.5}, {"patch_size": 4, "share": 0.25}]
STEPS = 8
KINDS = {
    "drop path": {"recipe__drop_path": 0.2},
    "adventurer": {"grid__architectures": ["adventurer"], "recipe__drop_path": 0.2},
    "stages and average": {"grid__patch_sizes": [2], "recipe__stages": STAGES, "recipe__ema_decay": 0.7},
    "accumulation and layer decay": {"recipe__micro_batch_size": 4, "recipe__layer_decay": 0.7},
    "detector": {"data__task": "detection", "recipe__detector": {"strides": [2, 4], "proposals": 16}},
}


def small_cell(**changes: Any) -> Cell:
    values = {"recipe__steps": STEPS, "recipe__warmup_steps": 2, "measure__log_every_steps": 3}
    values |= {"resources__save_every_steps": 2, "measure__fvcore": False}
    return build_study(study_values(**(values | changes))).cells()[0]


def run(
    cell: Cell,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    report: Progress = lambda step, steps, loss: None,
) -> Record:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    folder.mkdir(parents=True, exist_ok=True)
    micro = cell.recipe.micro_batch_size or cell.recipe.batch_size
    return run_cell(cell, folder, "cpu", micro, time.time(), report, stop)


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop once so many steps are done."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: next(left) == 0


def curve(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def assert_same(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    expected, found = weights(one), weights(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_cell_continues_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    """Stopped in a stage, and right before a switch."""
    continues_to_the_last_bit(small_cell(**KINDS[kind]), (3, 1), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_that_is_stopped_after_each_step_continues_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    continues_to_the_last_bit(small_cell(**KINDS[kind]), (1,) * STEPS, tmp_path)


def continues_to_the_last_bit(cell: Cell, stops: tuple[int, ...], tmp_path: Path) -> None:
    whole = run(cell, tmp_path / "whole")
    parts = [run(cell, tmp_path / "parts", after(steps)) for steps in stops]
    assert [record.status for record in parts] == [Status.PREEMPTED] * len(stops)
    assert [record.steps for record in parts] == list(accumulate(stops))
    last = run(cell, tmp_path / "parts")
    assert last.status is whole.status is Status.DONE
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert (last.test_loss, last.accuracy, last.mean_iou) == (whole.test_loss, whole.accuracy, whole.mean_iou)
    assert last.images_seen == whole.images_seen
    times = [record.training_seconds for record in (*parts, last)]
    assert times == sorted(times, key=lambda seconds: seconds or 0)  # summed over the tries


def test_a_cell_that_is_stopped_while_it_is_tested_does_not_train_again(tmp_path: Path) -> None:
    cell = small_cell(resources__save_every_steps=None)
    whole = run(cell, tmp_path / "whole")
    stopped = run(cell, tmp_path / "parts", after(STEPS + 1))
    assert (stopped.status, stopped.error, stopped.steps) == (Status.PREEMPTED, "asked to stop while testing", STEPS)
    reported: list[int] = []
    last = run(cell, tmp_path / "parts", report=lambda step, steps, loss: reported.append(step))
    assert reported == [STEPS]  # where it begins
    assert last.test_loss == whole.test_loss
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_checkpoint_of_other_images_is_not_continued(tmp_path: Path) -> None:
    cell = small_cell()
    run(cell, tmp_path, after(2))
    (about,) = (tmp_path / "resume").glob("step-*/about.json")
    values = json.loads(about.read_text())
    values["position"]["data_fingerprint"] = "others"
    about.write_text(json.dumps(values))
    with pytest.raises(ScalingError, match=r"was trained on other images \(fingerprint others\) than there are now"):
        run(cell, tmp_path)


class Killed(BaseException):
    """Like a kill: nothing of the training gets to clean up."""


def kill(cell: Cell, folder: Path, step: int) -> None:
    asked = iter(range(1, STEPS + 1))

    def die() -> bool:
        if next(asked) == step:
            raise Killed
        return False

    with pytest.raises(Killed):
        run(cell, folder, die)


@pytest.mark.parametrize("step", [1, 2, 3, 6, 7])
def test_a_killed_cell_continues_from_its_last_checkpoint(step: int, tmp_path: Path) -> None:
    """Also the curve, which had lines after the checkpoint, and half a line."""
    cell = small_cell(measure__log_every_steps=1)
    run(cell, tmp_path / "whole")
    kill(cell, tmp_path / "killed", step)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ima')
    record = run(cell, tmp_path / "killed")
    assert record.resume_note is None
    assert_same(tmp_path / "whole", tmp_path / "killed")


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "resume").iterdir())


def test_two_checkpoints_are_kept_and_none_of_a_finished_cell(tmp_path: Path) -> None:
    cell, runs = small_cell(), RunDirectory(tmp_path)
    folder = runs.begin(cell)
    kill(cell, folder, 7)
    assert checkpoints(folder) == ["step-00000004", "step-00000006"]
    runs.finish(run(cell, folder))
    assert not (folder / "resume").exists()
    assert weights(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights cut off": lambda folder: cut(folder / "model.safetensors"),
    "one bit of the weights": lambda folder: flip(folder / "model.safetensors"),
    "one bit of the rest": lambda folder: flip(folder / "state.pt"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no rest": lambda folder: (folder / "state.pt").unlink(),
    "nothing about it": lambda folder: (folder / "about.json").unlink(),
    "about cut off": lambda folder: cut(folder / "about.json"),
    "about nothing": lambda folder: (folder / "about.json").write_text("[]"),
    "another format": lambda folder: (folder / "about.json").write_text('{"format": 99}'),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("no folder")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noted_and_the_one_before_taken(damage: str, tmp_path: Path) -> None:
    cell = small_cell()
    run(cell, tmp_path / "whole")
    kill(cell, tmp_path / "killed", 7)
    DAMAGES[damage](tmp_path / "killed" / "resume" / "step-00000006")
    record = run(cell, tmp_path / "killed", after(1))
    assert record.steps == 5  # one after step 4
    assert record.resume_note is not None
    assert "step-00000006 was not continued from" in record.resume_note
    last = run(cell, tmp_path / "killed")
    assert last.resume_note == record.resume_note
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_without_a_good_checkpoint_training_starts_again(tmp_path: Path) -> None:
    cell, other = small_cell(), small_cell(recipe__learning_rate=2e-3)
    run(cell, tmp_path / "whole")
    kill(other, tmp_path / "killed", 7)
    record = run(cell, tmp_path / "killed")
    assert record.resume_note is not None
    assert record.resume_note.count(f"it is of cell {other.id}") == 2
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_checkpoint_without_the_curve_before_it_is_not_taken(tmp_path: Path) -> None:
    cell = small_cell()
    run(cell, tmp_path / "whole")
    kill(cell, tmp_path / "killed", 7)
    (tmp_path / "killed" / "metrics.jsonl").unlink()
    record = run(cell, tmp_path / "killed")
    assert record.resume_note is not None
    assert "metrics.jsonl lacks" in record.resume_note
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """Files cannot grow beyond 100 kB from the third step on, as if the disk were full."""
    cell = small_cell()
    run(cell, tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    done = iter(range(1, STEPS + 1))

    def fill() -> bool:
        if next(done) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        return False

    try:
        with pytest.raises(ScalingError, match=r"step-00000004: .* cannot be written .*continues from step-00000002"):
            run(cell, tmp_path / "full", fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints(tmp_path / "full") == ["step-00000002"]
    assert run(cell, tmp_path / "full").resume_note is None
    assert_same(tmp_path / "whole", tmp_path / "full")


def test_how_a_cell_is_carried_out_is_no_part_of_its_identity() -> None:
    plain = small_study().cells()[0]
    options = {"save_every_minutes": 1, "save_every_steps": 5, "processes": 2, "compile": True}
    other = small_study(**{f"resources__{key}": value for key, value in options.items()}).cells()[0]
    assert other.id == plain.id
    assert json.loads(other.resources.model_dump_json())["processes"] == 2


def test_storage_that_fails_costs_no_checkpoint(tmp_path: Path) -> None:
    """As a stale handle does: the checkpoint is there, and cannot be read now."""
    cell = small_cell()
    kill(cell, tmp_path, 7)
    about = tmp_path / "resume" / "step-00000006" / "about.json"
    text = about.read_text()
    about.unlink()
    about.symlink_to(about)  # reading it is an error of the file system
    with pytest.raises(OSError, match="symbolic links"):
        run(cell, tmp_path)
    about.unlink()
    about.write_text(text)
    assert run(cell, tmp_path, after(1)).steps == 7
