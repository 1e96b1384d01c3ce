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
from scaling.design import Cell, Design
from scaling.grid.budget import hours_of
from scaling.grid.engines.watching import Driver, find_drivers
from scaling.grid.leases import Found, file_system_time, find_holder
from scaling.records import FINISHED, RESUME, Record, RecordError, RunDirectory, Status, run_at

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
    """Of training, over all tries that left a checkpoint or a record, times the cell's processes."""
    cpu_hours: float
    """The same of cells on a CPU, times their threads."""
    training_flops: int
    timed_share: float
    """Share of the training whose time is known."""
    timed_seconds: float
    record: Record | None
    """Of the finished cell, or of its last try."""

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
    drivers: tuple[Driver, ...] = ()
    """That submit cells to Ray or Slurm, or did so last."""

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
        running = [cell for cell in self.cells if cell.state == Status.RUNNING]
        done = sum(cell.timed_share * cell.training_flops for cell in self.cells)
        if not running or not done:
            return None
        rate = done / sum(cell.timed_seconds for cell in self.cells)
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
            "drivers": [driver.to_json() for driver in self.drivers],
            "cells": [cell.to_json() for cell in self.cells],
        }


def grid_status(path: str | Path) -> GridStatus:
    """Look at a run directory, whether or not anyone is at work there.

    Raises:
        SourceError: if it is no run directory.
    """
    run = run_at(path)
    study, now, flops = run.study(), _now(run.path), dict[tuple[Design, str | None], int]()
    begun, cells = run.begun(), []
    for cell in study.all_cells():
        kind = cell.design, cell.stage
        if kind not in flops:  # the same for every seed
            flops[kind] = cost_of_cell(cell, scan="recomputed").training_flops
        cells.append(_cell_status(cell, run, cell.id in begun, now, flops[kind]))
    waiting = [cell.cell for cell in cells if cell.state in (Status.PLANNED, Status.PREEMPTED)]
    return GridStatus(run.path, study.name, tuple(cells), find_drivers(run.path, waiting, now))


def _cell_status(cell: Cell, run: RunDirectory, begun: bool, now: float, training_flops: int) -> CellStatus:
    folder, record, problem = run.cell_folder(cell.id), None, None
    try:
        if begun:
            record = run.record(cell.id) or run.failure(cell.id)
        problem = record and record.error
    except RecordError as error:
        problem = str(error)
    finished = record is not None and record.status in FINISHED
    found = find_holder(folder, now) if begun and not finished else Found(None, None)
    state = _state(record, problem, found)
    at_work = state == Status.RUNNING
    step, loss = last_logged(folder) if state not in (Status.PLANNED, *FINISHED) else (None, None)
    running = _seconds_since(found.holder.started) if at_work and found.holder else None
    known = found.holder if found.silent_seconds is not None else None
    steps = cell.recipe.training_steps(cell.data.epoch_images)
    saved = _last_checkpoint(folder) if state not in (Status.PLANNED, *FINISHED) else None
    gpu_hours, cpu_hours = _spent(cell, record, found, saved, running)
    timed_share, timed_seconds = _timed(record, saved, step, steps, running)
    return CellStatus(
        cell=cell.id,
        name=cell.name,
        state=state,
        step=step,
        steps=steps,
        training_loss=loss,
        test_loss=record.test_loss if record else None,
        problem=None if at_work else _left_behind(found) if state == ABANDONED else problem,
        host=known and known.host,
        runner=known and known.runner,
        worker=known and known.worker,
        silent_seconds=found.silent_seconds,
        running_seconds=running,
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        training_flops=training_flops,
        timed_share=timed_share,
        timed_seconds=timed_seconds,
        record=record,
    )


def _left_behind(found: Found) -> str:
    """What is known of the runner of an abandoned cell."""
    if found.holder is None or found.silent_seconds is None:
        return "its runner is gone"
    who = f"{found.holder.host}, process {found.holder.runner},"
    return f"{who} is gone" if found.holder.is_gone else f"{who} gave no sign of life for {found.silent_seconds:.0f} s"


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


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """How far an unfinished cell could continue from."""

    step: int
    seconds: float
    """Of training until then, over all tries."""
    age_seconds: float


def _last_checkpoint(folder: Path) -> _Checkpoint | None:
    """The last one that says what it is; whether it is whole, the cell finds out when it continues."""
    for path in sorted((folder / RESUME).glob("step-*/about.json"), reverse=True):
        try:
            position = json.loads(path.read_text(encoding="utf-8"))["position"]
            return _Checkpoint(int(position["step"]), float(position["seconds"]), time.time() - path.stat().st_mtime)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _spent(
    cell: Cell, record: Record | None, found: Found, saved: _Checkpoint | None, running: float | None
) -> tuple[float, float]:
    """GPU-hours and CPU core hours, as far as known."""
    if found.holder is not None and (saved is not None or running is not None):
        seconds = running or 0.0
        if saved is not None:
            seconds = saved.seconds + min(seconds, max(0.0, saved.age_seconds))
        hours = seconds / 3600
        on_cpu = found.holder.device == "cpu"
        return (0.0, hours * found.holder.cores) if on_cpu else (hours * cell.resources.processes, 0.0)
    if record is None:
        return 0.0, 0.0
    return (hours_of(record), 0.0) if record.gpu_hours is not None else (0.0, hours_of(record))


def _timed(
    record: Record | None, saved: _Checkpoint | None, step: int | None, steps: int, running: float | None
) -> tuple[float, float]:
    """A share of the training, and the seconds that it took; 0 where nothing is known."""
    if record is not None and record.status is Status.DONE and record.training_seconds:
        return 1.0, record.training_seconds
    if saved is not None and saved.seconds:
        return saved.step / steps, saved.seconds
    return (step / steps, running) if step and running else (0.0, 0.0)


def last_logged(folder: Path) -> tuple[int | None, float | None]:
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
