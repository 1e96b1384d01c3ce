"""The runner with real processes: completion, crashes, kills, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from scaling.cli.app import app
from scaling.design import Study, build_study, study_to_toml
from scaling.grid import Board, Conduct, run_grid
from scaling.grid.leases import Holder, file_system_time, take_lease
from scaling.records import Record, RecordError, RunDirectory, Status, describe
from tests.conftest import small_study, study_values

PATIENCE_SECONDS = 600


def records_of(path: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in path.glob("cells/*/record.json")}


def wait_until(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


class CommandLine:
    """`scaling run-grid` of a study with one short and one long cell, in a process of its own."""

    def __init__(self, folder: Path, seeds: Sequence[int] = (0,)) -> None:
        self.study: Study = small_study(
            grid__patch_sizes=[8, 2],
            grid__seeds=list(seeds),
            recipe__steps=60,
            measure__log_every_steps=1,
            measure__fvcore=False,
        )
        self.file, self.out = folder / "small.toml", folder / "run"
        self.file.write_text(study_to_toml(self.study))
        # The longest cells run first, so with one worker and one seed the short one is the second.
        self.short, self.long = (
            [cell.id for cell in self.study.cells() if cell.design.patch_size == p] for p in (8, 2)
        )
        self.second, self.first = self.short[0], self.long[0]

    def start(self, *arguments: str, limit_file_bytes: int | None = None) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "scaling",
            "run-grid",
            str(self.file),
            "--out",
            str(self.out),
            "--workers",
            "1",
        ]
        if limit_file_bytes is not None:
            command = ["prlimit", f"--fsize={limit_file_bytes}", *command]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def finish(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def here(self, *arguments: str) -> Result:
        """The same command in this process, whose fork server has imported torch before."""
        command = ["run-grid", str(self.file), "--out", str(self.out), "--workers", "1", *arguments]
        return CliRunner().invoke(app, command)

    def training(self, cell: str) -> bool:
        log = self.out / "cells" / cell / "metrics.jsonl"
        return log.exists() and bool(log.read_text()) and not (log.parent / "record.json").exists()


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def workers_of(runner: int) -> list[psutil.Process]:
    """Workers are forked by the runner's fork server."""
    return [grandchild for child in psutil.Process(runner).children() for grandchild in child.children()]


def test_a_killed_worker_fails_its_cell_and_one_asked_to_stop_stops_alone(tmp_path: Path) -> None:
    command = CommandLine(tmp_path, seeds=(0, 1))
    process = command.start()
    for cell, number in zip(command.long, (signal.SIGKILL, signal.SIGTERM), strict=True):
        wait_until(lambda cell=cell: command.training(cell), process)
        for worker in workers_of(process.pid):
            worker.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "worker killed by signal 9" in err
    assert "preempted, asked to stop after step" in err
    assert "Traceback" not in err
    before = records_of(command.out)
    assert set(before) == set(command.short), out  # the other cells were run all the same
    assert command.here().exit_code == 0
    after = records_of(command.out)
    assert set(after) == {*command.short, *command.long}
    assert after.items() > before.items()


def test_a_killed_runner_leaves_no_worker_and_no_damage(command: CommandLine) -> None:
    process = command.start()
    wait_until(lambda: command.training(command.first), process)
    workers = workers_of(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    _gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert records_of(command.out) == {}
    assert command.here().exit_code == 0
    assert set(records_of(command.out)) == {command.first, command.second}


def test_ctrl_c_in_the_first_second_stops_cleanly_too(command: CommandLine) -> None:
    process = command.start()
    wait_until((command.out / "study.toml").exists, process)  # torch is being imported now
    os.killpg(process.pid, signal.SIGINT)
    _out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert command.here("--only", "*/8@*").exit_code == 0


def test_a_failing_observer_leaves_no_worker(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[2], recipe__steps=2000, measure__log_every_steps=1)

    def give_up(board: Board) -> None:
        if any(row.step for row in board.rows.values()):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_grid(study, tmp_path / "run", device="cpu", observer=give_up)
    assert not [worker for worker in workers_of(os.getpid()) if worker.status() != psutil.STATUS_ZOMBIE]


def test_two_runners_share_the_work_and_one_outlives_the_other(command: CommandLine) -> None:
    first = command.start("--dead-after", "600")
    wait_until(lambda: command.training(command.first), first)
    (worker,) = workers_of(first.pid)
    worker.suspend()  # so that it is at work for as long as we like

    def end_first() -> None:
        wait_until((command.out / "cells" / command.second / "record.json").exists, first)
        assert not (command.out / "cells" / command.first / "record.json").exists()
        first.kill()
        first.wait()
        worker.resume()

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(end_first)
        second = command.here()
        ended.result()
    first.communicate(timeout=PATIENCE_SECONDS)
    assert second.exit_code == 0, second.stderr
    assert set(records_of(command.out)) == {command.first, command.second}
    assert f"deit-nano/2@16+linear seed 0: on {socket.gethostname()}, process {first.pid}" in second.stderr
    assert not list(command.out.glob("cells/*/lease-*"))


def test_without_waiting_a_cell_is_left_to_who_is_at_work_and_taken_from_who_is_silent(command: CommandLine) -> None:
    folder = command.out / "cells" / command.second
    folder.mkdir(parents=True)
    rival = replace(Holder.here("cpu", 1, 60.0), host="elsewhere", machine="another boot:1")
    lease = take_lease(folder, rival, file_system_time(folder))
    assert lease is not None
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.2):
            lease.renew()

    at_work = threading.Thread(target=work)
    at_work.start()
    left = command.here("--only", command.second, "--no-wait")
    over.set()
    at_work.join()
    assert left.exit_code == 75
    assert "--no-wait: 1 cell left to other runners" in left.stderr
    lease.path.write_text(json.dumps(asdict(replace(rival, dead_after_seconds=2.0))))
    taken = command.here("--only", command.second, "--no-wait")
    assert taken.exit_code == 0, taken.stderr
    assert set(records_of(command.out)) == {command.second}


