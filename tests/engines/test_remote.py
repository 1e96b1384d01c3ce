"""The driver of a cluster, on processes that stand for jobs."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from scaling.cost import Interval
from scaling.errors import ScalingError
from scaling.grid import Board, Conduct, Job
from scaling.grid.budget import Budget
from scaling.grid.engines import remote
from scaling.grid.engines.asking import LOSSES
from scaling.grid.engines.journal import last_jobs
from scaling.grid.engines.needs import memory_of_cell
from scaling.grid.engines.remote import cell_arguments
from scaling.grid.engines.scheduler import Lack, Needs, Phase
from scaling.grid.leases import HELD_ELSEWHERE, Holder, Lease, file_system_time, take_lease
from scaling.records import Status
from tests.engines.bench import ASKED, HERE, WIDE, Bench, once_trained, study


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
