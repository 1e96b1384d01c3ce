"""What cells ask of a scheduler, against the closed form written out, and what a study says of it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.design import Study, StudyError, build_study
from scaling.errors import UsageError
from scaling.grid import Device, plan_jobs
from scaling.grid.engines.needs import (
    ESTIMATE_MARGIN,
    GIB,
    GPU_PROCESS_BYTES,
    LOADERS,
    MEASURED_MARGIN,
    PROCESS_BYTES,
    RUNNER_BYTES,
    START_SECONDS,
    STEP_BYTES,
    corrected,
    grown,
    memory_of_cell,
    needs_of,
)
from scaling.grid.engines.scheduler import Lack, Needs
from scaling.grid.jobs import Job
from scaling.records import Record, Status, describe
from tests.conftest import small_study, study_values

CPU = Device("cpu", count=4, memory_bytes=64 * GIB)
A100 = Device("cuda", 8, 80 * GIB, "NVIDIA A100-SXM4-80GB")
UNKNOWN = Device("cuda", 8, 80 * GIB, "a GPU of tomorrow")


def job_of(device: Device, study: Study | None = None, **changes: Any) -> Job:
    study = study or small_study(**changes)
    return plan_jobs(study, device, 1, processes=study.resources.processes // study.resources.nodes)[0]


def image_study(**resources: Any) -> Study:
    values = study_values(resources=resources, recipe__epochs=1, recipe__steps=None)
    values["data"] = {"name": "image-folder", "task": "classification", "path": "x", "classes": 2, "train_images": 80}
    return build_study(values)


def test_a_cell_on_a_cpu_asks_for_its_step_and_what_processes_take() -> None:
    job = job_of(CPU, resources__processes=2)
    step = STEP_BYTES + math.ceil(job.memory_bytes / 0.9)
    memory = RUNNER_BYTES + 2 * PROCESS_BYTES + 2 * step
    assert needs_of(job, CPU) == Needs(cpus=2, gpus=0, nodes=1, processes=2, memory_bytes=memory, seconds=None)
    assert memory_of_cell(job, needs_of(job, CPU)) == 2 * step


def test_a_cell_asks_for_no_more_than_its_cores_share_of_the_memory_but_for_one_image() -> None:
    study = small_study(recipe__batch_size=4096, grid__patch_sizes=[1], data__canvas=64, grid__input_sizes=[64])
    job = job_of(CPU, study)
    whole, smallest = job.memory_bytes, job.cost.training_bytes(1)
    assert smallest < 2 * GIB < 16 * GIB < whole  # with the machine to itself it would take most of it
    assert needs_of(job, CPU).memory_bytes == 16 * GIB
    tight = Device("cpu", 64, 64 * GIB)
    assert needs_of(job, tight).memory_bytes == RUNNER_BYTES + PROCESS_BYTES + STEP_BYTES + math.ceil(smallest / 0.9)


def test_a_study_that_says_too_little_memory_leaves_its_cell_one_image() -> None:
    job = job_of(CPU, resources__memory_gib=0.5)
    assert memory_of_cell(job, needs_of(job, CPU)) == STEP_BYTES + math.ceil(job.cost.training_bytes(1) / 0.9)


@pytest.mark.parametrize("cores", [1, 4, 64])
def test_what_a_job_is_planned_with_there_fits_what_it_asked_for(cores: int) -> None:
    """`run-grid` in the job sees `--memory`, and chooses the images of a step by it."""
    device = Device("cpu", cores, 32 * GIB)
    study = small_study(recipe__batch_size=1024, grid__patch_sizes=[2], resources__processes=1)
    job = job_of(device, study)
    needs = needs_of(job, device)
    share = memory_of_cell(job, needs)
    assert share is not None
    there = job_of(Device("cpu", needs.cpus, share), study)
    assert there.misfit is None
    assert there.micro_batch_size <= job.micro_batch_size
    assert needs.memory_bytes is not None
    assert there.memory_bytes + RUNNER_BYTES + PROCESS_BYTES <= needs.memory_bytes
    more = memory_of_cell(job, grown(needs, Lack.MEMORY))  # for what is not in the closed form: not for more images
    assert more is not None
    assert job_of(Device("cpu", 1, more), study).micro_batch_size <= job.micro_batch_size


def test_a_cell_on_gpus_asks_for_cores_to_load_with_and_host_memory() -> None:
    drawn, images = job_of(A100, resources__processes=4), job_of(A100, image_study(processes=2))
    few = job_of(A100, image_study(processes=2, data_workers=0))
    assert (needs_of(drawn, A100).cpus, needs_of(drawn, A100).gpus) == (4, 4)
    assert (needs_of(images, A100).cpus, needs_of(images, A100).gpus) == (2 * (1 + LOADERS), 2)
    assert needs_of(few, A100).cpus == 2
    assert needs_of(images, A100).memory_bytes == 2 * GPU_PROCESS_BYTES


def test_time_is_the_upper_end_of_the_estimate_of_all_devices_together() -> None:
    job = job_of(A100, resources__processes=2, recipe__steps=10**7)
    assert job.images_per_second is not None
    longest = 8 * 10**7 / job.images_per_second.low  # a batch is 8 images
    seconds = needs_of(job, A100).seconds
    assert seconds is not None
    assert seconds == pytest.approx(START_SECONDS + ESTIMATE_MARGIN * longest, abs=1)
    assert needs_of(job_of(UNKNOWN), UNKNOWN).seconds is None


def test_processes_are_spread_over_nodes() -> None:
    two = needs_of(job_of(A100, resources__processes=8, resources__nodes=2), A100)
    assert (two.nodes, two.processes, two.gpus, two.cpus) == (2, 4, 4, 4)
    assert two.memory_bytes == 4 * GPU_PROCESS_BYTES


def test_the_study_has_the_last_word() -> None:
    said = {"resources__cpus": 3, "resources__memory_gib": 1.5, "resources__hours": 2.5, "resources__processes": 2}
    for device in (CPU, A100):
        needs = needs_of(job_of(device, **said), device)
        assert (needs.cpus, needs.memory_bytes, needs.seconds) == (6, 3 * GIB, 9000)


def finished(job: Job, **changes: Any) -> Record:
    seconds = {"training_seconds": 900.0, "evaluation_seconds": 90.0, "overhead_seconds": 10.0, "threads": 1}
    return Record.model_validate({**describe(job.cell), "status": Status.DONE, **seconds, **changes})


def test_what_another_seed_took_takes_the_place_of_the_estimate() -> None:
    first, second = plan_jobs(small_study(grid__seeds=[0, 1], grid__patch_sizes=[8]), CPU, 1)
    needs = needs_of(second, CPU)
    longest = finished(first, training_seconds=1900.0)
    expected = START_SECONDS + math.ceil(MEASURED_MARGIN * 2000)
    assert corrected(needs, second, [finished(first), longest, finished(first)]).seconds == expected
    assert corrected(needs, second, []) == needs


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.DIVERGED},
        {"design": "deit-nano/4@16+linear"},
        {"stage": "coarse"},
        {"gpu_hours": 0.25},
        {"threads": 2},
        {"resources": {"processes": 2}},
        {"training_seconds": None},
    ],
)
def test_what_says_nothing_of_a_cell_changes_nothing(changes: dict[str, Any]) -> None:
    job = job_of(CPU, grid__patch_sizes=[8])
    needs = needs_of(job, CPU)
    assert corrected(needs, job, [finished(job, **changes)]) == needs


def test_memory_that_another_seed_took_counts_where_it_is_more() -> None:
    job = job_of(CPU, grid__patch_sizes=[8], resources__processes=2)
    needs = needs_of(job, CPU)
    little, much = (finished(job, peak_host_memory_bytes=peak) for peak in (5 * 10**8, 3 * 10**9))
    assert corrected(needs, job, [little]).memory_bytes == needs.memory_bytes
    assert corrected(needs, job, [little, much]).memory_bytes == RUNNER_BYTES + 2 * math.ceil(1.2 * 3 * 10**9)
    said = job_of(CPU, grid__patch_sizes=[8], resources__processes=2, resources__memory_gib=2)
    assert corrected(needs_of(said, CPU), said, [much]).memory_bytes == 4 * GIB


def test_a_time_limit_of_the_study_is_not_corrected() -> None:
    job = job_of(CPU, resources__hours=1)
    assert corrected(needs_of(job, CPU), job, [finished(job)]).seconds == 3600


@settings(max_examples=50, deadline=None, derandomize=True)
@given(memory=st.none() | st.integers(1, 2**50), seconds=st.none() | st.integers(1, 10**8), lack=st.sampled_from(Lack))
def test_what_lacked_is_doubled_and_nothing_else(memory: int | None, seconds: int | None, lack: Lack) -> None:
    needs = Needs(cpus=2, gpus=1, nodes=2, processes=1, memory_bytes=memory, seconds=seconds)
    more = grown(needs, lack)
    assert (more.cpus, more.gpus, more.nodes, more.processes) == (2, 1, 2, 1)
    assert more.memory_bytes == (memory and memory * (2 if lack is Lack.MEMORY else 1))
    assert more.seconds == (seconds and seconds * (2 if lack is Lack.TIME else 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(exponents=st.tuples(st.integers(0, 3), st.integers(0, 3)), cpus=st.none() | st.integers(1, 16))
def test_all_nodes_together_have_every_process(exponents: tuple[int, int], cpus: int | None) -> None:
    nodes, per_node = (2**exponent for exponent in exponents)
    changes: dict[str, Any] = {"resources__nodes": nodes, "resources__processes": nodes * per_node}
    changes |= {"resources__cpus": cpus} if cpus else {}
    for device in (CPU, A100):
        needs = needs_of(job_of(device, recipe__batch_size=64, **changes), device)
        assert needs.nodes * needs.processes == nodes * per_node
        assert needs.gpus == (needs.processes if device is A100 else 0)
        assert needs.cpus == needs.processes * (cpus or 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 0}, "resources.nodes: 0"),
        ({"nodes": 3, "processes": 4}, "resources.nodes: 3 do not divide resources.processes 4 evenly"),
        ({"nodes": 2}, "resources.nodes: 2 do not divide resources.processes 1 evenly"),
        ({"cpus": 0}, "resources.cpus: 0"),
        ({"cpus": 1.5}, "resources.cpus: 1.5"),
        ({"memory_gib": 0}, "resources.memory_gib: 0"),
        ({"memory_gib": "16G"}, "resources.memory_gib: '16G'"),
        ({"hours": -1}, "resources.hours: -1"),
        ({"growth": -1}, "resources.growth: -1"),
        ({"memory": 4}, "resources.memory: unknown key; did you mean 'memory_gib'"),
    ],
)
def test_bad_words_of_a_study_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(**{f"resources__{key}": value for key, value in changes.items()}))
    assert message in str(caught.value)


def test_one_machine_refuses_cells_of_several() -> None:
    study = small_study(resources__nodes=2, resources__processes=4)
    with pytest.raises(
        UsageError, match=r"resources\.nodes: cells on 2 machines need --engine slurm or ray, or torchrun"
    ):
        plan_jobs(study, CPU, 1)
    assert plan_jobs(study, CPU, 1, processes=2)  # under torchrun, or in a job


def test_what_jobs_ask_for_is_no_part_of_a_cell_or_its_record() -> None:
    said = {"resources__cpus": 3, "resources__memory_gib": 1.5, "resources__hours": 2.5, "resources__growth": 1}
    plain, asking = (small_study(**changes).cells()[0] for changes in ({}, said))
    assert asking.id == plain.id
    assert describe(asking) == describe(plain)
    assert not {"cpus", "memory_gib", "hours", "growth", "nodes"} & set(
        json.loads(json.dumps(describe(plain)))["resources"]
    )
    spread = small_study(resources__nodes=2, resources__processes=2).cells()[0]
    assert (spread.id, describe(spread)["resources"]["nodes"]) == (plain.id, 2)
