"""Fits: extrapolation, coverage, the joint law, speed, and certified values, beside what else there is.

    python -m benchmarks.fitting --curves open.csv --chinchilla chinchilla_epoch.csv

The curves are those of Alabdulmohsin et al. 2022 (google-research/google-research, revisiting_neural_scaling_laws),
with columns task, model, images_seen, loss and split; the joint law's are those that Besiroglu et al. 2024 read off a
figure (epoch-research/analyzing-chinchilla), with columns parameters, tokens, loss and in_published_fit. Neither
is part of this repository; without them their tables are left out.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from benchmarks.pages import Table, write_page
from scaling.laws import (
    FitResult,
    Loss,
    Options,
    Points,
    fit,
    fit_groups,
    fit_points,
    forecast,
    gather,
)

SPEED_NOTE = "Ours searches within bounds for the best of all minima; curve_fit and lmfit start from the truth."
EXTRAPOLATION_NOTE = (
    "Laws are fitted to the first part of published learning curves and scored on the rest, which they did not see, by "
    "the root mean square of log(predicted / measured) of each curve."
)
JOINT_NOTE = "E + A / N^alpha + B / D^beta on the points behind a published fit; a lower loss is a better one."
COVERAGE_NOTE = (
    "Points are drawn around L = E + A x^b, whose truth is known. Shown is the share of intervals that hold it: of the "
    "exponent b, and of the loss at x = 0.5, beyond the points (16 to 1). Above 95 % intervals are too wide, "
    "below they say too much."
)
PATCHES = np.array([16.0, 8, 4, 2, 1])
TRUTH = (0.8, 0.016, 1.05)
REPETITIONS = 300
NO_INTERVALS = Options(intervals="none")


def saturating(x: np.ndarray, E: float, A: float, b: float) -> np.ndarray:
    return E + A * x**b


def cpu_milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call, after one that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        taken.append(1e3 * (time.process_time() - started))
    return statistics.median(taken)


def extrapolation(path: Path) -> Table:
    """Scores on held-out parts of learning curves."""
    table = pd.read_csv(path)
    groups = ["task", "model"]
    results = fit_groups(table, "auto", "images_seen", "loss", groups, hold_out='split == "extrapolate"')
    found = [result.extrapolation for result in results if isinstance(result, FitResult) and result.extrapolation]
    curves = [
        (gather(seen["images_seen"], seen["loss"]), rows[rows["split"] == "extrapolate"])
        for _, rows in table.groupby(groups, sort=False)
        for seen in [rows[rows["split"] == "fit"]]
    ]
    rows = [
        _scores("the default: average of three forms, weighted to the tail", [each.rmse_log for each in found]),
        _scores("the law that `auto` chooses, by itself", [each.law_rmse_log for each in found]),
        _scored(curves, "saturating, tail weight 2", _tail(2.0)),
        _scored(curves, "saturating, no tail weight", _tail(0.0)),
        _scored(curves, "power law", lambda points, x: fit_points(points, "power", NO_INTERVALS).predict(x)),
        _scored(curves, "scipy's curve_fit, saturating, one start", _curve_fit),
        _scores("last value", [each.last_value_rmse_log or 0.0 for each in found]),
    ]
    taken = [
        cpu_milliseconds(lambda p=p, r=r: forecast(p, r["images_seen"].to_numpy(float)[None]), 1) for p, r in curves
    ]
    note = f"{len(curves)} curves; the default takes {np.mean(taken):.0f} ms of CPU per curve, {max(taken):.0f} at most"
    return f"Extrapolation ({note}); target: mean 0.026, median 0.018, 300 ms", SCORE_COLUMNS, rows, EXTRAPOLATION_NOTE


SCORE_COLUMNS = ("method", "mean", "median", "worst", "failures")
Predict = Callable[[Points, np.ndarray], np.ndarray]


def _scores(name: str, errors: list[float], failures: int = 0) -> tuple[str, ...]:
    return name, f"{np.mean(errors):.4f}", f"{np.median(errors):.4f}", f"{max(errors):.3f}", str(failures)


def _scored(curves: list[tuple[Points, pd.DataFrame]], name: str, predict: Predict) -> tuple[str, ...]:
    errors, failures = [], 0
    for points, later in curves:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            try:
                predicted = predict(points, later["images_seen"].to_numpy(float)[None])
            except RuntimeError:
                failures += 1
                continue
            error = float(np.sqrt(np.mean(np.log(predicted / later["loss"]) ** 2)))
        failures += not np.isfinite(error)
        errors += [error] if np.isfinite(error) else []
    return _scores(name, errors, failures)


def _tail(weight: float) -> Predict:
    def predict(points: Points, x: np.ndarray) -> np.ndarray:
        weighted = gather(points.scales, points.y, tail_weight=weight)
        return fit_points(weighted, "saturating", NO_INTERVALS).predict(x)

    return predict


def _curve_fit(points: Points, x: np.ndarray) -> np.ndarray:
    unit = np.exp(np.log(points.scales[0]).mean())
    start = [0.5 * points.y.min(), points.y.max() / 2, -0.3]
    values, _ = curve_fit(saturating, points.scales[0] / unit, points.y, start, maxfev=20_000)
    return saturating(x[0] / unit, *values)


def coverage() -> Table:
    """How often nominal 95 % intervals cover the truth, and how wide they are."""
    settings = [
        ("5 points, noise 0.5 %", 1, 0.005, TRUTH),
        ("5 points, noise 1 %", 1, 0.01, TRUTH),
        ("15 points, noise 1 %", 3, 0.01, TRUTH),
        ("5 points, noise 1 %, E = 0", 1, 0.01, (0.0, 0.3, 0.3)),
        ("15 points, noise 1 %, E = 0", 3, 0.01, (0.0, 0.3, 0.3)),
    ]
    methods: dict[str, dict[str, object]] = {
        "profile": {},
        "profile, noise from repeats": {"noise": "repeats"},
        "residual bootstrap (t)": {"intervals": "residual"},
        "pairs bootstrap": {"intervals": "pairs"},
    }
    rows = []
    for name, seeds, noise, truth in settings:
        for method, options in methods.items():
            if not (seeds == 1 and "repeats" in method):
                rows.append((name, method, *_covered(seeds, noise, truth, Options(**options))))  # pyright: ignore
        rows.append((name, "curve_fit, 1.96 standard errors", *_curve_fit_covered(seeds, noise, truth)))
    heading = f"Coverage of nominal 95 % intervals, {REPETITIONS} repetitions; target: 93 % to 97.5 %"
    columns = ("data", "intervals", "b covered", "median width", "L(0.5) covered", "median width")
    return heading, columns, rows, COVERAGE_NOTE


def _draw(seeds: int, noise: float, truth: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.repeat(PATCHES, seeds)
    return x, saturating(x, *truth) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(x)))


def _covered(seeds: int, noise: float, truth: tuple[float, float, float], options: Options) -> tuple[str, ...]:
    exponents, predictions = [], []
    for seed in range(REPETITIONS):
        fitted = fit_points(gather(*_draw(seeds, noise, truth, seed)), "saturating", options)
        result = FitResult(fitted, ("x",), "loss", {}, ())
        exponents.append((result.parameters["b"].low, result.parameters["b"].high))
        low, high = result.band(0.5)
        predictions.append((low[0], high[0]))
    return _shares(exponents, truth[2]) + _shares(predictions, float(saturating(np.array(0.5), *truth)))


def _curve_fit_covered(seeds: int, noise: float, truth: tuple[float, float, float]) -> tuple[str, ...]:
    exponents, predictions = [], []
    for seed in range(REPETITIONS):
        x, y = _draw(seeds, noise, truth, seed)
        with warnings.catch_warnings(action="ignore"):
            try:
                values, matrix = curve_fit(saturating, x, y, truth, maxfev=5000)
            except RuntimeError:
                continue
        error = 1.96 * np.sqrt(matrix[2, 2])
        exponents.append((values[2] - error, values[2] + error))
        slope = np.array([1, 0.5 ** values[2], values[1] * 0.5 ** values[2] * np.log(0.5)])
        middle, error = saturating(np.array(0.5), *values), 1.96 * np.sqrt(slope @ matrix @ slope)
        predictions.append((middle - error, middle + error))
    return _shares(exponents, truth[2]) + _shares(predictions, float(saturating(np.array(0.5), *truth)))


def _shares(ends: list[tuple[float, float]], truth: float) -> tuple[str, str]:
    covered = np.mean([low <= truth <= high for low, high in ends])
    return f"{covered:.1%}", f"{np.median([high - low for low, high in ends]):.3g}"


def joint(path: Path) -> Table:
    """The joint law on the table behind a published fit."""
    table = pd.read_csv(path)
    table = table[table["in_published_fit"]]
    names = ("E", "A", "B", "alpha", "beta")

    def fitted(intervals: str = "none") -> FitResult:
        options = Options(loss=Loss("huber", 1e-3), intervals=intervals)  # pyright: ignore[reportArgumentType]
        result = fit(table, "chinchilla", ["parameters", "tokens"], "loss", options=options)
        assert result.parameters
        return result

    found = fitted()
    values = [found.parameters[name].estimate for name in names]
    taken = cpu_milliseconds(fitted, 5) / 1e3
    rows = [("scaling", *(f"{value:.6g}" for value in values), f"{1e3 * found.objective:.8f}", f"{taken:.3f}")]
    resampled = cpu_milliseconds(lambda: fitted("pairs"), 1) / 1e3
    rows.append(("scaling, with 1,000 robust resamples", *("" for _ in names), "", f"{resampled:.2f}"))
    rows += _chinchilla_package(table)
    columns = ("fitter", *names, "Huber loss x 1,000", "CPU s")
    return f"Joint law, {len(table)} points, Huber 0.001; target: 1.01827, 0.1 s, 2 s", columns, rows, JOINT_NOTE


def _chinchilla_package(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The package `chinchilla`, where it is installed, with its own loss set to ours and three starts per parameter."""
    try:
        peer, log_huber = import_module("chinchilla").Chinchilla, import_module("chinchilla._metrics").log_huber
    except ImportError:
        return []
    starts = {"E": [1.5, 1.8, 2.1], "A": [100, 500, 2000], "B": [500, 2000, 8000]}
    starts |= {"alpha": [0.2, 0.35, 0.5], "beta": [0.2, 0.35, 0.5]}
    with tempfile.TemporaryDirectory() as folder:
        found = peer(folder, starts, loss_fn=lambda y, p, w=None: log_huber(y, p, delta=1e-3), log_level=50)
        for N, D, loss in zip(table["parameters"], table["tokens"], table["loss"], strict=True):
            found.database.append(N=float(N), D=float(D), C=6.0 * N * D, loss=float(loss))
        started = time.process_time()
        found.fit(parallel=False)
        taken = time.process_time() - started
    values = [float(getattr(found, name)) for name in ("E", "A", "B", "alpha", "beta")]
    E, A, B, alpha, beta = values
    residuals = np.log(E + A * table["parameters"] ** -alpha + B * table["tokens"] ** -beta) - np.log(table["loss"])
    objective = float(np.sum(Loss("huber", 1e-3).value(residuals.to_numpy())))
    return [("chinchilla, 3^5 starts", *(f"{value:.6g}" for value in values), f"{1e3 * objective:.8f}", f"{taken:.2f}")]


