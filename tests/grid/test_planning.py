from pathlib import Path

import pytest

from scaling.errors import ScalingError, UsageError
from scaling.grid import Board, Device, check_trainable, find_device, plan_jobs, with_status, worker_count
from scaling.grid.crew import Assignment
from scaling.grid.jobs import unless_crowded
from scaling.grid.leases import Holder, Lease
from scaling.grid.stopping import Stopping
from scaling.records import Record, RunDirectory, Status, describe
from tests.conftest import small_study

ROOMY = Device("cpu", count=4, memory_bytes=8 << 30)


def test_only_selects_with_or_without_the_head() -> None:
    for pattern in ("*/4@*", "deit-nano/4@16", "deit-nano/4@16+linear"):
        jobs = plan_jobs(small_study(), ROOMY, 1, only=pattern)
        assert [job.cell.design.patch_size for job in jobs] == [4]
    with pytest.raises(UsageError, match="--only 'deit-huge/\\*' matches none of the 2 cells of 'small'"):
        plan_jobs(small_study(), ROOMY, 1, only="deit-huge/*")


def test_micro_batch_is_the_largest_divisor_that_fits() -> None:
    study = small_study(recipe__batch_size=12)
    cost = plan_jobs(study, ROOMY, 1)[0].cost.final
    tight = int((cost.state.total + 5 * cost.peak_bytes_per_image) / 0.9)
    job = plan_jobs(study, Device("cuda", 1, tight), 1, only="*/8@*")[0]
    assert job.micro_batch_size == 4
    assert job.memory_bytes <= tight


def test_workers_that_share_a_gpu_share_its_memory() -> None:
    study = small_study(recipe__batch_size=64)
    cost = plan_jobs(study, ROOMY, 1, only="*/4@*")[0].cost.final
    gpu = Device("cuda", 2, int((cost.state.total + 64 * cost.peak_bytes_per_image) / 0.89))
    assert plan_jobs(study, gpu, 2, only="*/4@*")[0].micro_batch_size == 64
    assert plan_jobs(study, gpu, 4, only="*/4@*")[0].micro_batch_size < 64


def test_status_comes_from_the_run_directory(tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[8, 4, 2])
    run = RunDirectory(tmp_path / "run")
    run.prepare(study)
    jobs = plan_jobs(study, ROOMY, 1)
    done, failed, _ = (Record(**describe(job.cell), status=Status.DONE) for job in jobs)
    for job in jobs:
        run.begin(job.cell)
    run.finish(done)
    run.fail(failed.model_copy(update={"status": Status.FAILED}), "Traceback")
    statuses = [job.status for job in with_status(jobs, run)]
    assert statuses == [Status.DONE, Status.FAILED, Status.PLANNED]


def test_a_cell_too_large_for_the_device_is_a_result_and_one_that_workers_crowd_out_is_not() -> None:
    study = small_study(grid__input_sizes=[2048], grid__patch_sizes=[1])
    (job,) = plan_jobs(study, ROOMY, 1)
    assert job.misfit is not None
    assert job.misfit.status is Status.OOM
    assert job.misfit.memory_needed_bytes == job.memory_bytes > 8 << 30
    assert job.misfit.error is not None
    assert job.misfit.error.startswith(
        f"needs {job.memory_bytes / 2**30:.1f} GiB for 1 image(s) per step, there is 7.2"
    )
    enough = Device("cpu", count=4, memory_bytes=int(1.2 * job.memory_bytes))
    assert plan_jobs(study, enough, 1)[0].misfit is None
    (crowded,) = plan_jobs(study, enough, 2)
    assert crowded.misfit is not None
    assert crowded.misfit.status is Status.FAILED
    assert "run again with --workers 1" in (crowded.misfit.error or "")


def test_out_of_memory_beside_others_is_no_result() -> None:
    (job,) = plan_jobs(small_study(), Device("cuda", 2, 8 << 30), 2, only="*/8@*")
    record = Record(**describe(job.cell), status=Status.OOM, error="CUDA out of memory")
    assert unless_crowded(record, job.memory) == record
    (job,) = plan_jobs(small_study(), Device("cuda", 2, 8 << 30), 4, only="*/8@*")
    crowded = unless_crowded(record, job.memory)
    assert crowded.status is Status.FAILED
    assert crowded.error == "CUDA out of memory; a worker may use 3.6 GiB; run again with --workers 2"
    done = record.model_copy(update={"status": Status.DONE})
    assert unless_crowded(done, job.memory) == done


def test_what_the_probe_cannot_fit_is_recorded_with_what_it_needs() -> None:
    (job,) = plan_jobs(small_study(), ROOMY, 1, only="*/8@*")
    lease = Lease(Path("cell"), 0, Holder.here("cpu", 1, 60.0))
    from scaling.grid.worker import _failure
    from scaling.training.probe import CellDoesNotFitError

    task = Assignment(job.cell, Path("run"), lease, "cpu", 0, 1, 8, job.memory, None, 0, (), 0.0)
    record = _failure(task, CellDoesNotFitError("needs a lot", job.cost, 1), Stopping(), 1)
    assert record.status is Status.OOM
    assert record.memory_needed_bytes == job.cost.training_bytes(1)
    assert record.micro_batch_size == 1
    assert record.estimated_activation_bytes_per_image == job.cost.activation_bytes_per_image


