"""One cell in a process of its own. Importing this module imports torch."""

import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from scaling.cost import cost_of_cell
from scaling.errors import ScalingError
from scaling.grid.crew import Assignment
from scaling.grid.engine import Ended
from scaling.grid.errors import is_full_disk, is_transient, pause_before
from scaling.grid.jobs import unfit_fields, unless_crowded
from scaling.grid.leases import HELD_ELSEWHERE, Heartbeat, LeaseLostError, utc_now
from scaling.grid.ranks import lead
from scaling.grid.stopping import Stopping
from scaling.grid.tracking import Tracking
from scaling.processes import SCHEDULER_SIGNALS, die_with_parent
from scaling.records import FINISHED, Record, RunDirectory, Status, describe
from scaling.records.architecture_files import check_unchanged
from scaling.torchrun import VARIABLES
from scaling.training import provenance, run_cell, run_what_fits
from scaling.training.probe import CellDoesNotFitError, probe_cell
from scaling.training.trials import scan_of

TRACKERS_SECONDS = 30.0  # for which a finished cell waits for trackers that have not sent everything
TRACKERS_HURRY_SECONDS = 5.0  # the same, when it was asked to stop


def work(task: Assignment, pipe: Connection) -> None:
    """Run a cell, write its record (or why there is none), and tell the runner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the runner, which tells us
    stopping = Stopping()
    stopping.listen(*SCHEDULER_SIGNALS)
    threading.Thread(target=die_with_parent, daemon=True).start()
    try:
        lease = task.lease.hand_to(os.getpid())
    except (LeaseLostError, FileNotFoundError):
        os._exit(HELD_ELSEWHERE)
    heartbeat = Heartbeat(lease)
    heartbeat.start()
    pipe.send((0, 0, None))
    torch.set_num_threads(task.threads)
    if task.place is not None:
        for name in VARIABLES:  # this process is none of those that train; `lead` starts one
            os.environ.pop(name, None)
    elif task.device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(task.device_index, task.cell.resources.processes)
    run, full = RunDirectory(task.run), False
    tracking = Tracking(task.trackers, task.cell, run)
    try_ = _Tries(task, pipe, stopping, heartbeat, tracking)
    try:
        _redirect_output(run.begin(task.cell) / "log.txt")
        check_unchanged(run.path, task.cell.design.architecture)
        record = try_.until_done(run.cell_folder(task.cell.id))
        heartbeat.beat()
        if record.status in FINISHED:
            run.finish(record)
        else:
            run.fail(record, record.error or "")
    except Exception as error:
        record, full = _failure(task, error, stopping, try_.count), is_full_disk(error, task.run)
        heartbeat.beat()
        with suppress(OSError):  # a full disk must not hide the first error
            run.finish(record) if record.status in FINISHED else run.fail(record, traceback.format_exc())
    tracking.finish(record, lambda: TRACKERS_HURRY_SECONDS if stopping.asked or try_.hopeless else TRACKERS_SECONDS)
    heartbeat.stop()  # a late beat would renew what was released, or take it for lost
    with suppress(OSError):
        lease.remove() if record.status in FINISHED else lease.release()
    pipe.send(Ended(record, full))


@dataclass
class _Tries:
    """Running the cell, again after errors that may pass by themselves."""

    task: Assignment
    pipe: Connection
    stopping: Stopping
    heartbeat: Heartbeat
    tracking: Tracking
    count: int = 0
    hopeless: str | None = None
    """Why the runner wants the cell to stop, while the others go on."""
    trained: bool = False
    """Whether all steps are done; then the cell is tested, hopeless or not."""

    def until_done(self, folder: Path) -> Record:
        """The record of the first try that came to an end."""
        task = self.task
        while True:
            self.count += 1
            try:
                began = task.started if self.count == 1 else time.time()
                probe = probe_cell(task.cell, task.device, task.micro_batch_size, task.memory.worker_bytes)
                run = partial(self._run, folder)
                record = run_what_fits(run, task.cell, folder, probe.micro_batch_size, began)
                known = {"estimated_images_per_second": task.estimated_images_per_second, "tries": self.count}
                known["peak_memory_bytes_per_image"] = probe.bytes_per_image
                if record.status is Status.PREEMPTED and self.hopeless and not self.stopping.asked:
                    known |= {"status": Status.STOPPED, "error": f"{self.hopeless}; {record.error}"}
                if record.status is Status.OOM:
                    known |= self._foreseen(record)
                record = record.model_copy(update=known | RunDirectory(task.run).earlier_costs(task.cell))
                return unless_crowded(record, task.memory)
            except Exception as error:
                if self.count > task.retries or self._stop() or not is_transient(error, folder):
                    raise
                print(f"try {self.count}: {_one_line(error)}; trying again", flush=True)
            pause_before(self.count, self._stop)

    def _foreseen(self, record: Record) -> dict[str, Any]:
        """What the closed form says of a cell that ran out of memory, where the process that did knows nothing."""
        cost = cost_of_cell(self.task.cell, scan_of(self.task.device))
        fields = unfit_fields(cost, record.micro_batch_size or self.task.micro_batch_size)
        return {name: value for name, value in fields.items() if getattr(record, name) is None}

    def _run(self, folder: Path, micro_batch_size: int, began: float) -> Record:
        arguments = (self.task.cell, folder, self.task.device, micro_batch_size, began)
        if self.task.place is None:
            return run_cell(*arguments, self._report, self._stop)
        return lead(self.task.place, arguments, self._report, self._stop)

    def _report(self, step: int, steps: int, loss: float | None) -> None:
        self.pipe.send((step, steps, loss))
        self.trained = step == steps
        if loss is not None:
            self.tracking.report(step, loss)

    def _stop(self) -> bool:
        self.heartbeat.check()
        with suppress(EOFError, OSError):  # the runner is gone, and so are we in a moment
            if self.hopeless is None and self.pipe.poll():
                self.hopeless = self.pipe.recv()
        return self.stopping.asked is not None or (self.hopeless is not None and not self.trained)


def _failure(task: Assignment, error: Exception, stopping: Stopping, tries: int) -> Record:
    """What is noted of a cell that ended with an error; one on the way out is of the way out."""
    status = Status.PREEMPTED if stopping.asked else Status.FAILED
    known = describe(task.cell) | provenance(task.cell, task.device)
    if isinstance(error, CellDoesNotFitError):
        status, known = Status.OOM, known | unfit_fields(error.cost, error.micro_batch_size)
    record = Record(**known, status=status, error=_one_line(error), tries=tries, finished_at=utc_now())
    return unless_crowded(record, task.memory)


def _one_line(error: Exception) -> str:
    own = isinstance(error, ScalingError)
    return (str(error) if own else f"{type(error).__name__}: {error}").splitlines()[0]


def _redirect_output(path: Path) -> None:
    """Send what libraries print to the cell's log, so that it does not tear the runner's table."""
    with path.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _visible(index: int, count: int) -> str:
    """The GPUs of one cell among those the user made visible: the index-th group of so many."""
    visible, own = os.environ.get("CUDA_VISIBLE_DEVICES"), range(index * count, (index + 1) * count)
    return ",".join(visible.split(",")[each] if visible else str(each) for each in own)
