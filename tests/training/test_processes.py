"""One cell on two processes (gloo), against one process."""

import errno
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from scaling.design import Cell, StudyError, build_study
from scaling.errors import ScalingError, UsageError
from scaling.records import Record, Status
from scaling.training import run_cell
from scaling.training.launch import run_on_processes
from tests.conftest import study_values
from tests.training.test_resume import STAGES, after, small_cell, weights

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
slow = pytest.mark.slow
TWO = {"resources__processes": 2}
WAYS = {
    "ddp": TWO,
    "ddp, adventurer": {**TWO, "grid__architectures": ["adventurer"]},
    "ddp, stages and average": {**TWO, "grid__patch_sizes": [2], "recipe__stages": STAGES, "recipe__ema_decay": 0.7},
    "ddp, classification": {**TWO, "data__task": "classification", "data__digits": 1},
    "fsdp": {**TWO, "resources__sharding": "fsdp"},
    "fsdp, adventurer": {**TWO, "resources__sharding": "fsdp", "grid__architectures": ["adventurer"]},
    "ddp, upernet": {**TWO, "grid__heads": ["upernet"]},
    "fsdp, upernet": {**TWO, "resources__sharding": "fsdp", "grid__heads": ["upernet"]},
    "fsdp, bf16": {**TWO, "resources__sharding": "fsdp", "recipe__precision": "bf16"},
}


def run(cell: Cell, folder: Path, stop: Callable[[], bool] = lambda: False, micro: int = 2) -> Record:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    folder.mkdir(parents=True, exist_ok=True)
    return run_cell(cell, folder, "cpu", micro, time.time(), lambda step, steps, loss: None, stop)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def alone(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if not key.startswith("resources")}


@slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(way: str, tmp_path: Path) -> None:
    """Same images, so the same losses up to rounding: 8 images are 4 micro-batches of one process, 2 of each of two."""
    changes = WAYS[way]
    one = run(small_cell(**alone(changes)), tmp_path / "one")
    two = run(small_cell(**changes), tmp_path / "two")
    assert one.status is two.status is Status.DONE
    tolerance = 0.01 if "bf16" in way else 1e-4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=tolerance)
    assert two.test_loss == pytest.approx(one.test_loss, rel=tolerance)
    assert two.test_images == one.test_images
    assert two.cell == one.cell
    assert two.resources is not None
    assert two.resources["processes"] == 2
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in expected.items()
    }
    if "bf16" not in way:
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-4)


@slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_cell_goes_on_with_more_or_fewer_processes(sharding: str, tmp_path: Path) -> None:
    one, two = small_cell(), small_cell(resources__processes=2, resources__sharding=sharding)
    run(one, tmp_path / "whole")
    for folder, cells in (("up", (one, two)), ("down", (two, one)), ("same", (two, two))):
        first = run(cells[0], tmp_path / folder, after(4) if cells[0] is one else stop_when_logged(tmp_path / folder))
        assert first.status is Status.PREEMPTED
        last = run(cells[1], tmp_path / folder)
        assert last.status is Status.DONE
        assert last.resume_note is None
        assert losses(tmp_path / folder) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def stop_when_logged(folder: Path) -> Callable[[], bool]:
    """Asked by the process that started the others, which is told a little later."""
    return lambda: (folder / "metrics.jsonl").exists() and bool(losses(folder))


@slow
def test_a_killed_process_ends_the_cell(tmp_path: Path) -> None:
    """Not as a hang, and without processes left over."""
    cell = small_cell(resources__processes=2, recipe__steps=2000)
    killed: list[int] = []

    def kill_one() -> bool:
        if not killed and (tmp_path / "metrics.jsonl").exists():
            second = ranks()[1]
            second.kill()
            killed.append(second.pid)
        return False

    with pytest.raises(ScalingError, match=r"process \d of 2 (was killed by signal 9|failed)"):
        run(cell, tmp_path, kill_one)
    assert killed
    assert not ranks()


def ranks() -> list[psutil.Process]:
    """Processes of this test's cell: forked from this process's server, in the order of their start."""
    from multiprocessing.forkserver import _forkserver

    server = psutil.Process(_forkserver._forkserver_pid)  # pyright: ignore[reportAttributeAccessIssue]
    return sorted(server.children(), key=lambda process: process.pid)


def starved(*arguments: Any) -> Record:
    """As a cell is run, where the second process may take no more than 300 MB beyond what it has."""
    if os.environ["RANK"] == "1":
        limit = psutil.Process().memory_info().vms + 300_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return run_cell(*arguments)


def stale(*arguments: Any) -> Record:
    raise OSError(errno.ESTALE, "Stale file handle", "data")


@slow
def test_a_failing_storage_is_the_error_that_it_would_be_in_one_process() -> None:
    with pytest.raises(OSError, match="Stale file handle") as caught:
        run_on_processes(stale, (small_cell(resources__processes=2),), lambda *_: None, lambda: False)
    assert caught.value.errno == errno.ESTALE


@slow
def test_running_out_of_memory_in_one_process_is_the_cell_s_result(tmp_path: Path) -> None:
    cell = small_cell(resources__processes=2, recipe__batch_size=8192, grid__patch_sizes=[2])
    arguments = (cell, tmp_path, "cpu", 4096, time.time())
    record = run_on_processes(starved, arguments, lambda step, steps, loss: None, lambda: False)
    assert record.status is Status.OOM
    assert record.error is not None
    assert "memory" in record.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": 3}, "resources.processes: 3 do not divide recipe.batch_size 8 evenly"),
        ({"sharding": "fsdp"}, "give resources.processes above 1"),
        ({"sharding": "half"}, "resources.sharding: 'half' is not allowed; use 'ddp' or 'fsdp'"),
        ({"processes": 0}, "resources.processes: 0"),
        ({"save_every_minutes": 0}, "resources.save_every_minutes: 0"),
        ({"proceses": 2}, "resources.proceses: unknown key; did you mean 'processes'"),
    ],
)
def test_bad_resources_are_refused_with_the_study(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as refused:
        build_study(study_values(**{f"resources__{key}": value for key, value in changes.items()}))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"micro_batch_size": 8}, "recipe.micro_batch_size: 8 images for each of 2 processes"),
        ({"ema_decay": 0.9}, "'fsdp' cannot train with this recipe.ema_decay"),
        ({"stages": [{"patch_size": 8, "share": 0.5}]}, "'fsdp' cannot train with this recipe.stages"),
        ({"precision": "fp16"}, "'fsdp' cannot train with this recipe.precision"),
    ],
)
def test_recipes_that_many_processes_cannot_train_are_refused(recipe: dict[str, Any], message: str) -> None:
    values = {f"recipe__{key}": value for key, value in recipe.items()}
    values |= {"resources__processes": 2, "resources__sharding": "fsdp", "grid__patch_sizes": [4]}
    with pytest.raises(StudyError) as refused:
        build_study(study_values(**values))
    assert message in str(refused.value)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="8 images cannot be divided into micro-batches of 3 on 1 processes"):
        run(small_cell(), tmp_path, micro=3)
    assert "RANK" not in os.environ
