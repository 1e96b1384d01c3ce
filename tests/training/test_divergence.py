"""Cells whose loss stops being finite or explodes, by images that are not numbers or far too bright."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.data import Scenes, Share, training_batches
from scaling.design import Cell
from scaling.records import Status
from tests.training.test_resume import after, curve, kill, run, small_cell

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
BATCH = 8


def spoil(monkeypatch: pytest.MonkeyPatch, places: dict[int, float]) -> list[int]:
    """Multiply an image at some places of the stream; returns a list that fills with the starts of batches read."""
    seen: list[int] = []

    def spoiled(cell: Cell, share: Share, workers: int | None) -> Iterator[Scenes]:
        for start, scenes in zip(share.starts(), training_batches(cell, share, workers), strict=False):
            seen.append(start)
            for place, factor in places.items():
                if start <= place < start + share.micro_batch_size:
                    scenes = replace(scenes, images=scenes.images.clone())
                    scenes.images[place - start] *= factor
            yield scenes

    monkeypatch.setattr("scaling.training.loop.training_batches", spoiled)
    return seen


def cell_of(**changes: Any) -> Cell:
    return small_cell(measure__log_every_steps=1, **changes)


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in curve(folder).splitlines()]


def test_one_bad_image_is_left_out_with_those_since_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil(monkeypatch, {5 * BATCH: float("nan")})
    record = run(cell_of(resources__save_every_steps=4), tmp_path)
    assert record.status is Status.DONE
    assert record.rolled_back_steps == 2
    assert record.images_seen == 8 * BATCH
    assert steps_of(tmp_path) == list(range(1, 9))
    # Steps 5 and 6 of the stream (from 0: 4 and 5) were undone; what follows is read in their place.
    assert seen == [step * BATCH for step in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)]


def test_without_a_checkpoint_it_returns_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spoil(monkeypatch, {BATCH: float("nan")})
    record = run(cell_of(resources__save_every_steps=None), tmp_path)
    assert record.status is Status.DONE
    assert record.rolled_back_steps == 2
    assert seen == [step * BATCH for step in range(10)]
    assert steps_of(tmp_path) == list(range(1, 9))


def test_the_second_time_it_is_recorded_as_diverged_with_its_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {5 * BATCH: float("nan"), 7 * BATCH + 1: float("nan")})
    record = run(cell_of(resources__save_every_steps=4), tmp_path)
    assert record.status is Status.DIVERGED
    assert record.error == "training loss is nan at step 6 of 8"
    assert record.rolled_back_steps == 2
    assert record.test_loss is None
    assert steps_of(tmp_path) == list(range(1, 6))


def test_an_exploding_loss_is_no_training_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate of 1e30: finite losses, far above ln(classes), until they overflow."""
    options = {"recipe__learning_rate": 1e30, "recipe__gradient_clip": 0, "recipe__warmup_steps": None}
    record = run(cell_of(**options), tmp_path)
    assert record.status is Status.DIVERGED
    assert record.error is not None
    loss = float(record.error.split()[3])
    assert not loss <= 12  # 5 ln(11)
    assert record.steps is not None
    assert record.error.endswith(f"at step {record.steps} of 8")
    assert record.images_seen is not None
    assert record.images_seen == BATCH * record.steps > 0
    assert record.training_seconds is not None
    assert 0 < (record.data_seconds or 0) < record.training_seconds
    assert record.images_per_second == pytest.approx(record.images_seen / record.training_seconds)
    assert record.overhead_seconds is not None
    assert record.overhead_seconds > 0


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is logged after the checkpoint is due, which must not keep what it will find."""
    spoil(monkeypatch, {5 * BATCH: float("nan")})
    cell = small_cell(measure__log_every_steps=4, resources__save_every_steps=1)
    record = run(cell, tmp_path)
    assert record.status is Status.DONE
    assert record.rolled_back_steps == 1


@pytest.mark.parametrize("step", [5, 7])
def test_a_rollback_survives_a_kill(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same training, killed before it diverges and after it was rolled back, ends the same."""
    spoil(monkeypatch, {5 * BATCH: float("nan")})
    cell = cell_of(resources__save_every_steps=4)
    whole = run(cell, tmp_path / "whole")
    kill(cell, tmp_path / "killed", step)
    assert run(cell, tmp_path / "killed", after(2)).status is Status.PREEMPTED
    record = run(cell, tmp_path / "killed")
    assert record.rolled_back_steps == whole.rolled_back_steps == 2
    assert record.test_loss == whole.test_loss
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