def speed() -> Table:
    """CPU times of the three-parameter law on five points."""
    x, y = _draw(1, 0.005, TRUTH, 0)
    points = gather(x, y)

    def scipy_bootstrap() -> None:
        values, _ = curve_fit(saturating, x, y, TRUTH)
        fitted, rng = saturating(x, *values), np.random.default_rng(0)
        with warnings.catch_warnings(action="ignore"):
            for _ in range(1000):
                curve_fit(saturating, x, fitted + rng.choice(y - fitted, len(y)), values, maxfev=2000)

    def profiled() -> None:
        assert FitResult(fit_points(points, "saturating"), ("x",), "loss", {}, ()).parameters

    resampled = Options(intervals="residual")
    rows = [
        (
            "one fit",
            "scaling, global, bounded",
            _milliseconds(lambda: fit_points(points, "saturating", NO_INTERVALS), 50),
        ),
        (
            "one fit",
            "curve_fit from the truth, no bounds",
            _milliseconds(lambda: curve_fit(saturating, x, y, TRUTH), 50),
        ),
        ("fit and 1,000 resamples", "scaling", _milliseconds(lambda: fit_points(points, "saturating", resampled), 10)),
        ("fit and 1,000 resamples", "loop of curve_fit", _milliseconds(scipy_bootstrap, 2)),
        ("fit and three profile intervals", "scaling", _milliseconds(profiled, 20)),
        *_lmfit(x, y),
    ]
    return "CPU time, five points; target: 2 ms, 25 ms, 10 ms", ("what", "by", "ms"), rows, SPEED_NOTE


