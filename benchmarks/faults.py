"""A fault campaign: processes killed, signals, full disks, lost files, rivals and memory that runs out, for real.

python -m benchmarks.faults      # minutes on two cores; rewrites its own page

After every fault each finished record must be what it was, byte for byte; in the end every cell must be done with the
losses of a run that nothing disturbed, or recorded with its true status.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pages import write_page
from scaling.design import Study, build_study, study_to_toml
from scaling.grid import grid_status
from scaling.grid.leases import file_system_time, find_holder
from scaling.records import Record, RunDirectory, Status

KILLS, TERMINATIONS = 100, 20
PATIENCE_SECONDS = 1800
DISK_BYTES = 1 << 20
ADDRESS_SPACE_BYTES = 6 << 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault did."""

    fault: str
    injected: int
    seen: str
    cells: int
    finished: int
    """Cells that have their record in the end."""
    broken_rules: tuple[str, ...]


def study(seeds: int, steps: int = 12, **changes: Any) -> Study:
    """Cells that take a second or two, most of it to build and measure the model."""
    values: dict[str, Any] = {
        "name": "faults",
        "data": {"name": "digits", "task": "segmentation", "canvas": 16, "digits": 2, "clutter": 1, "test_images": 16},
        "grid": {"architectures": ["deit"], "sizes": ["nano"], "patch_sizes": [8], "input_sizes": [16]},
        "recipe": {"steps": steps, "batch_size": 8, "learning_rate": 1e-3},
        "measure": {"log_every_steps": 1, "fvcore": False},
    }
    values["grid"]["seeds"] = list(range(seeds))
    for section, more in changes.items():
        values[section] |= more
    return build_study(values)


@dataclass
class Grid:
    """A study in a folder, its runners, and the records that were seen whole."""

    folder: Path
    study: Study
    rules: list[str] = field(default_factory=list)
    """Rules that were broken."""
    known: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file, self.run = self.folder / "faults.toml", RunDirectory(self.folder / "run")
        self.file.write_text(study_to_toml(self.study))

    @property
    def is_finished(self) -> bool:
        return len(self.records()) == len(self.study.cells())

    def grow(self) -> None:
        """Ten more seeds, for faults that need running cells."""
        grid = self.study.grid.model_copy(update={"seeds": tuple(range(len(self.study.grid.seeds) + 10))})
        self.study = self.study.model_copy(update={"grid": grid})
        self.file.write_text(study_to_toml(self.study))

    def start(
        self, *arguments: str, limits: tuple[str, ...] = (), heard: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """A runner; one that is `heard` by a pipe waits when nobody reads it."""
        command = [sys.executable, "-m", "scaling", "run-grid", str(self.file), "--out", str(self.run.path)]
        command = ["prlimit", *limits, *command] if limits else command
        command += ["--workers", "2", "--format", "json", *arguments]
        return subprocess.Popen(command, stdout=heard, stderr=heard, text=True, start_new_session=True)

    def finish(self, *arguments: str, limits: tuple[str, ...] = ()) -> tuple[int, str, str]:
        process = self.start(*arguments, limits=limits)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, err

    def cells(self) -> list[Path]:
        return list(self.run.path.glob("cells/*"))

    def check(self, rule: str, kept: bool) -> None:
        if not kept and rule not in self.rules:
            self.rules.append(rule)

    def look(self) -> None:
        """See whether each record is still what it was, and whole."""
        now = {path.parent.name: path.read_bytes() for path in self.run.path.glob("cells/*/record.json")}
        self.check("a finished record changed", all(now.get(cell) == text for cell, text in self.known.items()))
        for cell in now.keys() - self.known.keys():
            Record.model_validate_json(now[cell])
        self.known = now

    def records(self) -> dict[str, Record]:
        found = {cell.id: self.run.record(cell.id) for cell in self.study.cells()}
        return {cell: record for cell, record in found.items() if record is not None}

    def outcome(self, fault: str, injected: int, seen: str, statuses: tuple[Status, ...] = (Status.DONE,)) -> Outcome:
        """How it ended: every cell must have a record of one of these statuses."""
        self.look()
        cells, records = self.study.cells(), self.records()
        self.check("a cell without a record", len(records) == len(cells))
        self.check("a record with another status", all(record.status in statuses for record in records.values()))
        now = file_system_time(self.run.path)  # a lease of the dead may lie in a finished cell, and harms nobody
        self.check("a lease that lives on", not any(find_holder(folder, now).lives for folder in self.cells()))
        return Outcome(fault, injected, seen, len(cells), len(records), tuple(self.rules))


def workers_of(runner: subprocess.Popen[str]) -> list[psutil.Process]:
    """Forked by the runner's fork server."""
    with suppress(psutil.NoSuchProcess):
        return [worker for child in psutil.Process(runner.pid).children() for worker in child.children()]
    return []


def bombard(
    grid: Grid, number: signal.Signals, times: int, share_of_runners: float, dice: random.Random
) -> tuple[int, int]:
    """Signal runners and workers at random times, with more runners and cells as needed; returns how many were hit."""
    runners, workers = 0, 0
    process = grid.start(heard=subprocess.DEVNULL)
    while runners + workers < times:
        time.sleep(dice.uniform(0.05, 1.5))
        if process.poll() is not None:
            if grid.is_finished:
                grid.grow()
            process = grid.start(heard=subprocess.DEVNULL)
            continue
        victims = workers_of(process)
        if not victims:
            continue
        with suppress(psutil.NoSuchProcess):
            if dice.random() < share_of_runners:
                end_runner(grid, process, number, victims)
                runners += 1
            else:
                dice.choice(victims).send_signal(number)
                workers += 1
        grid.look()
    process.communicate(timeout=PATIENCE_SECONDS)
    return runners, workers


def end_runner(
    grid: Grid, process: subprocess.Popen[str], number: signal.Signals, workers: list[psutil.Process]
) -> None:
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_SECONDS)
    _gone, alive = psutil.wait_procs(workers, timeout=30)
    grid.check("a worker outlived its runner", not alive)
    expected = 130 if number is signal.SIGTERM else -number
    grid.check("another exit code", process.returncode in {expected, 0, 1})


