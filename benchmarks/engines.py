"""Cells that do nothing, through each engine: what a cell costs beside its training, and the driver's memory.

python -m benchmarks.engines      # most of an hour on two cores; rewrites its own page

The study, its run directory and the driver are real, on this machine also the workers, but for the training itself. A
job of a cluster only puts a record in its place: what `python -m scaling run-grid` takes to start is not in it.
Servers are started for it. Where Slurm is not installed it is, which needs root.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

from scaling.grid import run_grid
from scaling.grid.board import Board
from scaling.grid.crew import Assignment
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.scheduler import Needs
from scaling.grid.jobs import Job
from scaling.records import Record, RunDirectory, Status

CROWDS = (("slurm", 2_000), ("ray", 2_000), ("local", 2_000), ("local", 10_000), ("ray", 10_000))
RAY_NODES, RAY_CPUS = 2, 4  # as many as there are of Slurm
PREPARED = "prepared"
"""Beside a run directory: the records that its cells will have."""
PUT = "import os, sys; os.replace(sys.argv[1], os.path.join(sys.argv[2], 'record.json'))"


def without_training(task: Assignment, pipe: Connection) -> None:
    """All that a worker does, but for the training."""
    from scaling.grid import worker

    record = Record.model_validate_json((task.run.parent / PREPARED / task.cell.id).read_text())
    with patch.object(worker._Tries, "until_done", lambda *_: record):
        worker.work(task, pipe)


def job_without_training(
    run: RunDirectory, _device: object, _options: tuple[str, ...], job: Job, _needs: Needs
) -> tuple[str, ...]:
    """What follows `python` in a job that does nothing."""
    cell = job.cell.id
    return ("-IS", "-c", PUT, str(run.path.parent / PREPARED / cell), str(run.cell_folder(cell)))


def drive(engine: str, folder: str, address: str | None = None) -> None:
    """Run the study in a folder, and print what that took; in a process of its own, for its memory."""
    looked: list[tuple[float, float]] = []

    def look(board: Board) -> None:
        if looked or board.count(Status.DONE):  # from the first cell's end on, when all has been started
            looked.append((time.perf_counter(), time.process_time()))

    cluster = None if engine == "local" else Cluster("ray" if engine == "ray" else "slurm", address)
    with (
        patch("scaling.grid.crew._work", without_training),
        patch("scaling.grid.engines.opening.cell_arguments", job_without_training),
    ):
        study, out = f"{folder}/study.toml", f"{folder}/run"
        result = run_grid(study, out, "cpu", observer=look, cluster=cluster, tell=lambda _: None)
    assert len(result.ran) == len(result.records) > 0
    assert {record.status for record in result.records} == {Status.DONE}
    (began, busy_before), (ended, busy) = looked[0], looked[-1]
    silent = max(later - earlier for (earlier, _), (later, _) in pairwise(looked))
    print(json.dumps([ended - began, busy - busy_before, silent, peak_resident_kib()]))


def peak_resident_kib() -> int:
    """Of this process; what getrusage says may be of the one that started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def prepare(folder: Path, cells: int) -> None:
    """A study of so many cells, and a record for each."""
    from benchmarks.responsiveness import finished, study
    from scaling.design import study_to_toml

    grid = study(cells)
    (folder / "study.toml").write_text(study_to_toml(grid))
    (folder / PREPARED).mkdir()
    for cell in grid.cells():
        (folder / PREPARED / cell.id).write_text(finished(cell).model_dump_json(indent=2) + "\n")


@contextmanager
def server(engine: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """What the driver of an engine must be told, and how many cells run at a time."""
    if engine == "local":
        yield (), len(os.sched_getaffinity(0))
    elif engine == "ray":
        from tests.engines.ray_cluster import ray_cluster

        with ray_cluster(nodes=0) as cluster, patch.dict(os.environ, cluster.environment):
            for _ in range(RAY_NODES):
                cluster.add_node(RAY_CPUS)
            yield (cluster.address,), RAY_NODES * RAY_CPUS
    else:
        from tests.engines.slurm_server import CPUS, NODES, install, missing, slurm_server

        assert (reason := missing() or install()) is None, reason
        with slurm_server():
            yield (), len(NODES) * CPUS


def measure(engine: str, cells: int, options: Sequence[str], at_once: int) -> tuple[str, ...]:
    """A row of the page."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), cells)
        command = [sys.executable, "-m", "benchmarks.engines", engine, folder, *options]
        driver = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wall, busy, silent, peak = json.loads(driver.stdout.splitlines()[-1])
    row = (
        engine,
        f"{cells:,}",
        f"{at_once}",
        f"{wall:.0f} s",
        f"{1000 * wall / cells:.1f} ms",
        f"{1000 * busy / cells:.2f} ms",
        f"{silent:.2f} s",
        f"{peak / 2**10:.0f} MiB",
        f"{os.getloadavg()[1]:.0f}",
    )
    print(*row, sep=" | ", flush=True)
    return row


def main() -> None:
    rows = []
    for engine, cells in CROWDS:
        with server(engine) as (options, at_once):
            rows.append(measure(engine, cells, options, at_once))
        write(rows)  # each time, since the last ones take longest


def write(rows: Sequence[Sequence[str]]) -> None:
    from benchmarks.pages import write_page

    columns = ("engine", "cells", "at a time", "wall", "each", "driver's CPU each", "driver's longest silence")
    columns += ("driver's memory", "load of the machine")
    write_page("engines", "Cells that do nothing, through each engine", [("", columns, rows)])


if __name__ == "__main__":
    drive(*sys.argv[1:]) if sys.argv[1:] else main()
