"""What `scaling run-grid --stop-hopeless` would have stopped, in finished runs whose ends are known.

python -m benchmarks.hopeless [CURVES]     # minutes on a core; rewrites benchmarks/results/hopeless.md

Every cell's curve is cut at its tenths, forecast from there and set against finished designs. A stop is false where the
cell ended within 2 % of the rival that was held against it, or below. In the strict test every other design of the same
data and recipe is a rival by itself, whatever it costs: more chances to err than a real run has. CURVES is a CSV with
columns task, model, images_seen and loss, such as the 48 curves of few-shot errors of the benchmark of
'Revisiting Neural Scaling Laws in Language and Vision' (Alabdulmohsin et al., NeurIPS 2022).
"""

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.pages import Table, seconds, write_page
from scaling.laws import FitError, LossForecast, forecast_loss
from scaling.laws import hopeless as rule
from scaling.laws.hopeless import Rival, beaten, final_loss, find_hopeless
from scaling.records import RunDirectory

RUNS = Path(__file__).parents[1] / "runs"
STUDIES = {"digits-quick": "digits 24", "digits-plan": "digits 24", "digits-adventurer": "digits 16"}
"""Studies without stages, by the data and recipe that they share."""
LOOKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
EARLIESTS = (0.3, 0.4, 0.5, 0.6)
WITHIN = 1.02  # of the rival's loss, as a factor: no worse


@dataclass(frozen=True, slots=True)
class Curve:
    """A finished training."""

    pool: str
    design: str
    seed: int
    images: np.ndarray
    losses: np.ndarray
    flops: float = 0.0
    test_loss: float = float("nan")
    seconds: float = float("nan")

    @property
    def name(self) -> str:
        return f"{self.design} seed {self.seed}"

    @property
    def final_loss(self) -> float:
        return final_loss(self.images, self.losses, self.images[-1])

    def forecasts(self) -> list[LossForecast]:
        """At each look that has enough points."""
        found = []
        for share in LOOKS:
            try:
                found.append(forecast_loss(self.name, self.images, self.losses, float(self.images[-1]), share))
            except FitError:
                continue
        return found


Judged = tuple[Curve, list[LossForecast]]


def own_curves() -> Iterator[Curve]:
    """Of the studies in the repository."""
    for name, pool in STUDIES.items():
        run = RunDirectory(RUNS / name)
        for record in run.records():
            images, losses = np.array(run.learning_curve(record.cell), dtype=float).T
            about = (record.training_flops or 0.0, record.test_loss or 0.0, record.training_seconds or 0.0)
            yield Curve(pool, record.design, record.seed or 0, images, losses, *about)


def public_curves(path: Path) -> Iterator[Curve]:
    """One for each task and model; a task is a pool."""
    for (task, model), rows in pd.read_csv(path).groupby(["task", "model"]):
        ordered = rows.sort_values("images_seen")
        yield Curve(str(task), str(model), 0, ordered["images_seen"].to_numpy(float), ordered["loss"].to_numpy(float))


def rivals_of(curve: Curve, others: Sequence[Curve]) -> list[tuple[Rival, float]]:
    """The other designs of a pool, each with its worst test loss."""
    seeds = defaultdict[str, list[Curve]](list)
    for other in others:
        if other.pool == curve.pool and other.design != curve.design:
            seeds[other.design].append(other)
    return [
        (Rival(design, each[0].flops, tuple(seed.final_loss for seed in each)), max(seed.test_loss for seed in each))
        for design, each in seeds.items()
    ]


def strict(kind: str, judged: Sequence[Judged], earliest: float) -> tuple[str, ...]:
    """One row: every design against every other, from a first look on."""
    worse = stops = false = false_test = 0
    saved, rule.EARLIEST = list[float](), earliest
    for curve, forecasts in judged:
        for rival, test_loss in rivals_of(curve, [other for other, _ in judged]):
            worse += curve.final_loss > WITHIN * max(rival.final_losses)
            stop = next((each for each in forecasts if beaten(each, 0.0, [replace(rival, training_flops=0.0)])), None)
            if stop is not None:
                stops += 1
                false += curve.final_loss <= WITHIN * max(rival.final_losses)
                false_test += curve.test_loss <= WITHIN * test_loss
                saved.append(1 - stop.images_seen / stop.final_images)
    tested = str(false_test) if not np.isnan(judged[0][0].test_loss) else "-"
    cut = f"{statistics.mean(saved):.0%}" if saved else "-"
    return (kind, f"{earliest:.0%}", str(worse), str(stops), f"{false} ({false / max(stops, 1):.1%})", tested, cut)


