"""The demo's study where jobs are cut short: by Slurm's time limit, and by the loss of one of Ray's nodes.

python -m benchmarks.cut_short      # 20 to 60 minutes on two cores; rewrites its own page

Servers are started for it, on this machine. Where Slurm is not installed it is, which needs root.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.design import Study, load_study
from scaling.grid.engines.journal import FILE
from scaling.grid.leases import file_system_time, find_holder
from scaling.records import RunDirectory, Status
from tests.engines.ray_cluster import ray_cluster
from tests.engines.slurm_server import install, missing, slurm_server

STUDY = "digits-quick"
LIMIT = ("--time", "1m", "--grace", "5")
AT_ONCE = 3  # jobs of Slurm: one more than the cores, since one of them waits to be requeued
PAUSE_SECONDS = 0.5

Losses = dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A study that came to its end."""

    engine: str
    seconds: float
    losses: Losses
    """Test loss by cell."""
    cut_short: Counter[str]
    """How often each cell was."""


def drive(run: RunDirectory, options: tuple[str, ...], watch: Callable[[], None]) -> tuple[float, Losses]:
    """Run the study to its end, looking at it now and then; returns wall seconds and losses."""
    command = [sys.executable, "-m", "scaling", "run-grid", STUDY, "--out", str(run.path), "--device", "cpu"]
    started = time.perf_counter()
    with (run.path.parent / "said").open("w+") as said:
        driver = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=said)
        while driver.poll() is None:
            watch()
            time.sleep(PAUSE_SECONDS)
        assert driver.returncode == 0, (run.path.parent / "said").read_text()
    return time.perf_counter() - started, losses_of(run)


def losses_of(run: RunDirectory) -> Losses:
    records = list(run.records())
    assert all(record.status is Status.DONE for record in records)
    return {record.cell: record.test_loss for record in records if record.test_loss is not None}


def through_slurm(folder: Path) -> Outcome:
    """Every job is asked to save before its minute is over, and requeued."""
    assert (reason := missing() or install()) is None, reason
    run = RunDirectory(folder / STUDY)
    with slurm_server():
        options = ("--engine", "slurm", "--workers", str(AT_ONCE), *LIMIT)
        seconds, losses = drive(run, options, lambda: None)
        history = subprocess.run(
            ["sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State"], check=True, capture_output=True, text=True
        ).stdout.split()
    journal = (run.path / "engines" / "slurm" / FILE).read_text().splitlines()
    cells = {entry["job"]: entry["cell"] for entry in map(json.loads, filter(None, journal))}
    ends = [line.split("|") for line in history]
    return Outcome("slurm", seconds, losses, Counter(cells[job] for job, state in ends if state == "REQUEUED"))


def through_ray(folder: Path, study: Study) -> Outcome:
    """Once half of the cells are done, all of one node's processes are killed; another node comes in its place."""
    run, cells = RunDirectory(folder / STUDY), [cell.id for cell in study.cells()]
    lost: Counter[str] = Counter()

    def holders() -> dict[str, bool]:
        """Whether those at work on cells are gone."""
        now = file_system_time(run.path)
        found = {cell: find_holder(run.cell_folder(cell), now) for cell in cells}
        return {
            cell: each.holder.is_gone for cell, each in found.items() if each.holder and each.silent_seconds is not None
        }

    with ray_cluster(nodes=1) as cluster:
        doomed = cluster.add_node()
        os.environ.update(cluster.environment)

        def watch() -> None:
            done = sum(run.record(cell) is not None for cell in cells) if not lost else 0
            if 2 * done < len(cells) or list(holders().values()) != [False, False]:
                return
            cluster.kill_node(doomed)
            lost.update(cell for cell, gone in holders().items() if gone)
            cluster.add_node()

        seconds, losses = drive(run, ("--engine", "ray", "--address", cluster.address), watch)
    return Outcome("ray", seconds, losses, lost)


def row(outcome: Outcome, others: Mapping[str, Losses]) -> tuple[str, ...]:
    """Of the page; `others` are losses to compare with."""
    compared = []
    for losses in others.values():
        assert losses.keys() == outcome.losses.keys(), "other cells"
        differences = [abs(loss - losses[cell]) for cell, loss in outcome.losses.items()]
        equal = sum(difference == 0 for difference in differences)
        compared.append(f"{equal} equal, the others within {max(differences):.1e}" if max(differences) else "all equal")
    often = sum(count >= 2 for count in outcome.cut_short.values())
    return (
        outcome.engine,
        f"{len(outcome.losses)}",
        f"{sum(outcome.cut_short.values())}",
        f"{len(outcome.cut_short)}, {often}",
        f"{max(outcome.cut_short.values(), default=0)}",
        f"{outcome.seconds:.0f} s",
        *compared,
    )


def main() -> None:
    study, committed = load_study(STUDY), losses_of(RunDirectory(Path("runs") / STUDY))
    with tempfile.TemporaryDirectory() as name:
        slurm, ray = Path(name) / "slurm", Path(name) / "ray"
        slurm.mkdir()
        ray.mkdir()
        one, other = through_slurm(slurm), through_ray(ray, study)
    from benchmarks.pages import write_page  # late: it imports torch

    columns = ("engine", "cells done", "times cut short", "cells cut short, twice or more", "most of one cell", "wall")
    columns += ("losses beside the other engine's", "beside runs/digits-quick, of another processor")
    rows = [row(one, {"other": other.losses, "committed": committed})]
    rows += [row(other, {"other": one.losses, "committed": committed})]
    write_page("cut_short", f"{STUDY} where jobs are cut short", [("", columns, rows)])


if __name__ == "__main__":
    main()
