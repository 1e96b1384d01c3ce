"""Trackers with real cells; what they hold is read back and compared with metrics.jsonl."""

import json
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scaling.design import Cell, study_to_toml
from scaling.grid import Conduct, run_grid
from scaling.grid.tracking import TRACKERS, Tracking
from scaling.records import Record, RunDirectory, Status, describe
from tests.cli.command import scaling
from tests.conftest import small_study
from tests.grid.test_runner import PATIENCE_SECONDS, wait_until

Curve = list[tuple[int, float]]


def curve_of(run: Path, cell: Cell) -> Curve:
    lines = (run / "cells" / cell.id / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


def in_tensorboard(run: Path, cell: Cell, tag: str = "training_loss") -> Curve:
    events = EventAccumulator(str(run / "tensorboard" / cell.name), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def in_float32(curve: Curve) -> Curve:
    return [(step, float(np.float32(loss))) for step, loss in curve]


def test_tensorboard_shows_the_losses_of_every_cell(tmp_path: Path) -> None:
    study, run = small_study(measure__log_every_steps=1), tmp_path / "run"
    result = run_grid(study, run, device="cpu", conduct=Conduct(log=["tensorboard", "tensorboard"]))
    files = sorted(str(path.parent.relative_to(run)) for path in run.rglob("events.out.tfevents.*"))
    assert files == ["tensorboard/deit-nano/4@16+linear seed 0", "tensorboard/deit-nano/8@16+linear seed 0"]
    for cell, record in zip(study.cells(), result.records, strict=True):
        curve = curve_of(run, cell)
        assert len(curve) == 6
        assert in_tensorboard(run, cell) == in_float32(curve)
        assert record.test_loss is not None
        assert in_tensorboard(run, cell, "test_loss") == in_float32([(6, record.test_loss)])


def test_with_several_processes_the_first_is_logged_once(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8], resources__processes=2)
    run_grid(study, tmp_path, device="cpu", conduct=Conduct(log=["tensorboard"]))
    (cell,) = study.cells()
    assert in_tensorboard(tmp_path, cell) == in_float32(curve_of(tmp_path, cell))


@pytest.mark.slow
def test_a_cell_that_is_stopped_goes_on_in_its_tracker(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[4], recipe__steps=800, measure__log_every_steps=1)
    (file := tmp_path / "small.toml").write_text(study_to_toml(study))
    (cell,), run = study.cells(), tmp_path / "run"
    command = [sys.executable, "-m", "scaling", "run-grid", str(file), "--out", str(run), "--log", "tensorboard"]
    curve = run / "cells" / cell.id / "metrics.jsonl"
    process = Popen(command, stdout=DEVNULL, stderr=DEVNULL, text=True)
    wait_until(lambda: curve.is_file() and curve.read_text().count("\n") > 20, process)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 130
    assert Popen(command, stdout=DEVNULL, stderr=DEVNULL).wait(PATIENCE_SECONDS) == 0
    assert len(curve_of(run, cell)) == 800
    assert in_tensorboard(run, cell) == in_float32(curve_of(run, cell))


def track(run: RunDirectory, cell: Cell, curve: Curve, **known: Any) -> None:
    tracking = Tracking(("tensorboard",), cell, run)
    for step, loss in curve:
        tracking.report(step, loss)
    tracking.finish(Record(**(describe(cell) | known)), lambda: PATIENCE_SECONDS)


@pytest.mark.usefixtures("fresh_accelerate")
def test_steps_that_are_done_again_are_shown_once(tmp_path: Path) -> None:
    (cell,), run = small_study(grid__patch_sizes=[8]).cells(), RunDirectory(tmp_path)
    run.begin(cell)
    track(run, cell, [(1, 2.0), (2, 1.5), (3, 1.0), (4, 0.5)], status=Status.FAILED)
    track(run, cell, [(3, 1.25), (4, 64.0), (4, 0.75), (5, 0.25)], status=Status.DONE, steps=5, test_loss=0.125)
    assert in_tensorboard(tmp_path, cell) == [(1, 2.0), (2, 1.5), (3, 1.25), (4, 0.75), (5, 0.25)]
    track(run, cell, [], status=Status.DONE, steps=5, test_loss=0.125)  # killed between training and record
    assert in_tensorboard(tmp_path, cell)[-1] == (5, 0.25)


def test_a_broken_tracker_costs_no_cell(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8])
    (tmp_path / "tensorboard").write_text("in the way")
    result = run_grid(study, tmp_path, device="cpu", conduct=Conduct(log=["tensorboard"]))
    assert [record.status for record in result.records] == [Status.DONE]
    folder = tmp_path / "cells" / result.records[0].cell
    lines = [line for line in (folder / "log.txt").read_text().splitlines() if "--log" in line]
    assert len(lines) == 1
    assert lines[0].startswith("--log tensorboard: ")
    assert lines[0].endswith("; the cell goes on without it")
    assert [step for step, _ in curve_of(tmp_path, study.cells()[0])] == [2, 4, 6]
    assert not list(folder.glob("lease-*"))


