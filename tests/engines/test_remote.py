"""The driver of a cluster, on processes that stand for jobs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scaling.cost import Interval
from scaling.design import Study
from scaling.errors import ScalingError
from scaling.grid import Board, Conduct, Device, Job, grid_status, plan_jobs
from scaling.grid.budget import Budget
from scaling.grid.dispatcher import Dispatcher
from scaling.grid.engine import Lost
from scaling.grid.engines import remote
from scaling.grid.engines.asking import LOSSES, Asking, Limits
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.journal import FILE, Journal, Submitted, last_jobs
from scaling.grid.engines.needs import memory_of_cell
from scaling.grid.engines.remote import Remote, cell_arguments
from scaling.grid.engines.scheduler import Lack, Needs, Phase
from scaling.grid.leases import HELD_ELSEWHERE, Holder, Lease, file_system_time, take_lease
from scaling.records import RunDirectory, Status
from tests.conftest import small_study
from tests.engines.job import lives
from tests.engines.processes import Processes

HERE = Device("cpu", 1, 4 << 30)
ASKED = Needs(cpus=1, memory_bytes=1 << 30, seconds=600)
PATIENCE_SECONDS = 60
WIDE = {"name": "wide", "patch_size": 8, "recipe": {"steps": 4, "batch_size": 8, "learning_rate": 1e-3}}


def study(**changes: Any) -> Study:
    """Whose cells ask for `ASKED`."""
    return small_study(resources__cpus=1, resources__memory_gib=1, resources__hours=1 / 6, **changes)


class Bench:
    """A study of cells that do as they are told, its run directory and its scheduler."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.run = RunDirectory(folder / "run")
        self.run.prepare(study)
        self.jobs = plan_jobs(study, HERE, 1)
        self.cells = [job.cell.id for job in self.jobs]
        self.scheduler = Processes()
        self.board = Board(self.jobs, 2)

    def live(self, cell: str, *words: str) -> None:
        lives(self.run.path, cell).write_text("\n".join(words))

    def engine(self, outlives: bool = True, dead_after_seconds: float = 60.0) -> Remote:
        journal = Journal(self.run.path / "engines" / "processes")
        journal.open(dead_after_seconds)
        asking = Asking(HERE, Limits(Cluster("slurm")), self.scheduler.check)
        return Remote(self.run, self.scheduler, journal, HERE, 100, asking, self._arguments, outlives)

    def work_off(
        self, engine: Remote, budget: Budget | None = None, observer: Callable[[Board], None] = lambda _: None
    ) -> bool:
        dispatcher = Dispatcher(self.run, self.board, engine, observer, 5.0, 1.0, None, budget)
        return dispatcher.work_off([job for job in self.jobs if self.run.record(job.cell.id) is None])

    def statuses(self) -> dict[str, Status]:
        return {cell: self.run.status(cell) for cell in self.cells}

    def submitted(self, cell: str) -> list[str]:
        lines = (self.run.path / "engines" / "processes" / FILE).read_text().splitlines()
        return [line for line in lines if f'"{cell}"' in line and '"ended": true' not in line]

    def _arguments(self, job: Job, _needs: Needs) -> tuple[str, ...]:
        return "-m", "tests.engines.job", str(self.run.path), job.cell.id


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    found = Bench(tmp_path, study())
    yield found
    found.scheduler.end()


def once_trained(bench: Bench, cell: str, then: Callable[[str], None], at: int = 1) -> Callable[[Board], None]:
    """An observer that does something to a cell's job, once it has made so many steps."""
    done: list[str] = []

    def look(_: Board) -> None:
        job = last_jobs(bench.run.path / "engines" / "processes").get(cell)
        path = bench.run.cell_folder(cell) / "metrics.jsonl"
        if not done and job is not None and path.exists() and len(path.read_text().splitlines()) >= at:
            done.append(job.job)
            then(job.job)

    return look


def test_every_cell_is_one_job_of_one_array(bench: Bench) -> None:
    assert not bench.work_off(bench.engine())
    assert set(bench.statuses().values()) == {Status.DONE}
    assert bench.scheduler.arrays == [2]
    assert [len(bench.submitted(cell)) for cell in bench.cells] == [1, 1]
    assert bench.board.count(Status.DONE) == 2


def test_a_cell_that_fails_is_reported_and_not_submitted_again_by_this_run(bench: Bench) -> None:
    first, second = bench.cells
    bench.live(first, "fails")
    bench.work_off(bench.engine())
    assert bench.statuses() == {first: Status.FAILED, second: Status.DONE}
    failed = bench.board.rows[first].record
    assert failed is not None
    assert failed.error == "it did not work"
    bench.work_off(bench.engine())  # the next command tries again
    assert set(bench.statuses().values()) == {Status.DONE}
    assert len(bench.submitted(first)) == 2


