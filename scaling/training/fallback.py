"""Smaller micro-batches for a cell whose training runs out of memory, whatever was foreseen."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scaling.design import Cell
from scaling.records import RESUME, Record, Status, write_whole


def smaller_micro_batch(cell: Cell, size: int) -> int | None:
    """The largest that is at most half, since every try begins anew; None where the study allows none."""
    return max((smaller for smaller in cell.micro_batch_sizes if 2 * smaller <= size), default=None)


def run_what_fits(
    run: Callable[[int, float], Record], cell: Cell, folder: Path, micro_batch_size: int, started: float
) -> Record:
    """Run a cell; where memory runs out, go on from its last checkpoint with fewer images at a time.

    Each time it says so on standard output, which in a grid is the cell's log, and notes the size beside
    the checkpoints, so that a cell that is continued later begins with it.

    Args:
        run: runs the cell with a micro-batch, as handed out at a time.
        cell: what is run.
        folder: of the cell.
        micro_batch_size: to begin with.
        started: time.time() at which the cell was handed out.

    Returns:
        The record of the last try: `oom` only where the smallest micro-batch ran out of memory too, or the recipe's
        own.
    """
    note = folder / RESUME / "micro_batch_size"
    if note.is_file():
        known = min(micro_batch_size, int(note.read_text()))
        micro_batch_size = max((size for size in cell.micro_batch_sizes if size <= known), default=micro_batch_size)
    while True:
        record, smaller = run(micro_batch_size, started), smaller_micro_batch(cell, micro_batch_size)
        if record.status is not Status.OOM or smaller is None:
            return record
        print(
            f"out of memory with micro-batches of {micro_batch_size} ({record.error}); going on with {smaller}",
            flush=True,
        )
        note.parent.mkdir(exist_ok=True)
        write_whole(note, str(smaller))
        gc.collect()  # what the failed try held in cycles
        torch.cuda.empty_cache()
        micro_batch_size, started = smaller, time.time()
