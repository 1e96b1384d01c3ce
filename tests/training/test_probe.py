"""Finding the micro-batch that fits: the search against limits of every kind, and real processes that die."""

import os
import signal
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.cost import Execution, Head, cost_of
from scaling.cost.shapes import Sharding
from scaling.design import Design, Recipe, Resources, divisors
from scaling.errors import ScalingError
from scaling.grid import find_device, plan_jobs, run_grid
from scaling.records import Status
from scaling.training.fresh import Failure, FreshProcess, is_out_of_memory
from scaling.training.probe import DoesNotFitError, Probe, largest_fitting, probe_cell, search
from scaling.training.trials import PLAIN, Steps, Trial, _model, _spread, saved_bytes_per_image, scan_of, start
from tests.conftest import small_study

OOM = Failure(Status.OOM, "OutOfMemoryError: CUDA out of memory")


@given(st.integers(1, 2000), st.integers(0, 2500), st.integers(0, 2500))
def test_the_largest_divisor_below_a_limit_is_found_from_any_guess(batch: int, limit: int, guess: int) -> None:
    sizes = divisors(batch)
    expected = max((size for size in sizes if size <= limit), default=None)
    assert largest_fitting(sizes, lambda size: size <= limit, guess) == expected


@given(st.data())
def test_whatever_fails_the_result_was_seen_to_fit_and_nothing_is_tried_twice(data: st.DataObject) -> None:
    sizes = divisors(data.draw(st.integers(1, 2000)))
    fitting = data.draw(st.sets(st.sampled_from(sizes)))
    guess = data.draw(st.integers(0, 2500))
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size in fitting

    found = largest_fitting(sizes, fits, guess)
    assert len(tried) == len(set(tried))
    assert found == max((size for size in tried if size in fitting), default=None)
    if found is None:  # nothing was left that is smaller
        assert set(tried) == set(sizes[: len(tried)])


def device(limit: int, fixed: int = 1000, per_image: int = 30) -> Callable[[int, int], Steps | Failure]:
    """A device of so many bytes, on which a step takes a fixed part and one for each image."""

    def call(size: int, steps: int) -> Steps | Failure:
        needed = fixed + per_image * size
        return OOM if needed > limit else Steps((0.1,) * steps, needed, 1)

    return call


@pytest.mark.parametrize("guess", [1, 8, 64])
def test_a_search_measures_the_slope_without_fixed_costs(guess: int) -> None:
    assert search(device(1000 + 30 * 20), divisors(64), guess) == Probe(16, 30)


def test_one_image_has_no_slope() -> None:
    assert search(device(1040), divisors(64), 8) == Probe(1, None)


def test_nothing_fits_is_out_of_memory_and_a_crash_is_not() -> None:
    with pytest.raises(DoesNotFitError, match="CUDA out of memory"):
        search(device(1000), divisors(64), 8)

    def crashed(size: int, steps: int) -> Steps | Failure:
        return Failure(Status.FAILED, "killed by signal 9 (out of memory?)")

    with pytest.raises(ScalingError, match="killed by signal 9") as caught:
        search(crashed, divisors(64), 8)
    assert not isinstance(caught.value, DoesNotFitError)


def dying_above(limit: int) -> Callable[[int, int], Steps]:
    """A trial whose process is killed by more images than the limit, and fails at exactly 4."""

    def run(size: int, steps: int) -> Steps:
        if size > limit:
            os.kill(os.getpid(), signal.SIGKILL)
        if size == 4:
            raise ValueError("four\nof all")
        return Steps((0.1,) * steps, 10 * size, os.getpid())

    return run


def test_a_killed_process_is_an_answer_and_the_next_call_has_a_new_one() -> None:
    answers: dict[int, Steps | Failure] = {}
    with FreshProcess(partial(dying_above, 8)) as process:

        def call(size: int, steps: int) -> Steps | Failure:
            answers[size] = process.call(size, steps)
            return answers[size]

        first, again = process.call(1, 2), process.call(2, 2)
        assert first.threads == again.threads != os.getpid()  # one process for both
        assert search(call, divisors(32), 8) == Probe(8, None)  # half of it is the one that fails
    assert answers[16] == Failure(Status.FAILED, "killed by signal 9 (out of memory?)")
    assert answers[4] == Failure(Status.FAILED, "ValueError: four")


def test_a_cpu_that_runs_out_of_memory_is_oom() -> None:
    trial = Trial(Design.parse("deit-nano/8@16"), Head(10), Execution("fp32"), "cpu")
    with FreshProcess(partial(start, trial)) as process:
        taken = process.call(3, 4)
        failed = process.call(10**10, 2)
    assert failed.status is Status.OOM
    assert len(taken.seconds) == 4
    assert taken.peak_bytes > 2**20


def test_saved_bytes_are_those_of_the_closed_form() -> None:
    for name in ("deit-nano/4@16", "adventurer-nano/4@16+linear"):
        for checkpointing in (False, True):
            execution = Execution("fp32", scan=scan_of("cpu"), checkpointing=checkpointing)
            design = Design.parse(name)
            trial = Trial(design, Head(7, design.head), execution, "cpu")
            expected = cost_of(trial.design, trial.head, execution).activation_bytes_per_image
            assert saved_bytes_per_image(trial) == expected


