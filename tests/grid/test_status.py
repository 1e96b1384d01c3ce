"""`scaling status` from outside: what it says of a directory in any state."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.grid import grid_status, plan_jobs
from scaling.grid.devices import Device
from scaling.grid.leases import Holder, file_system_time, take_lease
from scaling.records import Record, RecordError, RunDirectory, Status, describe
from tests.cli.command import scaling
from tests.conftest import small_study

STUDY = small_study(grid__patch_sizes=[8, 4], grid__seeds=[0, 1, 2, 3], recipe__steps=100)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Eight cells: done, failed, oom, running, abandoned, preempted, broken, and one that waits."""
    run = RunDirectory(tmp_path / "run")
    run.prepare(STUDY)
    done, failed, oom, running, abandoned, preempted, broken, _ = STUDY.cells()
    for cell in (done, failed, oom, running, abandoned, preempted, broken):
        run.begin(cell)
    run.finish(Record(**describe(done), status=Status.DONE, test_loss=0.5, training_seconds=36.0, threads=2))
    run.fail(Record(**describe(failed), status=Status.FAILED, error="ValueError: no luck"), "Traceback")
    run.finish(Record(**describe(oom), status=Status.OOM, error="needs 99 GiB"))
    run.fail(Record(**describe(preempted), status=Status.PREEMPTED, error="asked to stop after step 7 of 100"), "")
    (run.cell_folder(broken.id) / "record.json").write_text('{"schema_version": 1, "ce')
    now, stranger = file_system_time(run.path), replace(Holder.here("cpu", 3, 60.0), machine="another boot:1")
    for cell, silent in ((running, 7), (abandoned, 70)):
        lease = take_lease(run.cell_folder(cell.id), stranger, now)
        assert lease is not None
        os.utime(lease.path, (now - silent, now - silent))
    # Two lines, and a third that is being written.
    log = "".join(json.dumps({"step": step, "images": 8 * step, "loss": 10 / step}) + "\n" for step in (10, 25))
    (run.cell_folder(running.id) / "metrics.jsonl").write_text(log + '{"step": 3')
    return run


def test_every_state_is_seen(run: RunDirectory) -> None:
    found = grid_status(run.path)
    states = ["done", "failed", "oom", "running", "abandoned", "preempted", "broken", "planned"]
    assert [cell.state for cell in found.cells] == states
    assert found.counts == dict.fromkeys(states, 1)
    done, failed, oom, running, abandoned, preempted, broken, planned = found.cells
    assert (running.step, running.training_loss, running.share_done) == (25, 0.4, 0.25)
    assert running.silent_seconds == pytest.approx(7, abs=5)
    assert (running.runner, running.worker) == (os.getpid(), None)
    assert abandoned.silent_seconds == pytest.approx(70, abs=5)
    assert abandoned.problem is not None
    assert re.fullmatch(rf".+, process {os.getpid()}, gave no sign of life for 7\d s", abandoned.problem)
    assert (failed.problem, oom.problem, preempted.problem) == (
        "ValueError: no luck",
        "needs 99 GiB",
        "asked to stop after step 7 of 100",
    )
    assert broken.problem is not None
    assert "cut off" in broken.problem
    assert (planned.host, planned.step, planned.problem) == (None, None, None)
    assert done.cpu_hours == pytest.approx(2 * 36 / 3600)
    assert not found.is_finished


def test_a_runner_on_this_machine_that_ended_is_gone_at_once(run: RunDirectory) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    waiting = run.cell_folder(STUDY.cells()[-1].id)
    waiting.mkdir()
    assert take_lease(waiting, replace(Holder.here("cpu", 3, 60.0), runner=ended.pid), file_system_time(run.path))
    cell = grid_status(run.path).cells[-1]
    assert (cell.state, cell.problem) == ("abandoned", f"{cell.host}, process {ended.pid}, is gone")


def test_the_end_is_foreseen_from_the_flops_done_per_second(run: RunDirectory) -> None:
    found = grid_status(run.path)
    flops = {
        job.cell.id: job.training_flops for job in plan_jobs(STUDY, Device("cpu", count=4, memory_bytes=8 << 30), 1)
    }
    done, running = found.cells[0], found.cells[3]
    assert running.running_seconds is not None
    rate = (flops[done.cell] + 0.25 * flops[running.cell]) / (36.0 + running.running_seconds)
    shares = {
        cell.cell: {"done": 1.0, "oom": 1.0, "broken": 1.0, "running": 0.25}.get(cell.state, 0.0)
        for cell in found.cells
    }
    left = sum((1 - shares[cell]) * flops[cell] for cell in flops) / rate
    assert found.seconds_left == pytest.approx(left)


