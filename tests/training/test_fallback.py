"""Cells that run out of memory in training, for real: in a process with a limited address space."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from scaling.data import Scenes
from scaling.design import Cell
from scaling.records import Record, Status, describe
from scaling.training import cells, run_cell, run_what_fits
from scaling.training.evaluate import Evaluation
from scaling.training.fallback import smaller_micro_batch
from scaling.training.fresh import FreshProcess
from tests.training.test_resume import small_cell

BATCH, SPARE_BYTES = 1024, 1 << 28
STAGED = {
    "recipe__batch_size": BATCH,
    "recipe__steps": 4,
    "recipe__stages": [{"patch_size": 8, "share": 0.5}],
    "grid__patch_sizes": [2],
    "resources__save_every_steps": 1,
    "measure__log_every_steps": 3,
}


def run(cell: Cell, folder: Path, micro_batch_size: int) -> Record:
    def attempt(size: int, started: float) -> Record:
        return run_cell(cell, folder, "cpu", size, started, lambda *_: None)

    return run_what_fits(attempt, cell, folder, micro_batch_size, time.time())


def limited() -> Callable[[Cell, Path, int], Record]:
    """In a process that may take no more memory than it has after its imports, and something to train in."""
    limit = psutil.Process().memory_info().vms + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return run


def run_limited(cell: Cell, folder: Path) -> Record:
    folder.mkdir()
    with FreshProcess(limited) as process:
        record = process.call(cell, folder, BATCH)
    assert isinstance(record, Record), record
    return record


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_cell_goes_on_with_fewer_images_at_a_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second stage has 16 times the tokens; half a logged interval was trained with the larger micro-batch."""
    cell = small_cell(**STAGED)
    record = run_limited(cell, tmp_path / "limited")
    said = capfd.readouterr().out
    assert record.status is Status.DONE, record.error
    assert record.micro_batch_size is not None
    assert record.micro_batch_size < BATCH
    assert f"out of memory with micro-batches of {BATCH}" in said
    assert f"going on with {record.micro_batch_size}" in said
    assert record.steps == 4
    assert (tmp_path / "limited" / "resume" / "micro_batch_size").read_text() == str(record.micro_batch_size)
    (tmp_path / "whole").mkdir()
    whole = run(cell, tmp_path / "whole", 64)
    assert losses(tmp_path / "limited") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    assert record.test_loss == pytest.approx(whole.test_loss, rel=1e-3)


@pytest.mark.parametrize(("changes", "begins"), [({}, 12), ({"recipe__micro_batch_size": 24}, 24)])
def test_a_cell_that_is_continued_begins_with_what_fitted(changes: dict[str, int], begins: int, tmp_path: Path) -> None:
    cell = small_cell(recipe__batch_size=48, **changes)
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "micro_batch_size").write_text("15")  # noted with other processes, which 15 divided
    tried = []

    def attempt(size: int, started: float) -> Record:
        tried.append(size)
        return Record(**describe(cell), status=Status.DONE)

    run_what_fits(attempt, cell, tmp_path, 24, 0.0)
    assert tried == [begins]


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_test_that_runs_out_of_memory_takes_fewer_images_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell = small_cell()
    monkeypatch.setattr(cells, "evaluate", crowded(cells.evaluate, most=8))
    record = run_cell(cell, tmp_path, "cpu", 8, time.time(), lambda *_: None)
    assert record.status is Status.DONE
    assert (record.micro_batch_size, record.test_images) == (8, 40)
    assert "out of memory while testing (64 GB); going on with 8 images at once" in capfd.readouterr().out


def crowded(evaluate: Callable[..., Evaluation], most: int) -> Callable[..., Evaluation]:
    """The same, with no memory for more images at once."""

    def take(scenes: Scenes) -> Scenes:
        if len(scenes.images) > most:
            raise torch.OutOfMemoryError("64 GB")
        return scenes

    return lambda model, batches, *others: evaluate(model, map(take, batches), *others)


@pytest.mark.slow
def test_a_micro_batch_of_the_recipe_s_own_is_kept(tmp_path: Path) -> None:
    """What was trained before it ran out of memory is known."""
    record = run_limited(small_cell(**STAGED, recipe__micro_batch_size=BATCH), tmp_path / "own")
    assert record.status is Status.OOM
    assert record.micro_batch_size == BATCH
    assert record.steps == 2
    assert record.images_seen == 2 * BATCH
    assert record.training_seconds is not None
    assert record.training_seconds > 0


def test_each_try_has_at_most_half_the_images() -> None:
    cell = small_cell(recipe__batch_size=48)
    assert [smaller_micro_batch(cell, size) for size in (48, 24, 16, 3, 2, 1)] == [24, 12, 8, 1, 1, None]
    shared = small_cell(recipe__batch_size=48, resources__processes=2)
    assert smaller_micro_batch(shared, 24) == 12
    assert smaller_micro_batch(small_cell(recipe__batch_size=48, recipe__micro_batch_size=24), 24) is None