@pytest.mark.parametrize("lack", [Lack.NODE, Lack.TIME])
def test_a_job_that_was_cut_short_is_submitted_again(bench: Bench, lack: Lack) -> None:
    cell = bench.cells[0]
    bench.live(cell, "waits", "done")
    bench.work_off(bench.engine(), observer=once_trained(bench, cell, lambda job: bench.scheduler.lose(job, lack)))
    assert set(bench.statuses().values()) == {Status.DONE}
    assert len(bench.submitted(cell)) == 2
    assert last_jobs(bench.run.path / "engines" / "processes")[cell].needs == ASKED  # it had moved on: no more time


def test_a_cell_that_never_gets_on_is_given_up(bench: Bench) -> None:
    cell = bench.cells[0]
    bench.live(cell, *["stays"] * 20)

    def lose(_: Board) -> None:
        job = last_jobs(bench.run.path / "engines" / "processes").get(cell)
        if job is not None and list(bench.run.cell_folder(cell).glob("lease-*.json")):
            states = bench.scheduler.look([job.job])
            if states[job.job].phase == "running":
                bench.scheduler.lose(job.job, Lack.NODE)

    bench.work_off(bench.engine(), observer=lose)
    assert bench.statuses()[cell] is Status.FAILED
    assert len(bench.submitted(cell)) == LOSSES
    failed = bench.run.failure(cell)
    assert failed is not None
    assert "given up" in (failed.error or "")


def test_a_killed_worker_gets_twice_the_memory_as_often_as_the_study_allows(bench: Bench) -> None:
    first, second = bench.cells
    bench.live(first, "killed", "done")
    bench.live(second, *["killed"] * 9)
    bench.work_off(bench.engine())
    assert bench.statuses() == {first: Status.DONE, second: Status.FAILED}
    asked = [bench.scheduler.requests[job].needs.memory_bytes for job in bench.scheduler.requests]
    growth = bench.jobs[0].cell.resources.growth
    assert sorted(map(str, asked)) == sorted(str((1 << 30) << times) for times in [0, 1, *range(growth + 1)])


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


def test_no_cell_begins_above_the_hours_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    bench = Bench(tmp_path, study(grid__patch_sizes=[8], grid__seeds=[0, 1, 2, 3]))
    engine = bench.engine()
    engine.size = 1
    budget = Budget.of(1.5, bench.run.records())
    bench.work_off(engine, budget)  # each takes an hour of a core, as its record says
    assert list(bench.statuses().values()).count(Status.DONE) == 2
    assert budget.spent == pytest.approx(2.0)  # nobody knew before what a cell takes


def test_stages_are_submitted_behind_each_other_where_the_scheduler_chains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    bench = Bench(tmp_path, study(grid__patch_sizes=[4], pretraining=[WIDE]))
    bench.work_off(bench.engine())
    assert set(bench.statuses().values()) == {Status.DONE}
    requests = list(bench.scheduler.requests.values())
    assert [request.after for request in requests] == [None, "0"]
    assert bench.scheduler.arrays == [1, 1]


def test_the_job_of_a_cell_is_the_command_of_a_user(bench: Bench) -> None:
    needs = Needs(cpus=2, memory_bytes=3 << 30)
    arguments = cell_arguments(bench.run, HERE, ("--grace", "10"), bench.jobs[0], needs)
    memory = memory_of_cell(bench.jobs[0], needs)
    assert memory is not None
    assert " ".join(arguments) == (
        f"-m scaling run-grid {bench.run.path} --only {bench.cells[0]} --workers 1 --device cpu --cores 2 "
        f"--memory {memory / 2**30:.3f} --format json --grace 10"
    )


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


def test_more_than_the_cluster_has_is_not_asked_for(bench: Bench) -> None:
    first, second = bench.cells
    bench.scheduler.most_bytes = 1 << 30
    bench.live(first, "killed", "done")
    bench.work_off(bench.engine())
    assert bench.statuses() == {first: Status.FAILED, second: Status.DONE}
    failed = bench.run.failure(first)
    assert failed is not None
    assert "the cluster has no more for one job" in (failed.error or "")


