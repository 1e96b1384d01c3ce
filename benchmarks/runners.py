"""What a runner adds to cells: `scaling run-grid` beside a loop, a process each, Ray's tasks and Hydra's launcher.

python -m benchmarks.runners      # ten minutes on a core; rewrites its own page

Each way trains the same tiny cells one at a time by the same function, `run_cell`. Times are by the clock, since Ray
does not tell what its workers used, so a core has to be idle; of few and of more cells: the slope is what a cell costs,
the rest what starting costs. What is not installed is left out.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.faults import study
from benchmarks.pages import release, write_page
from scaling.design import study_to_toml

FEW, MORE = 2, 42
NOTE = (
    "The loop is one process without any of what a runner gives: the least that the cells themselves cost. `run-grid` "
    "also probes memory, holds leases and writes records, in one process per cell, forked with torch loaded; a cell "
    "that dies takes no other with it, and the same command completes what is missing. Ray's worker, and the one "
    "process of Hydra's launcher with one job, stay for all cells."
)


def run_one(index: int, folder: str) -> None:
    """Train a cell as every way does."""
    from scaling.training import run_cell

    cell = study(MORE, steps=2).cells()[index]
    path = Path(folder) / str(index)
    path.mkdir()
    run_cell(cell, path, "cpu", cell.recipe.batch_size, time.time(), lambda *_: None)


def loop(count: int, folder: str) -> None:
    for index in range(count):
        run_one(index, folder)


def processes(count: int, folder: str) -> None:
    for index in range(count):
        code = f"from benchmarks.runners import run_one; run_one({index}, {folder!r})"
        subprocess.run([sys.executable, "-c", code], check=True)


def grid(count: int, folder: str) -> None:
    path = Path(folder) / "cells.toml"
    path.write_text(study_to_toml(study(count, steps=2)))
    command = [sys.executable, "-m", "scaling", "run-grid", str(path), "--out", f"{folder}/run"]
    subprocess.run([*command, "--workers", "1", "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)


def ray_tasks(count: int, folder: str) -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=f"{folder}/ray")
    task = ray.remote(run_one)
    ray.get([task.remote(index, folder) for index in range(count)])
    ray.shutdown()


def hydra_joblib(count: int, folder: str) -> None:
    import hydra  # pyright: ignore[reportMissingImports]

    overrides = [f"+index={','.join(map(str, range(count)))}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    sys.argv = ["sweep", "--multirun", *overrides, f"hydra.sweep.dir={folder}/sweep"]
    hydra.main(version_base=None, config_path=None)(lambda config: run_one(config.index, folder))()


WAYS = {
    "a loop in one process": (loop, "scaling"),
    "scaling run-grid, one worker": (grid, "scaling"),
    "a new process for each cell": (processes, "scaling"),
    "Ray tasks on one CPU": (ray_tasks, "ray"),
    "Hydra's joblib launcher, one job": (hydra_joblib, "hydra"),
}


def cost(way: str, count: int) -> float:
    """Seconds that a way takes, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # short, for Ray's sockets
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.runners", way, str(count), folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken = time.perf_counter() - began
    print(way, count, f"{taken:.1f}", flush=True)
    return taken


def main() -> None:
    rows, floor = [], 0.0
    for way, (_, package) in WAYS.items():
        if not find_spec(package):
            continue
        few, more = cost(way, FEW), cost(way, MORE)
        each = (more - few) / (MORE - FEW)
        floor = floor or each
        label = f"{way} ({package} {release({'hydra': 'hydra-joblib-launcher'}.get(package, package))})"
        row = (label, f"{each:.2f} s", f"{each - floor:+.2f} s", f"{few - FEW * each:.1f} s", f"{more:.0f} s")
        rows.append(row)
    columns = ("way", "a cell", "over the loop", "once, to start and end", f"{MORE} cells")
    write_page("runners", "What a runner adds to cells", [("", columns, rows, NOTE)])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        WAYS[sys.argv[1]][0](int(sys.argv[2]), sys.argv[3])
    else:
        main()
