"""Cells whose processes torchrun started: the first process leads, the others follow. Imports torch."""

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import torch

from scaling.design import Cell, Study
from scaling.errors import ScalingError
from scaling.grid.devices import Device
from scaling.records import Record, RunDirectory, Status
from scaling.torchrun import END, Announcements, Place
from scaling.training import run_cell
from scaling.training.cells import never
from scaling.training.launch import environment, free_port, run_ranks
from scaling.training.loop import Progress, Stop

LOOK_SECONDS = 0.5  # between two looks for the next cell
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
        raise ScalingError(failure["error"])

    return run_ranks(run_cell, arguments, report, stop, [_environment(place, port)], failed_elsewhere)


def _environment(place: Place, port: int) -> dict[str, str]:
    return environment(place.rank, place.world_size, place.local_rank, place.local_world_size, place.address, port)


def follow(place: Place, study: Study, run: RunDirectory, device: Device) -> None:
    """Take a rank's part in every cell that the first process begins, until it ends.

    Raises:
        ScalingError: if the first process is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # they go to the first process too, which decides
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(device.count if device.kind == "cpu" else 1)
    announcements, number = Announcements(place), 1
    cells = {cell.id: cell for cell in study.all_cells()}
    while (text := _wait(announcements, number)) != END:
        _take_part(place, cells, run, device, announcements, number, json.loads(text))
        number += 1


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
    cell = cells[told["cell"]]
    arguments = (cell, run.cell_folder(cell.id), device.kind, told["micro_batch_size"], time.time())

    def is_over() -> Record | None:
        if announcements.is_announced(number + 1):
            raise ScalingError("the first process has gone on")
        return None

    record, error = None, None
    try:
        ended = run_ranks(run_cell, arguments, _ignore, never, [_environment(place, told["port"])], is_over)
        record = ended if ended.status is Status.OOM else None  # how else it ended, the first process knows too
    except (ScalingError, OSError) as reason:
        error = f"process {place.rank} of {place.world_size} on {socket.gethostname()}: {reason}"
    if record is not None or error is not None:
        announcements.fail(number, json.dumps({"record": record and record.model_dump(mode="json"), "error": error}))


def _ignore(_step: int, _steps: int, _loss: float | None) -> None:
    """What this process reports, the first one reports too."""