def replay(study: str, judged: Sequence[Judged]) -> tuple[str, ...]:
    """One row: what a run would have stopped that trains the cheapest cells first, one at a time."""
    ordered = sorted(judged, key=lambda each: (each[0].flops, each[0].seed))
    finished, stopped, saved, false = list[Curve](), list[str](), 0.0, 0
    for curve, forecasts in ordered:
        rivals = [rival for rival, _ in rivals_of(curve, finished)]
        stop = next((each for each in forecasts if beaten(each, curve.flops, rivals)), None)
        if stop is None:
            finished.append(curve)
            continue
        stopped.append(curve.name)
        saved += curve.seconds * (1 - stop.images_seen / stop.final_images)
        false += curve.test_loss <= WITHIN * min(other.test_loss for other in finished)
    total = sum(curve.seconds for curve, _ in judged)
    hours = f"{saved / 3600:.2f} of {total / 3600:.2f} ({saved / total:.0%})"
    return (study, str(len(judged)), ", ".join(stopped) or "none", str(false), hours)


def bias(kind: str, judged: Sequence[Judged], share: float) -> tuple[str, ...]:
    """One row: how forecasts made at a share of the training compare with the end."""
    pairs = [
        (each, curve.final_loss)
        for curve, forecasts in judged
        for each in forecasts
        if each.images_seen == share * each.final_images
    ]
    errors = [np.log(each.estimate / end) for each, end in pairs]
    above = np.mean([each.low > end for each, end in pairs])
    return (kind, f"{share:.0%}", str(len(pairs)), f"{np.mean(errors):+.1%}", f"{np.std(errors):.1%}", f"{above:.0%}")


def time_of_judgement() -> tuple[str, ...]:
    """At 1,000 logged losses and fifty finished designs."""
    images = np.linspace(100, 100_000, 1000)
    losses = (0.5 + 2 * (1 + images / 800) ** -0.6) * np.exp(0.02 * np.random.default_rng(0).standard_normal(1000))
    rivals = [Rival(f"design {place}", 1.0, (0.3 + place / 100,)) for place in range(50)]
    # Of the wall, which on a busy machine is more than it takes.
    taken = seconds(lambda: find_hopeless("cell", images, losses, 120_000.0, 2.0, rivals), 5)
    clear = seconds(lambda: find_hopeless("cell", images, losses / 9, 120_000.0, 2.0, rivals), 5)
    return (f"{1000 * statistics.median(taken):.0f} ms", f"{1000 * statistics.median(clear):.1f} ms")


def main() -> None:
    curves = {"studies here": list(own_curves())}
    if sys.argv[1:]:
        curves["public curves"] = list(public_curves(Path(sys.argv[1])))
    judged = dict[str, list[Judged]]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for kind, some in curves.items():
            judged[kind] = list(zip(some, pool.map(Curve.forecasts, some), strict=True))
    own, earliest = judged["studies here"], rule.EARLIEST
    pools = [(pool, [each for each in own if each[0].pool == pool]) for pool in dict.fromkeys(STUDIES.values())]
    replayed = [replay(pool, some) for pool, some in pools]
    tables: list[Table] = [
        (
            "As run-grid does: cheapest first, against designs that cost no more",
            ("study", "cells", "stopped", "within 2 % of the best test loss for its FLOPs", "hours saved"),
            replayed,
        ),
        (
            "Strict: every pair of designs, whatever they cost",
            ("curves", "from", "truly worse", "stopped", "false", "false by test loss", "mean share saved"),
            [strict(kind, some, first) for kind, some in judged.items() for first in EARLIESTS],
        ),
        (
            "Forecasts of the final training loss",
            ("curves", "made at", "curves forecast", "mean error", "spread", "interval wholly above the end"),
            [bias(kind, some, share) for kind, some in judged.items() for share in LOOKS],
        ),
    ]
    rule.EARLIEST = earliest
    tables.append(("Time of a judgement", ("with a forecast", "without"), [time_of_judgement()]))
    write_page("hopeless", "Cells stopped as hopeless, in runs whose ends are known", tables)


if __name__ == "__main__":
    main()
