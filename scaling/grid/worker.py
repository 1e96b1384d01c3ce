"""One cell in a process of its own. Importing this module imports torch; the runner never does."""

import os
import signal
import threading
import traceback
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from scaling.design import Cell
from scaling.records import Record, RunDirectory, Status, describe
from scaling.training import provenance, run_cell


def work(
    cell: Cell,
    run_path: Path,
    device: str,
    device_index: int,
    threads: int,
    micro_batch_size: int,
    estimated_images_per_second: float | None,
    started: float,
    pipe: Connection,
) -> None:
    """Run a cell, write its record (or why it failed), and tell the runner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the runner, which ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(device_index)
    run = RunDirectory(run_path)

    def report(step: int, steps: int, loss: float) -> None:
        pipe.send((step, steps, loss))

    try:
        folder = run.begin(cell)
        _redirect_output(folder / "log.txt")
        record = run_cell(cell, folder, device, micro_batch_size, started, report)
        record = record.model_copy(update={"estimated_images_per_second": estimated_images_per_second})
        run.finish(record)
    except Exception as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        record = Record(**describe(cell), **provenance(cell, device), status=Status.FAILED, error=message)
        with suppress(OSError):  # a full disk must not hide the first error
            run.fail(record, traceback.format_exc())
    pipe.send(record)


def _redirect_output(path: Path) -> None:
    """Send what libraries print to the cell's log, so that it does not tear the runner's table."""
    with path.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _visible(index: int) -> str:
    """The GPU of this index among those the user made visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index] if visible else str(index)


def _die_with_parent() -> None:
    """A runner that was killed must not leave workers behind that write to its cells."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