def _milliseconds(call: Callable[[], object], repeats: int) -> str:
    return f"{cpu_milliseconds(call, repeats):.2f}"


def _lmfit(x: np.ndarray, y: np.ndarray) -> list[tuple[str, str, str]]:
    try:
        lmfit = import_module("lmfit")
    except ImportError:
        return []
    model = lmfit.Model(saturating)
    start = model.make_params(E=TRUTH[0], A=TRUTH[1], b=TRUTH[2])
    fitted = model.fit(y, start, x=x)
    return [
        ("one fit", "lmfit from the truth", _milliseconds(lambda: model.fit(y, start, x=x), 20)),
        (
            "three profile intervals",
            "lmfit, without the fit",
            _milliseconds(lambda: fitted.conf_interval(sigmas=[0.95]), 3),
        ),
    ]


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", type=Path, help="learning curves of Alabdulmohsin et al.")
    parser.add_argument("--chinchilla", type=Path, help="table of Besiroglu et al.")
    given = parser.parse_args()
    tables = [speed()]
    tables += [extrapolation(given.curves)] if given.curves else []
    tables += [joint(given.chinchilla)] if given.chinchilla else []
    tables.append(coverage())
    write_page("fitting", "Fitting laws", tables)


if __name__ == "__main__":
    main()