def test_a_cell_that_another_runner_finished_is_not_held_back_by_the_budget(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8], grid__seeds=[0, 1, 2])
    run = RunDirectory(tmp_path / "run")

    def finish_second(board: Board) -> None:
        second = study.cells()[1]
        if board.count(Status.RUNNING) and run.record(second.id) is None:
            run.begin(second)
            run.finish(Record(**describe(second), status=Status.DONE))

    result = run_grid(study, run.path, "cpu", 1, observer=finish_second, conduct=Conduct(max_hours=1e-9))
    first, second, third = (cell.id for cell in study.cells())
    assert result.ran == (first,)
    assert result.held == (third,)
    assert [record.cell for record in result.records] == [first, second]


def test_asked_to_stop_cells_are_preempted_and_the_next_run_completes_them(command: CommandLine) -> None:
    process = command.start()
    wait_until(lambda: command.training(command.first), process)
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does
    _out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert "died" not in err
    assert records_of(command.out) == {}
    run = RunDirectory(command.out)
    failure = run.failure(command.first)
    assert failure is not None
    assert failure.status is Status.PREEMPTED
    assert (failure.error or "").startswith("asked to stop after step ")
    assert run.status(command.second) is Status.PLANNED
    assert command.here().exit_code == 0
    assert set(records_of(command.out)) == {command.first, command.second}


def test_who_does_not_stop_in_time_is_killed(command: CommandLine) -> None:
    def ask() -> None:
        while not command.training(command.first):
            time.sleep(0.02)
        for worker in workers_of(os.getpid()):
            worker.suspend()
        os.kill(os.getpid(), signal.SIGTERM)  # taken by the runner, which waits for its worker

    threading.Thread(target=ask, daemon=True).start()
    assert command.here("--grace", "0").exit_code == 130
    failure = RunDirectory(command.out).failure(command.first)
    assert failure is not None
    assert (failure.status, failure.error) == (Status.PREEMPTED, "worker killed by signal 9 before it had saved")


@pytest.mark.slow
def test_a_paused_worker_loses_its_cell_and_writes_nothing_more(command: CommandLine) -> None:
    first = command.start("--dead-after", "2", "--only", "*/2@*")
    wait_until(lambda: command.training(command.first), first)
    (worker,) = workers_of(first.pid)
    worker.suspend()
    second = command.start("--only", "*/2@*")
    wait_until((command.out / "cells" / command.first / "record.json").exists, second)
    before = records_of(command.out)
    worker.resume()
    _out, err = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0, err
    second.communicate(timeout=PATIENCE_SECONDS)
    assert records_of(command.out) == before
    assert not (command.out / "cells" / command.first / "failure.json").exists()


def test_a_full_disk_stops_everything_with_the_records_intact(command: CommandLine) -> None:
    assert command.here("--only", "*/8@*").exit_code == 0
    before = records_of(command.out)
    limited = command.start(limit_file_bytes=60_000)  # a checkpoint is larger
    _out, err = limited.communicate(timeout=PATIENCE_SECONDS)
    assert limited.returncode == 1
    assert f"error: {command.out}: no space left on its file system" in err
    assert "Traceback" not in err
    assert records_of(command.out) == before
    assert command.here().exit_code == 0
    assert records_of(command.out).items() > before.items()


