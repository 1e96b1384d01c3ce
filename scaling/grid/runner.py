"""Running a grid: on this machine or on a cluster, with records that survive whatever happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.design import Study, load_study, with_processes
from scaling.errors import ScalingError, UsageError
from scaling.grid.board import Board
from scaling.grid.budget import Budget
from scaling.grid.conduct import Conduct
from scaling.grid.crew import Crew
from scaling.grid.devices import Device, find_device
from scaling.grid.dispatcher import Dispatcher, Observer
from scaling.grid.doctor import require_training
from scaling.grid.engine import Engine
from scaling.grid.jobs import Job, check_same_data, check_trainable, plan_jobs, selected_cells, with_status
from scaling.grid.order import check_checkpoints
from scaling.grid.status import CLOSED, grid_status
from scaling.records import FINISHED, Record, RunDirectory, Status
from scaling.records.architecture_files import check_files, keep_files
from scaling.torchrun import END, Announcements, Place, find_place, meet

if TYPE_CHECKING:
    from scaling.grid.engines.cluster import Cluster
    from scaling.grid.hopeless import Judge


@dataclass(frozen=True, slots=True)
class GridResult:
    """How a run ended: its directory, the records of the selected cells, and which were run now."""

    path: Path
    records: tuple[Record, ...]
    ran: tuple[str, ...]
    interrupted: bool
    held: tuple[str, ...] = ()
    """Cells not begun, since the hours were used up."""
    elsewhere: tuple[str, ...] = ()
    """Cells that were left to other runners, since `Conduct.wait` says so."""

    @property
    def failed(self) -> tuple[Record, ...]:
        """Cells that did not finish; running again tries them again."""
        return tuple(record for record in self.records if record.status not in (*FINISHED, Status.STOPPED))

    @property
    def stopped(self) -> tuple[Record, ...]:
        """Cells that were stopped as hopeless, now or before; a run that does not stop any continues them."""
        return tuple(record for record in self.records if record.status is Status.STOPPED)


def run_grid(
    study: Study | str | Path,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    only: str | None = None,
    observer: Observer | None = None,
    *,
    conduct: Conduct | None = None,
    cores: int | None = None,
    memory_bytes: int | None = None,
    cluster: "Cluster | None" = None,
    tell: Callable[[str], None] = print,
) -> GridResult:
    """Train every cell of a study that has no record yet; running again completes what is missing.

    Several runners, on machines that share a file system, may work on one study: each takes cells that no other has.
    SIGTERM, SIGUSR1 and Ctrl-C make running cells save and stop, if this is the main thread. In a script, call it under
    `if __name__ == "__main__":`, since cells run in processes that import the script again. Processes that torchrun
    started work on one cell at a time, all of them; the result of the first has the records.

    Args:
        study: a Study, the name of a built-in one, or the path of a TOML file.
        out: run directory, runs/<name of the study> by default.
        device: 'auto', 'cpu' or 'cuda'.
        workers: cells at a time; one per core or GPU by default.
        only: pattern of design names, such as 'deit-*/8@*', or the id of a cell.
        observer: called with the state of the grid as it changes.
        conduct: retries, signs of life, trackers, what comes first and when to stop; see there.
        cores: of this machine that cells may use; all by default.
        memory_bytes: of this machine that cells on its CPU may use; all by default.
        cluster: run cells as jobs there, by default on this machine.
        tell: called with a line of news that belongs to no cell.

    Raises:
        UsageError: for a bad argument.
        ScalingError: if a record is broken, the folder cannot be written, the disk is full, or torch is missing.
    """
    study = study if isinstance(study, Study) else load_study(study)
    run = RunDirectory(out or Path("runs") / study.name)
    conduct = conduct or Conduct()
    require_training()
    observer = observer or (lambda _: None)
    if cluster is None:
        own = find_device(device).limited(cores, memory_bytes)
        return _run_here(study, run, own, workers, only, observer, conduct)
    from scaling.grid.engines.opening import open_remote  # late: few runs need a cluster

    with open_remote(cluster, study, run, device, workers, only, conduct, tell) as (engine, planned):
        jobs = prepared_jobs(study, run, planned)
        engine.adopt(jobs)
        return _work_off(run, jobs, engine, engine.size, observer, conduct)


def _run_here(
    study: Study,
    run: RunDirectory,
    device: Device,
    workers: int | None,
    only: str | None,
    observer: Observer,
    conduct: Conduct,
) -> GridResult:
    """On this machine, or on those where torchrun started this process and others."""
    ranks = find_place()
    if ranks is not None:
        study = with_processes(study, ranks.world_size)
    count = worker_count(workers, device, len(selected_cells(study, only)), study.resources.processes, ranks)
    with _together(ranks) as ranks:
        if ranks is not None and ranks.rank:
            from scaling.grid.ranks import follow  # late: it imports torch

            follow(ranks, study, run, device)
            return GridResult(run.path, (), (), False)
        planned = plan_jobs(study, device, count, only, ranks and ranks.local_world_size)
        jobs = prepared_jobs(study, run, planned)
        crew = Crew(run, device, count, conduct.retries, conduct.trackers, ranks)
        return _work_off(run, jobs, crew, count, observer, conduct)


def _work_off(
    run: RunDirectory, jobs: list[Job], engine: Engine, count: int, observer: Observer, conduct: Conduct
) -> GridResult:
    """Run the open jobs on an engine."""
    board = Board(jobs, count)
    judge = _judge(run, board) if conduct.stop_hopeless else None
    budget = None
    if conduct.max_hours is not None:
        cells = grid_status(run.path).cells
        seen = {cell.cell: cell.gpu_hours + cell.cpu_hours for cell in cells}
        budget = Budget.of(conduct.max_hours, [cell.record for cell in cells if cell.record], seen)
    seconds = conduct.grace_seconds, conduct.dead_after_seconds
    dispatcher = Dispatcher(run, board, engine, observer, *seconds, judge, budget, conduct.values, conduct.wait)
    closed = CLOSED if conduct.stop_hopeless else FINISHED
    interrupted = dispatcher.work_off([job for job in jobs if job.status not in closed])
    ran = tuple(cell for cell, row in board.rows.items() if row.record is not None and row.started is not None)
    left = [] if interrupted else [job.cell.id for job in dispatcher.todo if run.record(job.cell.id) is None]
    elsewhere = tuple(cell for cell in left if cell in dispatcher.elsewhere and not conduct.wait)
    held = tuple(cell for cell in left if cell not in elsewhere) if budget else ()
    return GridResult(run.path, tuple(_records(board, run)), ran, interrupted, held, elsewhere)


@contextmanager
def _together(ranks: Place | None) -> Iterator[Place | None]:
    """A session with the processes that torchrun started, if it did; the others end with the first one's part."""
    ranks = meet(ranks) if ranks is not None else None
    try:
        yield ranks
    finally:
        if ranks is not None and ranks.rank == 0:
            with suppress(ScalingError):  # then torchrun is gone, and ends them
                Announcements(ranks).announce(END)


