"""What a job of one cell does, without training: `python -m tests.engines.job RUN CELL`.

What each of its lives does stands in RUN/lives/CELL, one word a line: done, fails, killed (its worker), waits (until it
is asked to stop, after a step more than the life before), stays (the same, without a step), late (another runner has
finished the cell, and the job ends as one that saw it at work).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from scaling.grid.leases import HELD_ELSEWHERE, Holder, Lease, file_system_time, take_lease, utc_now
from scaling.records import Record, RunDirectory, Status, describe


def main() -> None:
    run = RunDirectory(sys.argv[1])
    cell = next(cell for cell in run.study().all_cells() if cell.id == sys.argv[2])
    life, *later = lives(run.path, cell.id).read_text().split() or ["done"]
    lives(run.path, cell.id).write_text("\n".join(later))
    if run.record(cell.id) is not None:
        return
    folder = run.begin(cell)
    while (lease := take_lease(folder, Holder.here("cpu", 1, 1.0), file_system_time(folder))) is None:
        time.sleep(0.05)
    known = Record(**describe(cell), status=Status.DONE, finished_at=utc_now(), training_seconds=3600.0, threads=1)
    if life == "done":
        run.finish(known.model_copy(update={"test_loss": 1.0}))
        lease.remove()
        return
    if life == "late":
        run.finish(known)
        lease.remove()
        sys.exit(HELD_ELSEWHERE)
    if life in ("fails", "killed"):
        error = "worker killed by signal 9 (out of memory?)" if life == "killed" else "it did not work"
        run.fail(known.model_copy(update={"status": Status.FAILED, "error": error}), "")
        lease.release()
        sys.exit(1)
    wait(run, known, lease, life)


def wait(run: RunDirectory, known: Record, lease: Lease, life: str) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        run.fail(known.model_copy(update={"status": Status.PREEMPTED, "error": "asked to stop"}), "")
        lease.release()
        os._exit(130)

    signal.signal(signal.SIGTERM, stop)
    metrics = run.cell_folder(known.cell) / "metrics.jsonl"
    steps = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    if life == "waits":
        with metrics.open("a") as file:
            file.write(json.dumps({"step": steps + 1, "images": 8 * (steps + 1), "loss": 2.0}) + "\n")
    while True:
        lease.renew()
        time.sleep(0.05)


def lives(run: Path, cell: str) -> Path:
    (run / "lives").mkdir(exist_ok=True)
    path = run / "lives" / cell
    path.touch()
    return path


if __name__ == "__main__":
    main()
