"""How long commands take on a run directory of 10,000 cells, and how many files they touch.

python -m benchmarks.responsiveness      # minutes, most of them to write the records; rewrites its own page
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks import evidence
from benchmarks.pages import seconds, write_page
from scaling.design import Cell, Study, build_study
from scaling.grid import find_device, grid_status, plan_jobs, with_status
from scaling.grid.leases import Holder, file_system_time, take_lease
from scaling.records import Record, RunDirectory, Status, describe

CELLS, DONE, RUNNING, FAILED = 10_000, 9_000, 50, 20
REPEATS = 5


def study(cells: int) -> Study:
    """Forty designs with as many seeds as make so many cells."""
    return build_study(
        {
            "name": "crowd",
            "data": {"name": "digits", "task": "segmentation", "canvas": 32, "digits": 3, "test_images": 2048},
            "grid": {
                "architectures": ["deit", "adventurer"],
                "sizes": ["nano", "micro"],
                "patch_sizes": [16, 8, 4, 2, 1],
                "input_sizes": [32, 64],
                "seeds": list(range(cells // 40)),
            },
            "recipe": {"steps": 4800, "warmup_steps": 240, "batch_size": 8, "learning_rate": 2.5e-3},
        }
    )


def finished(cell: Cell) -> Record:
    """A record as a training leaves it."""
    steps, batch = 4800, cell.recipe.batch_size
    return Record(
        **describe(cell),
        status=Status.DONE,
        test_loss=0.15 + 1e-4 * cell.seed,
        test_loss_standard_error=0.0014,
        mean_iou=0.6075,
        pixel_accuracy=0.9443,
        test_images=2048,
        parameters=210_955,
        parameters_without_positions=201_675,
        parameters_without_embedding_and_head=200_064,
        forward_flops_per_image=78_969_856,
        training_flops_per_image=236_688_384,
        fvcore_forward_flops_per_image=78_969_856,
        activation_bytes_per_image=2_506_248,
        estimated_forward_flops_per_image=78_969_856,
        estimated_activation_bytes_per_image=2_506_248,
        tries=1,
        steps=steps,
        micro_batch_size=batch,
        images_seen=steps * batch,
        images_per_second=160.2,
        training_seconds=239.7,
        data_seconds=0.9,
        evaluation_seconds=5.5,
        overhead_seconds=0.66,
        device="AMD EPYC",
        threads=1,
        attention="sdpa",
        versions={"python": "3.11.7", "patch-scaling": "0.1.0", "torch": "2.15.0", "timm": "1.0.31"},
        commit="85b7aae68a5da0888419d52f8515c8a8a887cf1a",
        finished_at="2026-11-21T18:01:30+00:00",
    )


def fill(run: RunDirectory, grid: Study, done: int, running: int, failed: int) -> None:
    """Give the first cells records, the next ones leases, and the next ones failures; the rest waits."""
    run.prepare(grid)
    cells: Iterator[Cell] = iter(grid.cells())
    for cell in islice(cells, done):
        run.begin(cell)
        run.finish(finished(cell))
    now = file_system_time(run.path)
    for cell in islice(cells, running):
        lease = take_lease(run.begin(cell), Holder.here("cpu", 1, 3600.0), now)
        assert lease is not None
        (lease.folder / "metrics.jsonl").write_text('{"step": 100, "images": 800, "loss": 1.5}\n')
    for cell in islice(cells, failed):
        run.begin(cell)
        run.fail(Record(**describe(cell), status=Status.FAILED, error="worker killed by signal 9"), "no more is known")


def counted(call: Callable[[], object], folder: Path) -> tuple[int, int]:
    """Files that a call opens below a folder, and folders that it lists."""
    counts = {"open": 0, "os.scandir": 0}
    call()  # imports read files too

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in counts and isinstance(arguments[0], str | Path) and Path(arguments[0]).is_relative_to(folder):
            counts[event] += 1

    sys.addaudithook(count)  # it stays, so the result is taken at once
    call()
    return counts["open"], counts["os.scandir"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        grid, run, began = study(CELLS), RunDirectory(Path(name) / "crowd"), time.perf_counter()
        fill(run, grid, DONE, RUNNING, FAILED)
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        device, cells = find_device("cpu"), grid.cells()
        one = ("run-grid", str(run.path), "--only", cells[0].id, "--workers", "1", "--device", "cpu")
        commands = (
            ("scaling status RUN", ("status", str(run.path))),
            ("scaling status RUN --format json", ("status", str(run.path), "--format", "json")),
            ("scaling run-grid RUN --only ID --format json, of a finished cell", (*one, "--format", "json")),
            ("scaling run-grid RUN --only ID --dry-run", (*one, "--dry-run")),
        )
        calls: tuple[tuple[str, Callable[[], object]], ...] = (
            ("grid_status(RUN)", lambda: grid_status(run.path)),
            ("jobs of all cells with their status", lambda: with_status(plan_jobs(grid, device, 1), run)),
            ("jobs of one cell by its id", lambda: with_status(plan_jobs(grid, device, 1, cells[-1].id), run)),
        )
        rows = []
        for label, arguments in commands:
            taken = [evidence.run(*arguments, folder=Path(name)) for _ in range(REPEATS)]
            wall, peak = [each[0] for each in taken], max(each[1] for each in taken)
            rows.append((label, f"{statistics.median(wall):.2f} s", f"{peak / 1e6:.0f} MB", "-", "-"))
        walls = [statistics.median(seconds(call, REPEATS)) for _, call in calls]
        for (label, call), wall in zip(calls, walls, strict=True):
            opened, listed = counted(call, run.path)
            rows.append((label, f"{wall:.2f} s", "-", f"{opened:,}", f"{listed:,}"))
    about = f"{CELLS:,} cells: {DONE:,} done, {RUNNING} running, {FAILED} failed, the others planned"
    columns = ("what", f"wall, median of {REPEATS}", "peak memory", "files opened", "folders listed")
    write_page("responsiveness", "A run directory of 10,000 cells", [(about, columns, rows)])


if __name__ == "__main__":
    main()