def test_a_micro_batch_that_was_asked_for_is_not_made_smaller() -> None:
    study = small_study(grid__patch_sizes=[8], recipe__batch_size=64, recipe__micro_batch_size=32)
    (job,) = plan_jobs(study, Device("cpu", 1, 1 << 20), 1)
    assert job.micro_batch_size == 32
    assert job.misfit is not None


def test_what_may_not_fit_a_gpu_is_left_to_the_probe() -> None:
    study = small_study(grid__input_sizes=[2048], grid__patch_sizes=[1])
    (job,) = plan_jobs(study, Device("cuda", 1, 1 << 30), 1)
    assert job.micro_batch_size == 1
    assert job.memory.worker_bytes == int(0.9 * 2**30) < job.memory_bytes


@pytest.mark.usefixtures("twins")
def test_what_this_version_cannot_train_is_refused() -> None:
    with pytest.raises(UsageError, match=r"twin-one/8@16.*'twin' has costs and no model"):
        check_trainable(plan_jobs(small_study(grid__architectures=["twin"], grid__sizes=["one"]), ROOMY, 1))
    with pytest.raises(UsageError, match=r"recipe.start_from: deit-nano/8@16\+linear starts from no/nano-8.pth"):
        check_trainable(plan_jobs(small_study(recipe__start_from="no/{size}-{patch_size}.pth"), ROOMY, 1))
    with pytest.raises(UsageError, match=r"recipe.precision: fp16 needs a CUDA device"):
        plan_jobs(small_study(recipe__precision="fp16"), ROOMY, 1)


def test_workers_and_devices() -> None:
    assert worker_count(None, ROOMY, cells=12) == 4
    assert worker_count(None, ROOMY, cells=3) == 3
    assert worker_count(2, ROOMY, cells=12) == 2
    with pytest.raises(UsageError, match="at least 1"):
        worker_count(0, ROOMY, cells=12)
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        find_device("gpu")
    cpu = find_device("cpu")
    assert cpu.count >= 1
    assert cpu.memory_bytes > 1 << 28


def test_cuda_without_a_gpu_is_one_clear_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ScalingError, match="no CUDA device found; use --device cpu"):
        find_device("cuda")


def test_board_follows_cells_and_foresees_the_end() -> None:
    now = 100.0
    jobs = plan_jobs(small_study(grid__seeds=[0, 1]), ROOMY, 2)
    board = Board(jobs, workers=2, clock=lambda: now)
    assert board.seconds_left() is None
    first, second = jobs[0].cell.id, jobs[1].cell.id
    board.start(first)
    board.start(second)
    assert board.seconds_left() is None
    now = 110.0
    board.progress(first, 3, 6, 1.25)
    board.progress(second, 3, 6, 1.5)
    # Half of two of four equal cells took 10 s each; 2 halves and 2 wholes are left for 2 workers.
    flops = {job.cell.id: job.training_flops for job in jobs}
    rate = 20 / ((flops[first] + flops[second]) / 2)
    left = [rate * flops[job.cell.id] * (0.5 if job.cell.id in (first, second) else 1) for job in jobs]
    assert board.seconds_left() == pytest.approx(max(sum(left) / 2, max(left)))
    board.finish(Record(**describe(jobs[0].cell), status=Status.DIVERGED, error="training loss is nan"))
    row = board.rows[first]
    assert (row.status, row.share_done, board.elapsed(row)) == (Status.DIVERGED, 1.0, 10.0)
    assert board.count(Status.RUNNING) == 1


def test_board_counts_only_what_a_try_has_done_itself() -> None:
    now = 100.0
    job = plan_jobs(small_study(), ROOMY, 1)[0]
    board, cell = Board([job], workers=1, clock=lambda: now), job.cell.id
    board.start(cell)
    now = 104.0  # building took 4 s
    board.progress(cell, 60, 100, None)
    assert (board.seconds_left_of(board.rows[cell]), board.seconds_left()) == (None, None)
    now = 114.0
    board.progress(cell, 80, 100, 1.25)
    assert board.seconds_left_of(board.rows[cell]) == pytest.approx(10.0)
    assert board.seconds_left() == pytest.approx(14.0)  # by the whole time of the try
    board.progress(cell, 60, 100, None)  # rolled back
    assert board.rows[cell].loss == 1.25
    assert board.seconds_left_of(board.rows[cell]) is None


def test_what_does_not_fit_the_part_of_a_machine_that_may_be_used_is_no_result() -> None:
    machine = Device("cpu", 8, 64 << 30)
    part = machine.limited(2, 1 << 16)
    assert (part.count, part.memory_bytes, part.machine_bytes) == (2, 1 << 16, 64 << 30)
    (job, *_) = plan_jobs(small_study(), part, 1)
    misfit = job.misfit
    assert misfit is not None
    assert misfit.status is Status.FAILED
    assert "more --memory" in (misfit.error or "")
    assert machine.limited(None, None) == machine
    assert Device("cuda", 2, 80 << 30).limited(1, 1 << 20).memory_bytes == 80 << 30


@pytest.mark.parametrize(("cores", "memory_bytes", "told"), [(9, None, "--cores 9"), (None, 65 << 30, "--memory 65")])
def test_more_than_the_machine_has_is_refused(cores: int | None, memory_bytes: int | None, told: str) -> None:
    with pytest.raises(UsageError, match=f"{told}: this machine has"):
        Device("cpu", 8, 64 << 30).limited(cores, memory_bytes)