def killed(folder: Path) -> Outcome:
    grid = Grid(folder, study(seeds=40))
    runners, workers = bombard(grid, signal.SIGKILL, KILLS, 0.1, random.Random(0))
    before = len(grid.known)
    code, _, _ = grid.finish()
    grid.check("another exit code", code == 0)
    quiet = Grid(folder / "quiet", study(seeds=3))
    quiet.finish()
    losses = {cell: record.test_loss for cell, record in grid.records().items()}
    same = all(losses.get(cell) == record.test_loss for cell, record in quiet.records().items())
    grid.check("other losses than undisturbed", same and len(quiet.records()) == 3)
    seen = (
        f"{runners} runners and {workers} workers killed, {before} cells finished meanwhile; same losses as undisturbed"
    )
    return grid.outcome("kill -9", KILLS, seen)


def terminated(folder: Path) -> Outcome:
    grid = Grid(folder, study(seeds=16, steps=60))
    runners, workers = bombard(grid, signal.SIGTERM, TERMINATIONS, 0.3, random.Random(1))
    failures = [grid.run.failure(cell.id) for cell in grid.study.cells()]
    left = [failure.status for failure in failures if failure is not None]
    grid.check("stopped, but not preempted", set(left) <= {Status.PREEMPTED})
    grid.finish()
    return grid.outcome(
        "SIGTERM", TERMINATIONS, f"{runners} runners, {workers} workers; {len(left)} cells preempted last"
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None] | None]:
    """A file system of 1 MiB at `folder`, and how to enlarge it; None where mounting is not allowed."""
    folder.mkdir(parents=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(folder: Path) -> Outcome:
    with small_disk(folder / "disk") as enlarge:
        grid = Grid(folder / "disk" if enlarge else folder / "limited", study(seeds=8))
        limits = () if enlarge else ("--fsize=60000",)
        code, _, err = grid.finish(limits=limits)
        before = len(grid.records())
        grid.check("a full disk was not named", code == 1 and "no space left" in err and "Traceback" not in err)
        grid.look()
        if enlarge:
            enlarge()
        grid.finish()
        kind = "file system of 1 MiB" if enlarge else "limit of 60 kB per file"
        return grid.outcome(
            "full disk", 1, f"{kind}: stopped with a clear error after {before} records, completed with room"
        )


def remove_checkpoints(cell: Path) -> None:
    """Of the trained model, and of an unfinished training."""
    for name in ("checkpoint", "resume"):
        shutil.rmtree(cell / name, ignore_errors=True)


def lost_checkpoint(folder: Path) -> Outcome:
    grid = Grid(folder, study(seeds=2, steps=60))
    grid.finish("--only", "*/8@16*")
    grid.look()
    first, second = grid.study.cells()
    remove_checkpoints(grid.run.cell_folder(first.id))
    other = grid.run.cell_folder(second.id)
    other.rename(folder / "moved")  # to be trained again, stopped, and to lose its checkpoint
    del grid.known[second.id]
    process = grid.start()
    while not (other / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
    remove_checkpoints(other)
    grid.finish()
    return grid.outcome(
        "checkpoint removed", 2, "of a finished cell: nothing changed; of a preempted one: trained anew"
    )


def truncated_record(folder: Path) -> Outcome:
    grid = Grid(folder, study(seeds=2))
    grid.finish()
    grid.look()
    path = grid.run.cell_folder(grid.study.cells()[0].id) / "record.json"
    path.write_bytes(grid.known.pop(path.parent.name)[:100])
    code, _, err = grid.finish()
    grid.check("a cut record was not named", code == 1 and str(path) in err)
    grid.check("status did not say so", grid_status(grid.run.path).counts == {"broken": 1, "done": 1})
    path.parent.rename(folder / "moved")
    grid.finish()
    return grid.outcome(
        "record cut off", 1, "refused with its path before anything ran; redone once its folder was moved"
    )


def rivals(folder: Path) -> Outcome:
    grid = Grid(folder, study(seeds=12))
    processes = [grid.start(), grid.start()]
    ran = [json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0])["ran"] for process in processes]
    grid.check("a cell was done twice", sorted(ran[0] + ran[1]) == sorted(cell.id for cell in grid.study.cells()))
    return grid.outcome("two runners at once", 1, f"they did {len(ran[0])} and {len(ran[1])} cells, none twice")


