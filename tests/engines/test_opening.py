"""From a cluster to an engine: what keeps a driver from its run directory is told in a line or two."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from scaling.design import with_earlier_stages
from scaling.errors import ScalingError
from scaling.grid import Cluster, Conduct, Device, plan_jobs
from scaling.grid.engines import opening, probe
from scaling.grid.engines.opening import foresee, open_remote
from scaling.records import RunDirectory
from tests.conftest import small_study
from tests.engines.processes import Processes

pytest.importorskip("submitit")
STUDY = small_study(grid__patch_sizes=[8])


@dataclass(frozen=True)
class Here(Cluster):
    """A cluster of processes."""

    processes: ClassVar[Processes]

    def connect(self, folder: Path, name: str, grace_seconds: float) -> Processes:
        del folder, name, grace_seconds
        return self.processes


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(probe, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(Here, "processes", Processes(), raising=False)
    yield Here("slurm")
    Here.processes.end()


def drive(cluster: Cluster, run: Path) -> None:
    arguments = (cluster, STUDY, RunDirectory(run), "cpu", None, None, Conduct(), lambda _: None)
    with open_remote(*arguments) as (engine, jobs):
        engine.adopt(jobs)


@pytest.mark.parametrize(
    ("path", "is_folder"),
    [("engines", False), ("engines/slurm/probe-answer.json", True), ("engines/slurm/jobs.jsonl", True)],
)
def test_a_run_directory_that_is_out_of_order_is_told_as_what_it_is(
    here: Here, tmp_path: Path, path: str, is_folder: bool
) -> None:
    out_of_order = tmp_path / "run" / path
    out_of_order.parent.mkdir(parents=True)
    out_of_order.mkdir() if is_folder else out_of_order.touch()
    with pytest.raises(ScalingError) as caught:
        drive(here, tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path}/run/engines")
    assert str(caught.value).endswith("run the same command again")
    assert str(caught.value).count("\n") < 3


def test_a_dry_run_shows_what_waits_for_what_and_leaves_out_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without Slurm
    recipe = {"steps": 4, "batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-3}
    first = {"name": "first", "patch_size": 8, "recipe": recipe}
    study = small_study(pretraining=[first], grid__patch_sizes=[8, 1], recipe=recipe)
    large = max(plan_jobs(study, Device("cpu", 1, 80 << 30), 1), key=lambda job: job.memory_bytes)
    monkeypatch.setattr(opening, "STAND_IN_BYTES", large.memory_bytes - 1)
    found = foresee(Cluster("slurm"), study, RunDirectory(tmp_path / "run"), "cpu", None, Conduct())
    misfits = [job.cell.id for job in found.jobs if job.misfit]
    assert large.cell.id in misfits
    assert found.script is not None
    begun = [job.cell for job in found.jobs if not any(cell.id in misfits for cell in with_earlier_stages([job.cell]))]
    assert re.findall(r"--only (\w+)", found.script) == [cell.id for cell in begun]
    assert {cell.stage for cell in begun} == {"first", None}
    assert found.script.count("--dependency=afterok:JOB1\n") == 1