def prepared_jobs(study: Study, run: RunDirectory, jobs: list[Job]) -> list[Job]:
    """The jobs with what their run directory knows of them; nothing is written before all is checked."""
    architectures = dict.fromkeys(job.cell.design.architecture for job in jobs)
    run.check(study)
    check_files(run, architectures)
    run.create()
    jobs = with_status(jobs, run)
    check_trainable(job for job in jobs if job.status not in FINISHED)
    check_checkpoints(jobs, run)
    check_same_data(jobs, run)
    run.prepare(study)
    keep_files(run, architectures)
    return jobs


def _records(board: Board, run: RunDirectory) -> Iterator[Record]:
    """Records of this run and of earlier ones, in the order of the study."""
    for cell_id, row in board.rows.items():
        record = row.record or run.record(cell_id)
        if record is None and row.status is Status.STOPPED:  # in an earlier run
            record = run.failure(cell_id)
        if record is not None:
            yield record


def _judge(run: RunDirectory, board: Board) -> "Judge":
    from scaling.grid.hopeless import Judge  # late: few runs need numpy here

    return Judge(run, board)


def worker_count(asked: int | None, device: Device, cells: int, processes: int = 1, ranks: Place | None = None) -> int:
    """Cells at a time: what was asked for, else one per core or GPU or so many of them, never more than cells."""
    if asked is not None and asked < 1:
        raise UsageError(f"--workers {asked}: at least 1 is needed")
    if ranks is not None:
        if asked is not None and asked > 1:
            raise UsageError(f"--workers {asked}: under torchrun, all processes work on one cell at a time")
        return 1
    return min(asked or max(1, device.count // processes), cells)