def test_of_many_jobs_so_many_are_submitted_as_the_scheduler_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(remote, "FULL_SECONDS", 0.1)
    bench = Bench(tmp_path, study(grid__patch_sizes=[8], grid__seeds=list(range(7))))
    bench.scheduler.most_jobs = 2
    bench.work_off(bench.engine())
    assert set(bench.statuses().values()) == {Status.DONE}
    assert [len(bench.submitted(cell)) for cell in bench.cells] == [1] * 7
    bench.scheduler.end()
    again = Bench(tmp_path / "again", study(grid__patch_sizes=[8]))
    again.scheduler.most_jobs = 0
    with pytest.raises(ScalingError, match="too many"):
        again.work_off(again.engine())


def test_a_chain_goes_on_when_the_job_of_its_first_stage_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    bench = Bench(tmp_path, study(grid__patch_sizes=[4], pretraining=[WIDE]))
    first, second = bench.cells
    bench.live(first, "waits", "done")
    lose = once_trained(bench, first, lambda job: bench.scheduler.lose(job, Lack.NODE))
    bench.work_off(bench.engine(), observer=lose)
    assert set(bench.statuses().values()) == {Status.DONE}
    assert [len(bench.submitted(cell)) for cell in (first, second)] == [2, 2]
    bench.scheduler.end()


def taking(jobs: list[Job], *hours: float) -> list[Job]:
    """The same jobs, foreseen to take so many hours each."""
    speeds = [job.cost.images / 3600 / each for job, each in zip(jobs, hours, strict=True)]
    return [replace(job, images_per_second=Interval(one, one, one)) for job, one in zip(jobs, speeds, strict=True)]


def test_a_budget_that_a_first_stage_would_pass_ends_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, study(grid__patch_sizes=[4], pretraining=[WIDE]))
    bench.jobs = taking(bench.jobs, 4.0, 0.1)
    bench.board = Board(bench.jobs, 2)
    bench.work_off(bench.engine(), Budget(1.0))
    assert bench.scheduler.requests == {}


def test_the_cells_of_an_earlier_driver_count_for_the_budget(bench: Bench) -> None:
    second, first = bench.cells  # the longer one comes first
    bench.live(first, "waits")
    bench.jobs = taking(bench.jobs, 4.0, 4.0)
    bench.board = Board(bench.jobs, 2)

    def leave(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work_off(bench.engine(), Budget(5.0), observer=once_trained(bench, first, leave))
    assert bench.submitted(second) == []
    engine = bench.engine()
    engine.adopt(bench.jobs)
    fail = once_trained(bench, first, lambda job: bench.scheduler.lose(job, Lack.NODE))
    bench.live(first, "fails")
    bench.work_off(engine, Budget(5.0), observer=fail)
    assert bench.statuses() == {first: Status.FAILED, second: Status.DONE}
    assert len(bench.submitted(first)) == 2


def test_a_job_does_not_wait_for_a_cell_that_another_runner_took(bench: Bench) -> None:
    """The real command: it sees the other at work, ends, and the cell is looked at again later."""
    cell = bench.cells[0]
    bench.jobs = [job for job in bench.jobs if job.cell.id == cell]
    bench.scheduler.room = 0
    engine = bench.engine()
    conduct = Conduct(dead_after_seconds=60)
    engine.arguments_of = partial(cell_arguments, bench.run, HERE, conduct.arguments())
    folder, rival, codes = bench.run.cell_folder(cell), list[Lease](), list[int | None]()

    def take(_: Board) -> None:
        if not rival and bench.scheduler.requests:
            lease = take_lease(folder, Holder.here("cpu", 1, 60.0), file_system_time(folder))
            assert lease is not None
            rival.append(lease)
            bench.scheduler.room = 1
        elif rival and not codes:
            rival[0].renew()
            state = bench.scheduler.look(["0"])["0"]
            if state.phase is Phase.ENDED:
                codes.append(state.exit_code)
        elif codes and cell not in engine.in_hand and rival[0].is_held:
            assert bench.board.rows[cell].elsewhere
            engine.arguments_of = bench._arguments  # one that is done at once
            rival[0].release()

    bench.work_off(engine, observer=take)
    assert codes == [HELD_ELSEWHERE]
    assert bench.run.status(cell) is Status.DONE
    assert len(bench.submitted(cell)) == 2


def test_a_chain_goes_on_when_another_runner_finished_its_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    bench = Bench(tmp_path, study(grid__patch_sizes=[4], pretraining=[WIDE]))
    first, second = bench.cells
    bench.live(first, "late")
    bench.work_off(bench.engine())
    assert set(bench.statuses().values()) == {Status.DONE}
    assert [len(bench.submitted(cell)) for cell in (first, second)] == [1, 2]


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