def not_a_number(folder: Path) -> Outcome:
    hot = {"sizes": ["micro"], "learning_rate": 1e30}
    grid = Grid(folder, study(2, grid={"sizes": ["nano", "micro"]}, recipe={"by_size": [hot]}))
    code, _, _ = grid.finish()
    grid.check("another exit code", code == 0)
    by_size = {cell.design.size: grid.run.record(cell.id) for cell in grid.study.cells()}
    nano, micro = by_size["nano"], by_size["micro"]
    grid.check("another status", nano is not None and nano.status is Status.DONE)
    grid.check("another status", micro is not None and micro.status is Status.DIVERGED)
    seen = f"rolled back once, then: {micro and micro.error}; the other cells done"
    return grid.outcome("loss not a number", 2, seen, (Status.DONE, Status.DIVERGED))


def out_of_memory(folder: Path) -> Outcome:
    large = {
        "data": {"canvas": 512},
        "grid": {"patch_sizes": [4], "input_sizes": [512]},
        "recipe": {"batch_size": 64, "micro_batch_size": 64},
    }
    limited = Grid(folder / "limited", study(1, 2, **large))
    limited.finish("--workers", "1", limits=(f"--as={ADDRESS_SPACE_BYTES}",))
    large["grid"] = {"patch_sizes": [8, 1], "input_sizes": [16]}
    large["data"], large["recipe"] = {"canvas": 16}, {"batch_size": 1 << 22, "micro_batch_size": 1 << 22}
    needed = [record.memory_needed_bytes for record in limited.records().values()]
    limited.check("what was needed is not said", all(needed))
    crowded = Grid(folder / "crowded", study(1, 2, **large))
    crowded.finish("--workers", "1")
    crowded.rules += limited.outcome("", 0, "", (Status.OOM,)).broken_rules
    record = next(iter(crowded.records().values()))
    seen = f"an address space of {ADDRESS_SPACE_BYTES >> 30} GiB: oom while training; by the estimate: {record.error}"
    return crowded.outcome("out of memory", 2, seen, (Status.OOM,))


FAULTS = (killed, terminated, full_disk, lost_checkpoint, truncated_record, rivals, not_a_number, out_of_memory)


def main() -> None:
    rows = []
    for inject in FAULTS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = inject(Path(folder))
        rules = "; ".join(found.broken_rules) or "none"
        taken = f"{time.perf_counter() - began:.0f}"
        rows.append((found.fault, str(found.injected), found.seen, f"{found.finished} of {found.cells}", rules, taken))
        print(*rows[-1], sep=" | ", flush=True)
    columns = ("fault", "injected", "what was seen", "cells with a true record", "broken rules", "seconds")
    write_page("faults", "Faults injected into running grids", [("", columns, rows)])


if __name__ == "__main__":
    main()