def test_a_cell_that_continues_is_timed_by_its_checkpoint(run: RunDirectory) -> None:
    """Not by the time since it was taken up again."""
    cell = STUDY.cells()[3]
    saved = run.cell_folder(cell.id) / "resume" / "step-00000020"
    saved.mkdir(parents=True)
    (saved / "about.json").write_text(json.dumps({"position": {"step": 20, "seconds": 7200.0}}))
    written = time.time() - 600
    os.utime(saved / "about.json", (written, written))
    running = grid_status(run.path).cells[3]
    assert (running.timed_share, running.timed_seconds) == (0.2, 7200.0)
    assert running.running_seconds is not None
    assert running.running_seconds < 60  # so it was not running for most of the time since the checkpoint
    assert running.cpu_hours == pytest.approx(3 * (7200 + running.running_seconds) / 3600, rel=1e-3)


def test_the_command_shows_it_and_json_is_json(run: RunDirectory) -> None:
    shown = scaling("status", run.path)
    assert shown.returncode == 0, shown.stderr
    for line in (
        "small: 2 of 8 cells finished (1 done, 1 failed, 1 oom, 1 running, 1 abandoned, 1 preempted, 1 broken",
        "failed: deit-nano/8@16+linear seed 1: ValueError: no luck",
        "abandoned: deit-nano/4@16+linear seed 0:",
        "25%",
    ):
        assert line in shown.stdout
    values = json.loads(scaling("status", run.path, "--format", "json").stdout)
    assert values["counts"]["running"] == 1
    assert values["cells"][3]["training_loss"] == 0.4
    refused = scaling("status", run.path, "--format", "json", "--watch")
    assert (refused.returncode, refused.stdout) == (2, "")
    ignored = scaling("status", run.path, "--every", "3")
    assert (ignored.returncode, ignored.stderr) == (2, "error: --every 3: is of --watch; add it\n")


def test_watching_ends_when_every_cell_is_finished(run: RunDirectory) -> None:
    command = [sys.executable, "-m", "scaling", "status", str(run.path), "--watch", "--every", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "2 of 8 cells finished" in process.stdout.readline()
    for cell in STUDY.cells():
        (run.cell_folder(cell.id) / "record.json").unlink(missing_ok=True)
        run.begin(cell)
        run.finish(Record(**describe(cell), status=Status.DONE, test_loss=0.5))
    out, _ = process.communicate(timeout=60)
    assert "8 of 8 cells finished" in out.splitlines()[-1]
    assert process.returncode == 0


def test_half_a_directory_is_no_obstacle(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RecordError, match="not a run directory"):
        grid_status(run.path)
    run.prepare(STUDY)
    (run.path / "cells").rmdir()
    assert grid_status(run.path).counts == {"planned": 8}
    first, second, third, *_ = STUDY.cells()
    run.cell_folder(first.id).mkdir(parents=True)
    folder = run.begin(second)
    (folder / "metrics.jsonl").write_bytes(b"\x00\xff")
    (folder / "lease-1.json").write_text("")
    (run.begin(third) / "failure.json").write_text("{")
    states = [cell.state for cell in grid_status(run.path).cells]
    assert states == ["planned", "running", "broken", *["planned"] * 5]


def test_a_directory_that_cannot_be_written_can_be_read(run: RunDirectory) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    run.path.chmod(0o500)
    try:
        assert grid_status(run.path).counts["running"] == 1
    finally:
        run.path.chmod(0o700)


def test_records_of_earlier_versions_are_read() -> None:
    found = grid_status(Path(__file__).parents[2] / "runs" / "digits-quick")
    assert set(found.counts) == {"done"}
    assert found.cpu_hours > 0


def test_pretrainings_count_too() -> None:
    found = grid_status(Path(__file__).parents[2] / "runs" / "digits-stages")
    assert found.counts == {"done": 8}
    assert sum("(intermediate)" in cell.name for cell in found.cells) == 2
