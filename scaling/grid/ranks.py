"""Cells whose processes torchrun started: the first process leads, the others follow. Imports torch."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scaling.design import Cell, Study
from scaling.errors import ScalingError
from scaling.grid.devices import Device
from scaling.processes import SCHEDULER_SIGNALS
from scaling.records import Record, RunDirectory, Status
from scaling.torchrun import END, LOOK_SECONDS, Announcements, Place
from scaling.training import run_cell
from scaling.training.cells import never
from scaling.training.launch import environment, free_port, run_ranks
from scaling.training.loop import Progress, Stop

WAIT_SECONDS = 10.0  # for word of why a process failed, whose end was noticed first
Arguments = tuple[Cell, Path, str, int, float]
"""Of run_cell: cell, folder, device, micro-batch and the time at which it was handed out."""


def lead(place: Place, arguments: Arguments, report: Progress, stop: Stop) -> Record:
    """Run a cell as the first of its processes; the others hear of it.

    Raises:
        ScalingError: if one of the processes fails or is gone.
    """
    cell, _, _, micro_batch_size, _ = arguments
    announcements, port = Announcements(place), free_port()
    number = announcements.announce(json.dumps({"cell": cell.id, "micro_batch_size": micro_batch_size, "port": port}))

    def failed_elsewhere() -> Record | None:
        text = announcements.failure(number)
        if text is None:
            return None
        failure = json.loads(text)
        if failure["record"] is not None:
            return Record.model_validate(failure["record"])
        if failure["errno"] is not None:
            raise OSError(failure["errno"], failure["error"])  # as in one process, so that it may be tried again
        raise ScalingError(failure["error"])

    try:
        return run_ranks(run_cell, arguments, report, stop, [_environment(place, port)], failed_elsewhere)
    except ScalingError:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:  # one that failed elsewhere breaks what this process waits for
            if (record := failed_elsewhere()) is not None:
                return record
            time.sleep(LOOK_SECONDS)
        raise


def _environment(place: Place, port: int) -> dict[str, str]:
    return environment(place.rank, place.world_size, place.local_rank, place.local_world_size, place.address, port)


def follow(place: Place, study: Study, run: RunDirectory, device: Device) -> None:
    """Take a rank's part in every cell that the first process begins, until it ends.

    Raises:
        ScalingError: if the first process is gone.
    """
    torch.set_num_threads(device.count if device.kind == "cpu" else 1)
    announcements, number = Announcements(place), 1
    cells = {cell.id: cell for cell in study.all_cells()}
    while (text := _wait(announcements, number)) != END:
        with _deaf():
            _take_part(place, cells, run, device, announcements, number, json.loads(text))
        number += 1


@contextmanager
def _deaf() -> Iterator[None]:
    """Signals go to the first process too, which decides for all when the cell stops."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*SCHEDULER_SIGNALS, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(announcements: Announcements, number: int) -> str:
    while not announcements.is_announced(number):
        time.sleep(LOOK_SECONDS)
    return announcements.read(number)


def _take_part(
    place: Place,
    cells: dict[str, Cell],
    run: RunDirectory,
    device: Device,
    announcements: Announcements,
    number: int,
    told: dict[str, Any],
) -> None:
    """One cell; what goes wrong here is the first process's to record."""
    cell = device.with_loaders(cells[told["cell"]], place.local_world_size)
    arguments = (cell, run.cell_folder(cell.id), device.kind, told["micro_batch_size"], time.time())

    def is_over() -> Record | None:
        if announcements.is_announced(number + 1):
            raise ScalingError("the first process has gone on")
        return None

    record, error, errno = None, None, None
    try:
        ended = run_ranks(run_cell, arguments, _ignore, never, [_environment(place, told["port"])], is_over)
        record = ended if ended.status is Status.OOM else None  # how else it ended, the first process knows too
    except (ScalingError, OSError) as reason:
        errno = reason.errno if isinstance(reason, OSError) else None
        error = f"{reason} (on {socket.gethostname()})"
    if record is not None or error is not None:
        told_record = record and record.model_dump(mode="json")
        announcements.fail(number, json.dumps({"record": told_record, "error": error, "errno": errno}))


def _ignore(_step: int, _steps: int, _loss: float | None) -> None:
    """What this process reports, the first one reports too."""
