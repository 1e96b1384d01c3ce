"""Which cells may begin under a limit of hours."""

from dataclasses import replace

import pytest

from scaling.cost import Interval
from scaling.errors import UsageError
from scaling.grid import Device, Job, plan_jobs
from scaling.grid.budget import Budget, hours_of
from scaling.grid.conduct import Conduct
from scaling.records import Record, Status, describe
from tests.conftest import small_study

JOBS = plan_jobs(small_study(grid__patch_sizes=[8], grid__seeds=[0, 1, 2, 3]), Device("cpu", 4, 8 << 30), 1)


def record_of(job: Job, hours: float, share: float = 1.0, status: Status = Status.DONE) -> Record:
    images = round(share * job.cost.images)
    known = {"training_seconds": 3600 * hours, "threads": 1, "images_seen": images}
    known |= {"training_flops_per_image": job.training_flops / job.cost.images}
    return Record(**describe(job.cell), status=status, **known)


def test_hours_are_of_gpus_or_of_cores() -> None:
    of_cores = record_of(JOBS[0], 2.0).model_copy(update={"threads": 3, "resources": {"processes": 2}})
    assert hours_of(of_cores) == pytest.approx(12.0)
    assert hours_of(of_cores.model_copy(update={"gpu_hours": 5.0})) == 5.0
    assert hours_of(of_cores.model_copy(update={"training_seconds": None})) == 0.0


def test_what_is_known_before_is_not_passed() -> None:
    timed = [replace(job, images_per_second=Interval(1.0, 1.0, 1.0)) for job in JOBS]
    each = timed[0].device_hours
    assert each is not None
    budget = Budget(2.5 * each.estimate)
    assert budget.allows(timed[0])
    budget.begin(timed[0])
    budget.begin(timed[1])
    assert not budget.allows(timed[2])
    budget.end(record_of(timed[0], 0.1 * each.estimate))  # it took less than was thought
    assert budget.spent == pytest.approx(1.1 * each.estimate)
    assert budget.allows(timed[2])


def test_what_is_not_known_is_learnt_from_cells_that_ended() -> None:
    budget = Budget(2.5)
    for job in JOBS[:2]:
        assert budget.allows(job)
        budget.begin(job)
    budget.end(record_of(JOBS[0], 0.5, share=0.5, status=Status.PREEMPTED))  # so a whole one takes an hour
    budget.end(record_of(JOBS[1], 1.0))
    assert budget.spent == pytest.approx(1.5)
    assert budget.allows(JOBS[2])
    budget.begin(JOBS[2])
    assert budget.spent == pytest.approx(2.5)
    assert not budget.allows(JOBS[3])


def test_a_cell_that_is_continued_counts_once() -> None:
    budget = Budget.of(1.2, [record_of(JOBS[0], 0.5, share=0.5, status=Status.PREEMPTED)])
    assert budget.spent == pytest.approx(0.5)
    assert budget.allows(JOBS[0])  # another half hour
    budget.begin(JOBS[0])
    assert budget.spent == pytest.approx(1.0)
    budget.end(record_of(JOBS[0], 1.1))
    assert budget.spent == pytest.approx(1.1)
    assert not budget.allows(JOBS[1])


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan")])
def test_a_limit_must_be_positive(hours: float) -> None:
    with pytest.raises(UsageError, match="--max-gpu-hours"):
        Conduct(max_hours=hours)


def test_a_cell_that_is_lost_again_and_again_counts_once() -> None:
    timed = [replace(job, images_per_second=Interval(1.0, 1.0, 1.0)) for job in JOBS]
    each = timed[0].device_hours
    assert each is not None
    budget = Budget(1.5 * each.estimate)
    for _ in range(4):
        assert budget.allows(timed[0])
        budget.begin(timed[0])
        assert budget.spent == pytest.approx(each.estimate)
        budget.lose(timed[0].cell.id)
        assert budget.spent == 0.0


def test_tries_of_a_cell_are_not_added_up() -> None:
    budget = Budget(100.0)
    for hours, share in ((0.5, 0.25), (1.2, 0.6), (2.0, 1.0)):  # records speak of all tries
        budget.begin(JOBS[0])
        budget.end(record_of(JOBS[0], hours, share))
    assert budget.spent == pytest.approx(2.0)
    budget.begin(JOBS[1])
    assert budget.spent == pytest.approx(4.0)


def test_hours_that_only_checkpoints_tell_of_are_not_forgotten() -> None:
    cell = JOBS[0].cell
    budget = Budget.of(60.0, [], {cell.id: 50.0})
    budget.begin(JOBS[0])
    budget.lose(cell.id)
    assert budget.spent == pytest.approx(50.0)
    budget.begin(JOBS[0])
    budget.end(Record(**describe(cell), status=Status.FAILED))  # killed: its record knows no time
    assert budget.spent == pytest.approx(50.0)
