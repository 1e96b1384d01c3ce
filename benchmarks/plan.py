"""Plans: time and memory, the paper's small patches held out, and simulated worlds whose best design is known.

python -m benchmarks.plan      # half an hour on two cores; rewrites benchmarks/results/plan.md
python -m benchmarks.plan --worlds 20      # fewer worlds of each law than the default 200
"""

import argparse
import statistics
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import beta

from benchmarks.pages import Table, python, seconds, write_page
from benchmarks.worlds import LAWS, Trial, trials
from scaling.decisions.planning import Question, check_held_out
from scaling.decisions.planning.evidence import gather_evidence
from scaling.records import load_records

HELD_OUT = "patch_size < 4"
SEEDS = 8
BINS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
COMMAND = ("-m", "scaling", "plan", "--budget", "5000 gpu-hours")
MEASURED = """
import sys, time
from benchmarks.peers import peak_mebibytes
from scaling.decisions.planning import Question, parse_budget, plan
started = time.perf_counter()
found = plan(Question(budget=parse_budget("5000 gpu-hours"), **eval(sys.argv[1])))
print(time.perf_counter() - started, peak_mebibytes(), found.considered, found.feasible, len(found.state.contestants))
"""
MILLION = "dict(epochs=300, free_sizes=True, extrapolation=8.0, input_sizes=tuple(range(16, 1680, 16)))"


def speed() -> Table:
    taken = statistics.median(seconds(python(*COMMAND), 5))
    _, peak, *designs = _measured("{}")
    name = "scaling plan --budget '5000 gpu-hours', with start-up"
    rows = [(name, f"{taken:.2f} s", "2 s", f"{peak:.0f} MiB", _searched(designs))]
    taken, peak, *designs = _measured(MILLION)
    name = "every width, depth, input and patch"
    rows.append((name, f"{taken:.1f} s", "10 s, 2,048 MiB", f"{peak:.0f} MiB", _searched(designs)))
    return "Time and memory, 1,024 draws", ("what", "time", "target", "peak memory", "designs"), rows


def _measured(changes: str) -> list[float]:
    run = subprocess.run([sys.executable, "-c", MEASURED, changes], capture_output=True, text=True, check=True)
    return list(map(float, run.stdout.split()))


def _searched(designs: list[float]) -> str:
    considered, feasible, contestants = map(int, designs)
    return f"{considered:,} searched, {feasible:,} within the limits, {contestants:,} with no better smaller patch"


def held_out() -> Table:
    table = load_records("paper")
    of_tables = table["reference"].astype(str).str.contains(r"Table [14]\b") & (table["task"] == "classification")
    rows = []
    for name, records in (("Tables 1 and 4", table[of_tables]), ("all published classification", table)):
        found = [_predicted(records, seed) for seed in range(SEEDS)]
        correlations, shares, errors = (np.array(each) for each in zip(*found, strict=True))
        rows.append(
            (
                name,
                f"{correlations.mean():.3f} ({correlations.min():.3f} to {correlations.max():.3f})",
                f"{shares.mean():.0%} ({shares.min():.0%} to {shares.max():.0%})",
                f"{errors.mean():.2f} points",
            )
        )
    return (
        f"Accuracies at patches 2 and 1, from laws that saw patches 4 and up; mean (range) over {SEEDS} seeds",
        ("records", "Spearman (target 0.95)", "inside the 95 % interval (target 90 %)", "mean absolute error"),
        rows,
    )


def _predicted(table: pd.DataFrame, seed: int) -> tuple[float, float, float]:
    evidence = gather_evidence(table, Question(hold_out=HELD_OUT, seed=seed))
    found = check_held_out(evidence, table, HELD_OUT)
    errors = [abs(100 * (each.estimate - value)) for _, each, value, _ in found.rows()]
    return found.rank_correlation or 0.0, found.inside / len(found.designs), float(np.mean(errors))


def regrets(worlds: dict[tuple[str, bool], list[Trial]]) -> Table:
    rows = []
    for (law, wanders), found in worlds.items():
        regret = np.array([each.regret for each in found])
        stated = np.mean([each.chances.max() for each in found])
        best = np.mean([each.best[each.chances.argmax()] for each in found])
        rows.append(
            (
                law + (", curves wander off it" if wanders else ""),
                str(len(found)),
                *(f"{value:.2%}" for value in (np.median(regret), regret.mean(), np.quantile(regret, 0.9))),
                f"{stated:.2f}",
                f"{best:.2f}",
            )
        )
    heading = "Simulated worlds: loss beyond the best design's, as a share of what that leaves above the floor"
    columns = ("law", "worlds", "median (target 1 %)", "mean", "90th percentile", "likeliest: stated", "is best")
    return heading, columns, rows


def calibration(worlds: dict[tuple[str, bool], list[Trial]]) -> Table:
    """All contestants of all worlds; those of one world are not independent, which the bounds leave out."""
    columns = ("stated chance of being the best", "designs", "mean stated", "were the best", "95 % of a binomial")
    trials_of = [each for found in worlds.values() for each in found]
    stated = np.concatenate([each.chances for each in trials_of])
    best = np.concatenate([each.best for each in trials_of])
    rows = []
    for low, high in pairwise(BINS):
        mine = (stated >= low) & ((stated < high) | (high == BINS[-1]))
        count, hits = int(mine.sum()), int(best[mine].sum())
        if count:
            bounds = beta.ppf((0.025, 0.975), (hits, hits + 1), (count - hits + 1, count - hits))
            ends = np.where(np.isnan(bounds), (0.0, 1.0), bounds)
            rows.append(
                (
                    f"{low:g} to {high:g}",
                    f"{count:,}",
                    f"{stated[mine].mean():.3f}",
                    f"{hits / count:.3f}",
                    f"{ends[0]:.3f} to {ends[1]:.3f}",
                )
            )
    return "Simulated worlds: how often a design is the best that is said to be", columns, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200, help="of each law, half of them with curves off the law")
    count = parser.parse_args().worlds // 2
    worlds = {(law, wanders): list(trials(law, wanders, count)) for law in LAWS for wanders in (False, True)}
    write_page("plan", "Planning", [speed(), held_out(), regrets(worlds), calibration(worlds)])


if __name__ == "__main__":
    main()
