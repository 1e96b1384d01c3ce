"""Drivers of a cluster that follow each other, and what they leave behind, on processes that stand for jobs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.errors import ScalingError
from scaling.grid import Board, grid_status
from scaling.grid.engine import Lost
from scaling.grid.engines.journal import FILE, Journal, Submitted
from scaling.grid.engines.remote import Remote
from scaling.grid.engines.scheduler import Lack
from scaling.grid.leases import HELD_ELSEWHERE, Holder, file_system_time, take_lease
from scaling.records import Status
from tests.engines.bench import ASKED, PATIENCE_SECONDS, Bench, once_trained


def test_a_new_driver_watches_the_jobs_of_the_one_before(bench: Bench) -> None:
    cell = bench.cells[0]
    bench.live(cell, "waits", "done")

    def leave(_: Board) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work_off(bench.engine(), observer=once_trained(bench, cell, lambda _job: leave(bench.board)))
    assert bench.scheduler.cancelled == []
    (driver,) = grid_status(bench.run.path).drivers
    assert (driver.engine, driver.runner, driver.lives) == ("processes", os.getpid(), False)
    engine = bench.engine()
    assert grid_status(bench.run.path).drivers[0].lives
    engine.adopt(bench.jobs)
    assert cell in engine.in_hand
    bench.work_off(engine, observer=once_trained(bench, cell, lambda job: bench.scheduler.lose(job, Lack.NODE)))
    assert set(bench.statuses().values()) == {Status.DONE}
    assert len(bench.submitted(cell)) == 2


def test_two_drivers_of_one_engine_do_not_work_at_once(bench: Bench) -> None:
    engine = bench.engine()
    with pytest.raises(ScalingError, match=r"submits jobs of .* already"):
        bench.engine()
    engine.kill()
    bench.engine().kill()


def test_jobs_that_die_with_their_driver_save_first(bench: Bench) -> None:
    for cell in bench.cells:
        bench.live(cell, "waits", "done")
    engine = bench.engine(outlives=False)
    stop = once_trained(bench, bench.cells[0], lambda _job: engine.stop())
    bench.work_off(engine, observer=stop)
    assert set(bench.statuses().values()) <= {Status.PREEMPTED, Status.PLANNED}
    assert Status.PREEMPTED in bench.statuses().values()
    assert len(bench.scheduler.cancelled) == 2


def test_a_cut_off_line_of_the_journal_costs_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "engines" / "x")
    journal.open(60.0)
    journal.add([Submitted("one", "1", ASKED), Submitted("two", "2", ASKED)])
    path = journal.folder / FILE
    path.write_text(path.read_text()[:-20])
    journal.add([Submitted("three", "3", ASKED)])
    assert {cell: each.job for cell, each in journal.last().items()} == {"one": "1", "three": "3"}
    assert time.time() - journal.last()["one"].time < PATIENCE_SECONDS
    journal.close()


def test_jobs_that_a_driver_was_killed_before_noting_are_not_submitted_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", die)
        with pytest.raises(KeyboardInterrupt):
            bench.work_off(bench.engine())
    bench.scheduler.submit([bench.scheduler.requests["0"]])  # and once more, by another that was killed
    assert bench.scheduler.arrays == [2, 1]
    engine = bench.engine()
    engine.adopt(bench.jobs)
    assert set(engine.in_hand) == set(bench.cells)
    assert bench.scheduler.cancelled == ["2"]
    bench.work_off(engine)
    assert set(bench.statuses().values()) == {Status.DONE}
    assert bench.scheduler.arrays == [2, 1]
    assert [len(bench.submitted(cell)) for cell in bench.cells] == [1, 1]


def test_a_file_system_that_is_out_of_order_for_a_while_ends_no_driver(bench: Bench) -> None:
    cell = bench.cells[0]
    record = bench.run.cell_folder(cell) / "record.json"
    bench.live(cell, "waits", "done")
    looks: list[str] = []

    def break_and_lose(job: str) -> None:
        record.symlink_to(record)  # reading it is an error, as with a stale handle
        bench.scheduler.lose(job, Lack.NODE)

    lose = once_trained(bench, cell, break_and_lose)

    def heal(board: Board) -> None:
        lose(board)
        if record.is_symlink():
            looks.append("out of order")
            if len(looks) == 5:
                record.unlink()

    bench.work_off(bench.engine(), observer=heal)
    assert len(looks) == 5
    assert set(bench.statuses().values()) == {Status.DONE}


def test_what_a_cell_had_too_little_of_is_known_to_the_next_driver(bench: Bench) -> None:
    cell = bench.cells[0]
    bench.live(cell, "killed", "waits", "done")

    def leave(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work_off(bench.engine(), observer=once_trained(bench, cell, leave))
    engine = bench.engine()
    engine.adopt(bench.jobs)
    assert cell in engine.in_hand
    bench.work_off(engine, observer=once_trained(bench, cell, lambda job: bench.scheduler.lose(job, Lack.NODE)))
    assert bench.run.status(cell) is Status.DONE
    asked = [each.needs.memory_bytes for each in bench.scheduler.requests.values() if cell in each.arguments]
    assert asked == [1 << 30, 2 << 30, 2 << 30]


def in_hand(bench: Bench) -> Remote:
    """An engine with all cells submitted."""
    engine = bench.engine()
    for job in bench.jobs:
        folder = bench.run.begin(job.cell)
        lease = take_lease(folder, Holder.here("cpu", 1, 60.0), file_system_time(folder))
        assert lease is not None
        engine.submit(job, lease)
    return engine


def first_lost(engine: Remote, meanwhile: Callable[[], None] = lambda: None) -> Lost:
    while True:
        for news in engine.news(0.05):
            if isinstance(news, Lost):
                return news
        meanwhile()


def test_a_cell_whose_job_has_ended_counts_as_submitted_no_more(bench: Bench) -> None:
    bench.live(bench.cells[0], "waits")
    bench.scheduler.room = 1
    lose = once_trained(bench, bench.cells[0], lambda job: bench.scheduler.lose(job, Lack.TIME))
    engine = in_hand(bench)
    assert first_lost(engine, lambda: lose(bench.board)).cell == bench.cells[0]
    assert bench.run.status(bench.cells[0]) is Status.PREEMPTED
    assert grid_status(bench.run.path).drivers[0].waiting == 1
    engine.kill()


def test_a_cell_that_waits_for_another_job_is_not_called_failed(bench: Bench) -> None:
    bench.live(bench.cells[0], "killed")
    bench.scheduler.room = 1
    engine = in_hand(bench)
    why = "worker killed by signal 9 (out of memory?)"
    assert first_lost(engine) == Lost(bench.cells[0], why)
    noted = bench.run.failure(bench.cells[0])
    assert noted is not None
    assert (noted.status, noted.error) == (Status.PREEMPTED, why)
    assert noted.training_seconds == 3600.0, "what the job wrote down is kept"
    engine.kill()


@pytest.mark.parametrize("outlives", [True, False])
def test_ctrl_c_says_what_becomes_of_the_jobs(bench: Bench, outlives: bool) -> None:
    for cell in bench.cells:
        bench.live(cell, "waits")
    engine = bench.engine(outlives)
    said: list[str] = []
    engine.tell = said.append
    ask = once_trained(bench, bench.cells[0], lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert bench.work_off(engine, observer=ask)
    goes_on = "jobs go on at processes (2); the same command watches them again"
    assert said == ([goes_on] if outlives else [])
    assert sorted(bench.scheduler.cancelled) == ([] if outlives else ["0", "1"])


def test_a_driver_that_is_followed_by_another_says_so(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from scaling.grid.engines.journal import Journal
Journal(Path({str(tmp_path)!r})).open(0.6)
(Path({str(tmp_path)!r}) / "lease-2.json").touch()
time.sleep(60)
"""
    driver = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert driver.returncode == HELD_ELSEWHERE
    told = f"error: another process has taken over {tmp_path}, since this one gave no sign of life for 0.6 s"
    assert driver.stderr.strip() == f"{told} (--dead-after); it ends"