DESIGN = Design.parse("deit-384x12/16@32")  # 21 M parameters


def peak(recipe: Recipe = PLAIN, sharding: Sharding = "ddp", processes: int = 1) -> int:
    resources = Resources(processes=processes, sharding=sharding)
    trial = Trial(DESIGN, Head(10), Execution("fp32", sharding=sharding), "cpu", None, recipe, resources)
    with FreshProcess(partial(start, trial)) as process:
        taken = process.call(2, 2)
    assert isinstance(taken, Steps), taken
    assert taken.peak_bytes is not None
    return taken.peak_bytes


@pytest.mark.slow
def test_a_trial_holds_what_its_training_holds() -> None:
    """In parts of a copy of the weights: state is four of them (weights, gradients, two moments)."""
    copy = 4 * cost_of(DESIGN, Head(10), Execution("fp32")).parameters.total
    plain = peak()
    assert (peak(PLAIN.model_copy(update={"ema_decay": 0.9})) - plain) / copy == pytest.approx(1, abs=0.25)
    assert (peak(processes=2) - plain) / copy == pytest.approx(1, abs=0.25)  # DDP's buckets
    assert peak(sharding="fsdp", processes=8)  # it trains, though the other processes are absent


def parameters_held(trial: Trial) -> Callable[[], int]:
    return lambda: sum(value.to_local().numel() for value in _spread(_model(trial), trial).parameters())  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]


def test_of_a_sharded_model_a_trial_holds_one_process_s_part() -> None:
    resources = Resources(processes=8, sharding="fsdp")
    trial = Trial(Design.parse("deit-nano/8@16"), Head(8), Execution("fp32"), "cpu", resources=resources)
    total = cost_of(trial.design, trial.head, trial.execution).parameters.total
    with FreshProcess(partial(parameters_held, trial)) as process:
        assert total / 8 <= process.call() < 1.2 * total / 8


@pytest.mark.slow
def test_a_compiled_trial_is_compiled() -> None:
    """By its own words: without a compiler it fails, and with one it trains."""
    trial = Trial(Design.parse("deit-nano/8@16"), Head(10), Execution("fp32"), "cpu", resources=Resources(compile=True))
    with FreshProcess(partial(start, trial)) as process:
        taken = process.call(2, 2)
    assert isinstance(taken, Steps), taken


def test_the_probe_tries_with_the_optimiser_of_the_recipe() -> None:
    recipe = PLAIN.model_copy(update={"optimizer": "adamw-8bit"})
    trial = Trial(Design.parse("deit-nano/8@16"), Head(10), Execution("fp32"), "cpu", recipe=recipe)
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ModuleNotFoundError, match="bitsandbytes"):
        start(trial)


def test_on_a_cpu_the_estimator_decides() -> None:
    (job,) = plan_jobs(small_study(), find_device("cpu"), 1, only="*/8@*")
    assert probe_cell(job.cell, "cpu", job.micro_batch_size, job.memory.worker_bytes) == Probe(8, None)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_is_probed(precision: str) -> None:
    study = small_study(recipe__precision=precision, recipe__batch_size=4096, grid__patch_sizes=[2])
    (job,) = plan_jobs(study, find_device("cuda"), 1)
    cost, fixed = job.cost.final, 2**26  # workspaces
    saved = cost.activation_bytes_per_image
    limit = cost.state.total + fixed + 600 * cost.peak_bytes_per_image
    probe = probe_cell(job.cell, "cuda", 4096, limit)
    assert 256 <= probe.micro_batch_size <= 1024
    assert probe.bytes_per_image == pytest.approx(saved, rel=0.15)
    with pytest.raises(DoesNotFitError, match=r"needs about .* GiB for 1 image\(s\) per step, and may use 0.0 GiB"):
        probe_cell(job.cell, "cuda", 4096, 2**20)


@pytest.mark.gpu
def test_a_grid_goes_on_after_a_cell_that_does_not_fit(tmp_path: Path) -> None:
    large = {"recipe__batch_size": 8192, "recipe__micro_batch_size": 8192, "recipe__steps": 2}  # 230 GB at 64 pixels
    study = small_study(grid__input_sizes=[16, 64], grid__patch_sizes=[1], **large)
    records = {record.input_size: record for record in run_grid(study, tmp_path / "run", device="cuda").records}
    assert records[16].status is Status.DONE
    assert records[16].peak_memory_bytes_per_image is not None
    assert records[64].status is Status.OOM
    assert "GiB for 8192 image(s) per step" in (records[64].error or "")
    assert records[64].memory_needed_bytes is not None
    assert records[64].micro_batch_size == 8192


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Cannot allocate memory",
        "not enough memory: you tried",
    ],
)
def test_memory_that_libraries_lack_is_out_of_memory(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"))