def test_an_error_of_input_or_output_is_tried_again(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8])
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    folder = run.begin(study.cells()[0])
    loop = folder / "metrics.jsonl"
    loop.symlink_to(loop)  # opening it is an OSError that is none of a missing file or a right

    def heal(_board: Board) -> None:
        if loop.is_symlink() and (folder / "log.txt").exists() and "try 2" in (folder / "log.txt").read_text():
            loop.unlink()

    result = run_grid(study, run.path, device="cpu", observer=heal)
    assert [(record.status, record.tries) for record in result.records] == [(Status.DONE, 3)]
    assert "Too many levels of symbolic links" in (folder / "log.txt").read_text()


def test_errors_that_last_end_the_cell_after_the_retries(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8])
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    loop = run.begin(study.cells()[0]) / "metrics.jsonl"
    loop.symlink_to(loop)
    (record,) = run_grid(study, run.path, device="cpu", conduct=Conduct(retries=1)).records
    assert (record.status, record.tries) == (Status.FAILED, 2)


def test_a_cell_that_does_not_fit_is_recorded_and_the_grid_goes_on(tmp_path: Path) -> None:
    values = study_values(grid__input_sizes=[16, 16384], grid__patch_sizes=[16, 1])
    values["exclude"] = [{"design": "*/1@16"}, {"design": "*/16@16384"}]
    small, large = run_grid(build_study(values), tmp_path / "run", device="cpu", workers=1).records
    assert (small.design, small.status) == ("deit-nano/16@16+linear", Status.DONE)
    assert (large.design, large.status) == ("deit-nano/1@16384+linear", Status.OOM)
    assert large.memory_needed_bytes is not None
    assert large.memory_needed_bytes > 1 << 40
    assert "GiB for 1 image(s) per step, there is" in (large.error or "")
    assert large.finished_at is not None
    assert run_grid(build_study(values), tmp_path / "run", device="cpu", workers=1).ran == ()


def test_json_output_is_json_and_a_second_run_has_nothing_to_do(command: CommandLine) -> None:
    first = command.finish("--format", "json", "--only", "*/8@*")
    assert first.returncode == 0, first.stderr
    values = json.loads(first.stdout)
    assert [record["status"] for record in values["records"]] == ["done"]
    before = records_of(command.out)
    again = json.loads(command.finish("--format", "json", "--only", "*/8@*").stdout)
    assert again["ran"] == []
    assert again["records"] == values["records"]
    assert records_of(command.out) == before


def test_the_same_study_twice_gives_identical_losses(tmp_path: Path) -> None:
    study = small_study(grid__seeds=[0, 1], recipe__drop_path=0.1)
    runs = [run_grid(study, tmp_path / name, device="cpu", workers=2) for name in ("a", "b")]
    losses = [{record.cell: record.test_loss for record in result.records} for result in runs]
    assert len(losses[0]) == 4
    assert None not in losses[0].values()
    assert losses[0] == losses[1]


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    study = small_study()
    bad, good = study.cells()
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    blocked = run.begin(bad) / "checkpoint"
    blocked.write_text("a file where the worker needs a folder")
    result = run_grid(study, run.path, device="cpu", workers=1)
    assert [record.cell for record in result.failed] == [bad.id]
    assert result.failed[0].error is not None
    assert "File exists" in result.failed[0].error
    assert run.record(good.id) is not None
    assert "Traceback" in json.loads((blocked.parent / "failure.json").read_text())["details"]
    blocked.unlink()
    assert not run_grid(study, run.path, device="cpu", workers=1).failed
    assert {record.status for record in run.records()} == {Status.DONE}


def test_a_finished_cell_needs_its_checkpoint_no_more(tmp_path: Path) -> None:
    run_grid(small_study(grid__patch_sizes=[8]), tmp_path / "first", device="cpu")
    start = tmp_path / "start.safetensors"
    next((tmp_path / "first").glob("cells/*/checkpoint/model.safetensors")).rename(start)
    study = small_study(grid__patch_sizes=[8], grid__seeds=[0, 1], recipe__start_from=str(start))
    assert len(run_grid(study, tmp_path / "run", device="cpu", only="*/8@*").ran) == 2
    start.unlink()
    assert run_grid(study, tmp_path / "run", device="cpu").ran == ()


def test_a_broken_record_stops_everything_before_it_starts(tmp_path: Path) -> None:
    study = small_study()
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    path = run.begin(study.cells()[0]) / "record.json"
    path.write_text('{"schema_version": 1, "ce')
    seen: list[Board] = []
    with pytest.raises(RecordError, match="cut off"):
        run_grid(study, run.path, device="cpu", observer=seen.append)
    assert not seen
    assert path.read_text() == '{"schema_version": 1, "ce'
