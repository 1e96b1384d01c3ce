"""What a run directory says of its cells, read from outside at any time."""

import json
import math
import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from scaling.cost import cost_of_cell
from scaling.design import Cell
from scaling.grid.leases import Found, file_system_time, find_holder
from scaling.records import FINISHED, Record, RecordError, RunDirectory, Status

BROKEN, ABANDONED = "broken", "abandoned"
"""States beside those of records: a record that cannot be read, and a cell whose runner died."""
CLOSED = FINISHED | {Status.STOPPED}
TAIL_BYTES = 4096  # of a learning curve; its last line is far shorter


@dataclass(frozen=True, slots=True)
class CellStatus:
    """One cell as seen from outside. What is not known is None."""

    cell: str
    name: str
    state: str
    """A record's status, 'abandoned' (its runner died; the next one takes it over) or 'broken' (see `problem`)."""
    step: int | None
    steps: int
    training_loss: float | None
    """The last one logged; None of a cell that waits."""
    test_loss: float | None
    problem: str | None
    """Why the cell is not done, in one line."""
    host: str | None
    runner: int | None
    """Process of the runner that has the cell."""
    worker: int | None
    silent_seconds: float | None
    """Since the runner's last sign of life, by the clock of the file system."""
    running_seconds: float | None
    """Since the runner began the cell."""
    gpu_hours: float
    """Training of a finished cell, and whole time of a running one."""
    cpu_hours: float
    """The same of cells on a CPU, times their threads."""
    training_flops: int
    seconds: float | None
    """Time of the training that led to share_done; of earlier tries nothing is known."""

    @property
    def share_done(self) -> float:
        """Share of the training, 0 to 1."""
        if self.state in FINISHED:
            return 1.0
        return min(1.0, (self.step or 0) / self.steps)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        names = ("cell", "name", "state", "step", "steps", "share_done", "training_loss", "test_loss", "problem")
        names += ("host", "runner", "worker", "silent_seconds", "running_seconds", "gpu_hours", "cpu_hours")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class GridStatus:
    """All cells of a run directory at one moment."""

    path: Path
    study: str
    cells: tuple[CellStatus, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells by state."""
        return dict(Counter(cell.state for cell in self.cells))

    @property
    def is_finished(self) -> bool:
        """Whether every cell has a record, or was stopped as hopeless."""
        return all(cell.state in CLOSED for cell in self.cells)

    @property
    def gpu_hours(self) -> float:
        """Used so far, of what is known."""
        return sum(cell.gpu_hours for cell in self.cells)

    @property
    def cpu_hours(self) -> float:
        """Core hours used so far, of what is known."""
        return sum(cell.cpu_hours for cell in self.cells)

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the end at the present number of running cells; None where nothing runs or is known.

        Every cell is taken to train at the mean rate in FLOPs per second of those that have trained so far.
        """
        timed = [cell for cell in self.cells if cell.seconds and cell.share_done]
        running = [cell for cell in self.cells if cell.state == Status.RUNNING]
        done = sum(cell.share_done * cell.training_flops for cell in timed)
        if not running or not done:
            return None
        rate = done / sum(cell.seconds or 0.0 for cell in timed)
        open_cells = [cell for cell in self.cells if cell.state not in CLOSED and cell.state != BROKEN]
        left = [(1 - cell.share_done) * cell.training_flops / rate for cell in open_cells]
        return max(sum(left) / len(running), max(left))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": str(self.path),
            "study": self.study,
            "counts": self.counts,
            "gpu_hours": self.gpu_hours,
            "cpu_hours": self.cpu_hours,
            "seconds_left": self.seconds_left,
            "cells": [cell.to_json() for cell in self.cells],
        }


def grid_status(path: str | Path) -> GridStatus:
    """Look at a run directory, whether or not anyone is at work there.

    Raises:
        RecordError: if it is no run directory.
    """
    run = RunDirectory(path)
    if not run.study_file.is_file():
        raise RecordError(f"{run.path}: not a run directory (no study.toml in it)")
    study, now, flops = run.study(), _now(run.path), dict[tuple[str, str | None], int]()
    cells = []
    for cell in study.all_cells():
        kind = str(cell.design), cell.stage
        if kind not in flops:  # the same for every seed
            flops[kind] = cost_of_cell(cell, scan="recomputed").training_flops
        cells.append(_cell_status(cell, run, now, flops[kind]))
    return GridStatus(run.path, study.name, tuple(cells))


def _cell_status(cell: Cell, run: RunDirectory, now: float, training_flops: int) -> CellStatus:
    folder = run.cell_folder(cell.id)
    try:
        record, problem = run.record(cell.id), None
        record = record or run.failure(cell.id)
        problem = record and record.error
    except RecordError as error:
        record, problem = None, str(error)
    finished = record is not None and record.status in FINISHED
    found = Found(None, None) if finished or not folder.is_dir() else find_holder(folder, now)
    state = _state(record, problem, found)
    at_work = state == Status.RUNNING
    step, loss = _last_logged(folder) if state not in (Status.PLANNED, *FINISHED) else (None, None)
    running = _seconds_since(found.holder.started) if at_work and found.holder else None
    known = found.holder if found.silent_seconds is not None else None
    gpu_hours, cpu_hours, seconds = _spent(record, found, running)
    return CellStatus(
        cell=cell.id,
        name=cell.name,
        state=state,
        step=step,
        steps=cell.recipe.training_steps(cell.data.epoch_images),
        training_loss=loss,
        test_loss=record.test_loss if record else None,
        problem=None if at_work else problem,
        host=known and known.host,
        runner=known and known.runner,
        worker=known and known.worker,
        silent_seconds=found.silent_seconds,
        running_seconds=running,
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        training_flops=training_flops,
        seconds=seconds,
    )


def _state(record: Record | None, problem: str | None, found: Found) -> str:
    if record is not None and record.status in FINISHED:
        return record.status
    if record is None and problem is not None:
        return BROKEN
    if found.lives:
        return Status.RUNNING
    if found.silent_seconds is not None:
        return ABANDONED
    return record.status if record else Status.PLANNED


def _spent(record: Record | None, found: Found, running: float | None) -> tuple[float, float, float | None]:
    """GPU-hours, CPU core hours, and seconds of training, as far as known."""
    if running is not None and found.holder is not None:
        hours = running / 3600
        return (0.0, hours * found.holder.cores, running) if found.holder.device == "cpu" else (hours, 0.0, running)
    if record is None or record.training_seconds is None:
        return 0.0, 0.0, None
    if record.gpu_hours is not None:
        return record.gpu_hours, 0.0, record.training_seconds
    return 0.0, record.training_seconds / 3600 * (record.threads or 1), record.training_seconds


def _last_logged(folder: Path) -> tuple[int | None, float | None]:
    """Step and loss of the last whole line of a cell's learning curve."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            row = json.loads(file.read().rpartition(b"\n")[0].splitlines()[-1])
        loss = float(row["loss"])
        return int(row["step"]), loss if math.isfinite(loss) else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None, None


def _seconds_since(started: str) -> float | None:
    try:
        return max(0.0, time.time() - datetime.fromisoformat(started).timestamp())
    except ValueError:
        return None


def _now(folder: Path) -> float:
    """The time of the file system, or where we may only read, ours."""
    try:
        return file_system_time(folder)
    except OSError:
        return time.time()
