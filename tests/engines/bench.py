"""A study of cells that do as they are told, for tests of the driver."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.design import Study
from scaling.grid import Board, Device, Job, plan_jobs
from scaling.grid.budget import Budget
from scaling.grid.dispatcher import Dispatcher
from scaling.grid.engines.asking import Asking, Limits
from scaling.grid.engines.cluster import Cluster
from scaling.grid.engines.journal import FILE, Journal, last_jobs
from scaling.grid.engines.remote import Remote
from scaling.grid.engines.scheduler import Needs
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
