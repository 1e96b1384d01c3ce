"""Time and memory of what is made of records: comparisons, fits, figures and reports.

python -m benchmarks.evidence      # a minute; rewrites benchmarks/results/evidence.md
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.main_job import memory_of
from benchmarks.pages import write_page
from scaling.design import Design

REPEATS = 3
LONG = 20  # seconds, from which one run says enough
PATCHES, INPUTS = (16, 8, 4, 2, 1), (32, 64, 128, 256)
SIZES = ("nano", "micro", "tiny", "small", "base")


def run(*arguments: str, folder: Path) -> tuple[float, int]:
    """Wall seconds and peak memory in bytes of one command and the processes below it."""
    started, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "scaling", *arguments]
    with (folder / "output").open("w") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, cwd=folder)
        while process.poll() is None:
            peak = max(peak, memory_of(process))
            time.sleep(0.1)
    process.wait()
    assert process.returncode == 0, (folder / "output").read_text()
    return time.perf_counter() - started, peak


def many_records(count: int) -> pd.DataFrame:
    """A grid of designs with twenty seeds each, whose losses follow a law."""
    generator, rows = np.random.default_rng(0), []
    names = [
        f"{architecture}-{size}/{patch}@{side}"
        for architecture in ("deit", "adventurer")
        for size in SIZES
        for side in INPUTS[:2]
        for patch in PATCHES
    ]
    for index in range(count):
        design = Design.parse(names[index % len(names)])
        width = design.shape.width
        loss = 0.3 + 0.02 * design.patch_size**0.9 + width**-0.4
        rows.append(
            {
                "design": str(design),
                "architecture": design.architecture,
                "size": design.size,
                "patch_size": design.patch_size,
                "input_size": design.input_sides[0],
                "sequence_length": design.sequence_length,
                "task": "classification",
                "dataset": "synthetic",
                "seed": index // len(names),
                "status": "done",
                "test_loss": loss * np.exp(0.01 * generator.standard_normal()),
                "parameters": 12 * design.shape.depth * width**2,
                "training_flops_per_image": 72 * design.shape.depth * width**2 * design.sequence_length,
                "activation_bytes_per_image": 40 * design.shape.depth * width * design.sequence_length,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_records(2000).to_csv(folder / "many.csv", index=False)
        jobs = (
            ("scaling compare paper", "3 s", ("compare", "paper")),
            ("scaling fit paper", "-", ("fit", "paper")),
            ("scaling records paper", "-", ("records", "paper")),
            ("scaling table paper --number all", "-", ("table", "paper", "--number", "all")),
            ("scaling plot paper --figure all", "15 s, 500 MB", ("plot", "paper", "--figure", "all")),
            ("scaling report paper", "-", ("report", "paper")),
            ("scaling compare, 2,000 records", "-", ("compare", "many.csv")),
            ("scaling report, 2,000 records", "60 s", ("report", "many.csv")),
        )
        rows = []
        for label, target, arguments in jobs:
            taken = [run(*arguments, folder=folder)]
            if taken[0][0] < LONG:
                taken += [run(*arguments, folder=folder) for _ in range(REPEATS - 1)]
            wall, peak = statistics.median(each[0] for each in taken), max(each[1] for each in taken)
            rows.append((label, f"{wall:.2f} s", f"{peak / 1e6:.0f} MB", target))
        for path in sorted(folder.rglob("report.html")):
            label = f"{path.parent.name}/{path.name}"
            rows.append((label, "-", f"{path.stat().st_size / 1e6:.2f} MB on disk", "5 MB"))
    columns = ("command", "wall, median of 3 below 20 s", "peak memory", "target")
    write_page("evidence", "What is made of records: time and memory", [("", columns, rows)])


if __name__ == "__main__":
    main()
