"""Cells that run out of memory in training, for real: in a process with a limited address space."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scaling.design import Cell
from scaling.records import Record, Status
from scaling.training import run_cell, run_what_fits
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

    return run_what_fits(attempt, cell, micro_batch_size, time.time())


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
    (tmp_path / "whole").mkdir()
    whole = run(cell, tmp_path / "whole", 64)
    assert losses(tmp_path / "limited") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    assert record.test_loss == pytest.approx(whole.test_loss, rel=1e-3)


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