def test_trackers_change_no_cell_and_no_record(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8])
    bare = run_grid(study, tmp_path / "bare", device="cpu").records[0]
    logged = run_grid(study, tmp_path / "logged", device="cpu", conduct=Conduct(log=["tensorboard"])).records[0]
    assert logged.cell == bare.cell
    assert logged.test_loss == bare.test_loss
    files = [(tmp_path / name / "study.toml").read_text() for name in ("bare", "logged")]
    assert files[0] == files[1]


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_a_tracker_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path, extra: tuple[str, ...]) -> None:
    missing = [name for name in TRACKERS if find_spec(name) is None]
    cases = {"tensorbord": "did you mean 'tensorboard'?"}
    cases |= {name: f"it is not installed; run: pip install 'patch-scaling[{name}]'" for name in missing[:1]}
    for name, words in cases.items():
        result = scaling("run-grid", "digits-quick", "--log", name, *extra, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr == f"error: --log {name}: {words}\n"
    assert not list(tmp_path.iterdir())


def in_wandb(run: Path, cell: Cell) -> dict[str, Curve]:
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    found: dict[str, Curve] = {}
    run_id = (run / "cells" / cell.id / "wandb-run.txt").read_text()
    for file in sorted(run.glob(f"wandb/offline-run-*/run-{run_id}.wandb")):
        for data in wandb_messages(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            for item in record.history.item if record.HasField("history") else ():
                key = item.key or ".".join(item.nested_key)
                found.setdefault(key, []).append((record.history.step.num, json.loads(item.value_json)))
    return found


def wandb_messages(data: bytes) -> Iterator[bytes]:
    """Of an offline run: blocks of 32 KiB with fragments, as in LevelDB's logs."""
    place, message = 7, b""
    while place + 7 <= len(data):
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind:
            message += data[place + 7 : place + 7 + length]
            if kind in (1, 4):  # whole, or the last part
                yield message
                message = b""
        place += 7 + length
        left = -place % 2**15
        place += left if left < 7 else 0


def in_mlflow(run: Path, cell: Cell) -> dict[str, Curve]:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(cell.study)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{cell.name}'")
    assert found.data.params["recipe.batch_size"] == "8"
    history = {key: client.get_metric_history(found.info.run_id, key) for key in found.data.metrics}
    return {key: [(metric.step, metric.value) for metric in metrics] for key, metrics in history.items()}


def in_trackio(run: Path, cell: Cell) -> dict[str, Curve]:
    import sqlite3

    found: dict[str, Curve] = {}
    with sqlite3.connect(run / "trackio" / f"{cell.study}.db") as base:
        for step, text in base.execute("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", [cell.name]):
            for key, value in json.loads(text).items():
                found.setdefault(key, []).append((step, value))
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, while MLflow is read
@pytest.mark.parametrize(("name", "read"), [("wandb", in_wandb), ("mlflow", in_mlflow), ("trackio", in_trackio)])
def test_other_trackers_have_the_same_losses(
    name: str, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    study, run = small_study(measure__log_every_steps=1), tmp_path / "run"
    result = run_grid(study, "run", device="cpu", workers=2, conduct=Conduct(log=[name]))
    for cell, record in zip(study.cells(), result.records, strict=True):
        log = (run / "cells" / cell.id / "log.txt").read_text()
        found = read(run, cell)
        assert found["training_loss"] == curve_of(run, cell), log
        assert found["test_loss"] == [(6, record.test_loss)]
        assert "--log" not in log
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing beside the run directory
