"""Smaller micro-batches for a cell whose training runs out of memory, whatever was foreseen."""

import gc
import time
from pathlib import Path

import torch

from scaling.design import Cell
from scaling.records import Record, Status
from scaling.training.cells import never, run_cell
from scaling.training.loop import Progress, Stop
from scaling.training.probe import micro_batch_sizes


def smaller_micro_batch(cell: Cell, size: int) -> int | None:
    """The largest that is at most half, since every try begins anew; None where the study allows none."""
    return max((smaller for smaller in micro_batch_sizes(cell) if 2 * smaller <= size), default=None)


def run_cell_that_fits(
    cell: Cell,
    folder: Path,
    device: str,
    micro_batch_size: int,
    started: float,
    report: Progress,
    stop: Stop = never,
) -> Record:
    """As `run_cell`; where memory runs out in training, go on from the last checkpoint with fewer images at a time.

    The record is that of the last try: `oom` only where the smallest micro-batch ran out of memory too, or the
    recipe's own. Each time it says so on standard output, which in a grid is the cell's log.
    """
    while True:
        record = run_cell(cell, folder, device, micro_batch_size, started, report, stop)
        smaller = smaller_micro_batch(cell, micro_batch_size)
        if record.status is not Status.OOM or smaller is None:
            return record
        print(f"out of memory with micro-batches of {micro_batch_size} ({record.error}); going on with {smaller}")
        gc.collect()  # what the failed try held in cycles
        if device == "cuda":
            torch.cuda.empty_cache()
        micro_batch_size, started = smaller, time.time()
