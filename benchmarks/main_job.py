"""Speed and memory of the main job: start-up, the demo's study, data, runner overhead, fits.

python -m benchmarks.main_job      # six minutes on two cores; rewrites benchmarks/results/main_job.md
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.pages import python, seconds, write_page
from scaling import fit_groups, load_records
from scaling.grid import find_device
from scaling.laws import FitResult

STUDY = "digits-quick"
Row = tuple[str, str, str]


def startup() -> list[Row]:
    bare = statistics.median(seconds(python("-c", "pass"), 10))
    rows = []
    for name, limit, arguments in (
        ("scaling --help", "0.4 s", ("-m", "scaling", "--help")),
        ("import scaling", "0.2 s", ("-c", "import scaling")),
    ):
        taken = seconds(python(*arguments), 10)
        rows.append((name, f"{statistics.median(taken):.3f} s (max {max(taken):.3f}; bare python {bare:.3f})", limit))
    return rows


def memory_of(process: psutil.Process) -> int:
    """Proportional set size of a process and all below it, in bytes."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main_job(folder: Path) -> list[Row]:
    started, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "scaling", "run-grid", STUDY, "--device", "cpu", "--out", str(folder)]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory_of(process))
        time.sleep(0.5)
    wall = time.perf_counter() - started
    assert process.returncode == 0
    records = load_records(folder)
    share = records["data_seconds"] / records["training_seconds"]
    total_share = records["data_seconds"].sum() / records["training_seconds"].sum()
    # The longest cells run first; the first on each worker also waits for the one import of torch.
    overhead = records.sort_values("training_flops_per_image", ascending=False, kind="stable")["overhead_seconds"]
    first, later = overhead.iloc[: find_device("cpu").count], overhead.iloc[find_device("cpu").count :]
    return [
        (f"{STUDY}, {len(records)} cells", f"{wall:.0f} s", "600 s"),
        ("peak memory, all processes", f"{peak / 2**30:.2f} GiB", "4 GiB"),
        ("data generation, share of training time", f"{total_share:.1%} (largest of a cell {share.max():.1%})", "5 %"),
        (
            "runner overhead per cell, measuring included",
            f"median {later.median():.2f} s, max {later.max():.2f} s",
            "2 s",
        ),
        ("  of the first cells, which wait for the import of torch", f"max {first.max():.2f} s", ""),
    ]


def fits(folder: Path) -> list[Row]:
    records = load_records(folder)

    def fit_with_intervals() -> None:
        for curve in fit_groups(records, law="saturating"):
            assert isinstance(curve, FitResult)
            assert curve.parameters

    curves = len(fit_groups(records))
    taken = statistics.median(seconds(fit_with_intervals, 20)) / curves
    return [("one saturating fit with intervals", f"{1e3 * taken:.0f} ms", "")]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / STUDY
        rows = [*startup(), *main_job(folder), *fits(folder)]
    write_page("main_job", "Main job", [("", ("what", "measured", "limit"), rows)])


if __name__ == "__main__":
    main()
