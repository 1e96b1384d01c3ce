"""Studies on a real Ray and a real Slurm, with workers, nodes and drivers that die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from scaling.design import Study, study_to_toml
from scaling.grid.engines.journal import last_jobs
from scaling.records import RunDirectory, Status
from tests.cli.test_own_backbone import project
from tests.conftest import small_study
from tests.engines.ray_cluster import ray_cluster
from tests.engines.slurm_server import install, missing, slurm_server

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]
PATIENCE_SECONDS = 600
STUDY = small_study(
    grid__patch_sizes=[2],
    grid__seeds=[0, 1, 2],
    recipe__steps=1500,
    resources__save_every_steps=50,
    measure__log_every_steps=10,
    measure__fvcore=False,
)


@dataclass
class Place:
    """A cluster and how a driver reaches it."""

    engine: str
    options: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    lose_node: Callable[[], None] | None = None


@pytest.fixture(params=["ray", "slurm"], scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "ray":
        if find_spec("ray") is None:
            pytest.skip("Ray is not installed")
        with ray_cluster(nodes=1) as cluster:
            name = cluster.add_node()

            def lose_node() -> None:
                cluster.kill_node(name)

            yield Place("ray", ["--address", cluster.address], cluster.environment, lose_node)
    else:
        if reason := missing() or install():
            pytest.skip(reason)
        with slurm_server():
            yield Place("slurm", [])


class Driver:
    """`scaling run-grid STUDY --engine ...` in a process of its own."""

    def __init__(self, folder: Path, place: Place, study: Study = STUDY, *options: str) -> None:
        self.run = RunDirectory(folder / "run")
        (folder / "small.toml").write_text(study_to_toml(study))
        common = ["--out", str(self.run.path), "--engine", place.engine, "--device", "cpu", "--grace", "5"]
        self._command = [sys.executable, "-m", "scaling", "run-grid", str(folder / "small.toml"), *common]
        self._command += ["--dead-after", "10", *place.options, *options]
        self._environment = os.environ | place.environment
        self.place, self.study = place, study
        self.cells = [cell.id for cell in study.cells()]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self, process: "subprocess.Popen[str]") -> str:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, said
        return said

    def submitted(self) -> dict[str, int]:
        """How often each cell was."""
        lines = (self.run.path / "engines" / self.place.engine / "jobs.jsonl").read_text().splitlines()
        found = [json.loads(line)["cell"] for line in lines if line]
        return {cell: found.count(cell) for cell in self.cells}

    def step(self, cell: str) -> int:
        path = self.run.cell_folder(cell) / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return json.loads(lines[-1])["step"] if lines else 0

    def wait_for(self, condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    def check(self) -> None:
        """Every cell is done, once, with all its steps in order."""
        for cell in self.study.cells():
            record = self.run.record(cell.id)
            assert record is not None
            assert record.status is Status.DONE
            lines = (self.run.cell_folder(cell.id) / "metrics.jsonl").read_text().splitlines()
            steps = [json.loads(line)["step"] for line in lines]
            assert steps == sorted(set(steps))
            assert record.steps == steps[-1] == cell.recipe.training_steps(cell.data.epoch_images)


def processes_of(cell: str) -> list[psutil.Process]:
    """The commands that run a cell in jobs, wherever they are on this machine."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if "run-grid" in command and cell in command:
                found.append(process)
    return found


def test_a_killed_worker_a_killed_job_and_a_killed_driver_cost_no_cell(place: Place, tmp_path: Path) -> None:
    driver = Driver(tmp_path, place)
    first, second, _ = driver.cells
    process = driver.start()
    running = [first, second] if place.engine == "ray" else driver.cells

    driver.wait_for(lambda: any(driver.step(cell) >= 100 for cell in running), process)
    victim = next(cell for cell in running if driver.step(cell) >= 100)
    for each in processes_of(victim):
        each.send_signal(signal.SIGKILL)
    driver.wait_for(lambda: all(driver.step(cell) >= 200 for cell in running[:1]), process)
    process.kill()
    process.wait()
    before = driver.submitted()

    said = driver.finish(driver.start())
    driver.check()
    after = driver.submitted()
    if place.engine == "slurm":  # jobs outlive their driver, which finds them again
        untouched = [cell for cell in driver.cells if cell != victim and before[cell]]
        assert all(after[cell] == before[cell] for cell in untouched), said
    records = {cell: (driver.run.cell_folder(cell) / "record.json").read_bytes() for cell in driver.cells}
    driver.finish(driver.start())  # nothing is left to do
    assert records == {cell: (driver.run.cell_folder(cell) / "record.json").read_bytes() for cell in driver.cells}
    assert driver.submitted() == after


def test_a_lost_node_costs_no_cell(place: Place, tmp_path: Path) -> None:
    driver = Driver(tmp_path, place)
    process = driver.start()
    driver.wait_for(lambda: any(driver.step(cell) >= 100 for cell in driver.cells), process)
    if place.lose_node is not None:
        place.lose_node()
    else:  # what Slurm itself does with the jobs of a node that fails
        (job, *_) = [
            each.job for cell, each in last_jobs(driver.run.path / "engines" / "slurm").items() if driver.step(cell)
        ]
        subprocess.run(["scontrol", "requeue", job], check=True)
    driver.finish(process)
    driver.check()


def test_an_interrupted_driver_saves_or_leaves_its_jobs(place: Place, tmp_path: Path) -> None:
    driver = Driver(tmp_path, place)
    process = driver.start()
    driver.wait_for(lambda: any(driver.step(cell) >= 100 for cell in driver.cells), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    statuses = {driver.run.status(cell) for cell in driver.cells}
    if place.engine == "ray":
        assert Status.PREEMPTED in statuses
        assert not any(map(processes_of, driver.cells))
    else:
        assert "jobs go on" in said
    driver.finish(driver.start())
    driver.check()


def test_no_cell_begins_that_passes_the_hours(place: Place, tmp_path: Path) -> None:
    study = small_study(grid__patch_sizes=[4], grid__seeds=[0, 1, 2], measure__fvcore=False)
    driver = Driver(tmp_path, place, study, "--max-gpu-hours", "0.000001", "--workers", "1")
    said = driver.finish(driver.start())
    assert "2 cells were not begun" in said
    assert sum(driver.run.record(cell) is not None for cell in driver.cells) == 1


def test_jobs_find_an_architecture_of_ones_own(place: Place, tmp_path: Path) -> None:
    project(tmp_path, mlp=("Mixer", "Mixer"))
    command = [sys.executable, "-m", "scaling", "run-grid", "own.toml", "--out", "run", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--engine", place.engine, *place.options],
        cwd=tmp_path,
        env=os.environ | place.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "run").glob("cells/*/record.json")  # plain: this process does not know the architecture
    record = json.loads(written.read_text())
    assert (record["status"], record["architecture"]) == ("done", "mlp")
