"""What `scaling fit` prints."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scaling.cli.output import show_table

if TYPE_CHECKING:
    from scaling.laws import Estimate, Extrapolation, FitResult, LossForecast, Prediction, Unfitted, Window

NAMED_AT_MOST = 6  # rows left out; more are counted by reason
EXAMPLES = 2  # of each reason


def fitted_of(results: "Sequence[FitResult | Unfitted]") -> "list[FitResult]":
    """Those that could be fitted."""
    from scaling.laws import FitResult

    return [result for result in results if isinstance(result, FitResult)]


def show_fits(
    results: "Sequence[FitResult | Unfitted]",
    y: str,
    predicted: "Iterable[Sequence[Prediction]] | None" = None,
    windowed: "Iterable[Sequence[Window]] | None" = None,
) -> None:
    """Print the laws, their doubts, how held-out rows were predicted, and the tables that were asked for."""
    fitted = fitted_of(results)
    names = list(dict.fromkeys(name for result in fitted for name in result.parameters))
    title = f"y = {y}"
    if fitted:
        level = fitted[0].fitted.options.level
        title += f" against x = {', '.join(fitted[0].x)}; in brackets, {level:.0%} intervals"
        pooled = fitted[0].fitted.options.pooled
        if pooled:
            spread = f"{pooled.variance**0.5:.3g}, degrees of freedom {pooled.degrees_of_freedom}"
            title += f"; noise pooled over curves: {spread}"
    ranges = fitted[0].x if fitted else ()
    rows = [_row(result, str(index), names, len(ranges)) for index, result in enumerate(results, 1)]
    show_table(title, ("curve", "law", *names, "residuals", "points", *ranges), rows, left=2)
    for index, result in enumerate(results, 1):
        for note in result.notes:
            print(f"[{index}] {note}")
    _show_extrapolation(list(enumerate(results, 1)))
    _show_predictions(results, predicted or ())
    _show_windows(results, windowed or ())


def _row(result: "FitResult | Unfitted", index: str, names: Sequence[str], scales: int) -> tuple[str, ...]:
    label = f"[{index}] {result.label}"
    for fitted in fitted_of([result]):
        values = [_with_interval(fitted.parameters.get(name)) for name in names]
        ranges = (_range(float(scale.min()), float(scale.max())) for scale in fitted.fitted.points.scales)
        numbers = f"{fitted.residual_deviation:.3g}", str(fitted.points_used)
        return (label, fitted.fitted.law.formula, *values, *numbers, *ranges)
    return (label, "-", *("-" for _ in names), "-", "-", *("-" for _ in range(scales)))


def _range(low: float, high: float) -> str:
    """Where the data lie on one scale."""
    return f"{low:.4g} to {high:.4g}" if low < high else f"{low:.4g}"


def _with_interval(value: "Estimate | None") -> str:
    if value is None:
        return "-"
    ends = f" [{value.low:.3g}, {value.high:.3g}]" if value.low == value.low else ""
    return f"{value.estimate:.4g}{ends}"


def _show_extrapolation(numbered: "list[tuple[int, FitResult | Unfitted]]") -> None:
    columns = ("held-out rows of", "points", "reach", "rms error", "bias", "the law's own", "last value", "inside")
    rows, method = [], ""
    for index, result in numbered:
        found = next((fitted.extrapolation for fitted in fitted_of([result])), None)
        if found is None:
            continue
        method = found.method
        errors = (found.rmse_log, found.bias_log, found.law_rmse_log, found.last_value_rmse_log)
        inside = "-" if found.inside is None else f"{found.inside:.0%}"
        reach = f"{found.reach:.3g}x"
        rows.append((f"[{index}] {result.label}", str(found.points), reach, *map(_percent, errors), inside))
    if rows:
        show_table(f"predicted by: {method}", columns, rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2%}".lstrip("+")


def _show_predictions(results: "Sequence[FitResult | Unfitted]", predicted: "Iterable[Sequence[Prediction]]") -> None:
    """Print what the laws say at the places that were asked for."""
    rows = [
        (f"[{index}] {result.label}", *(f"{x:g}" for x in found.x), *_prediction(found))
        for index, (result, places) in enumerate(zip(results, predicted, strict=False), 1)
        for found in places
    ]
    for first in fitted_of(results)[: len(rows)][:1]:
        level = f"{first.fitted.options.level:.0%} interval"
        columns = ("curve", *first.x, "estimate", f"{level} of the law", "of one new run", "averaged", "reach")
        show_table(f"predicted {first.y}", columns, rows)


def _prediction(found: "Prediction") -> tuple[str, ...]:
    ends = ((found.low, found.high), (found.new_run_low, found.new_run_high))
    intervals = ("-" if low != low else f"[{low:.4g}, {high:.4g}]" for low, high in ends)
    averaged = "-" if found.averaged is None else f"{found.averaged:.4g}"
    return (f"{found.estimate:.4g}", *intervals, averaged, found.reach_in_words)


def _show_windows(results: "Sequence[FitResult | Unfitted]", windowed: "Iterable[Sequence[Window]]") -> None:
    """Print how each curve's first places, fitted alone, predict the next place and the last."""
    ahead = ("error", "last value", "inside")
    columns = ("curve", "law", "fitted up to x =", "points", "next x", *ahead, "last x", *ahead)
    rows, method = [], ""
    for index, (result, windows) in enumerate(zip(results, windowed, strict=False), 1):
        for window in windows:
            method = window.last.method
            fitted = (f"[{index}] {result.label}", window.law, f"{window.up_to:g}", str(window.points))
            upcoming = (f"{window.next_x:g}", *_ahead(window.next))
            rows.append((*fitted, *upcoming, f"{window.last_x:g}", *_ahead(window.last)))
    if rows:
        show_table(f"first places fitted, predicted by: {method}", columns, rows, left=2)


def _ahead(found: "Extrapolation") -> tuple[str, str, str]:
    """The signed error at one place, that of the last value, and whether it is inside the interval of a new run."""
    inside = "-" if found.inside is None else {0.0: "no", 1.0: "yes"}.get(found.inside, f"{found.inside:.0%}")
    return f"{found.bias_log:+.2%}", _percent(found.last_value_rmse_log), inside


def left_out_in_words(rows: Sequence[str]) -> str:
    """Rows that were left out, each 'name: reason'; many are counted by reason."""
    if len(rows) <= NAMED_AT_MOST:
        return "; ".join(rows)
    names: dict[str, list[str]] = {}
    for row in rows:
        name, _, reason = row.rpartition(": ")
        names.setdefault(reason, []).append(name)
    counts = (
        f"{len(found)} {reason} ({', '.join(found[:EXAMPLES])}{', ...' if len(found) > EXAMPLES else ''})"
        for reason, found in names.items()
    )
    return f"{len(rows)} rows: {'; '.join(counts)}"


def show_forecasts(found: "Sequence[LossForecast]", level: float) -> None:
    """Print what the cells of a run are heading for."""
    columns = ("cell", "seen", "loss now", "forecast", f"{level:.0%} interval", "final")
    rows = [
        (
            result.cell,
            f"{result.images_seen / result.final_images:.0%}",
            f"{result.loss_now:.4g}",
            f"{result.estimate:.4g}",
            f"[{result.low:.3g}, {result.high:.3g}]",
            "-" if result.final_loss is None else f"{result.final_loss:.4g}",
        )
        for result in found
    ]
    show_table("training loss, mean over the last tenth of the training", columns, rows)


def show_checklist(results: "list[FitResult]") -> None:
    """Print what a paper should report, as Markdown."""
    from scaling.laws import checklist

    topic = ""
    for answer in checklist(results):
        if answer.topic != topic:
            topic = answer.topic
            print(f"\n## {topic.capitalize()}\n")
        done = " " if answer.answer is None else "x"
        print(f"- [{done}] {answer.question} {answer.answer or '(say it yourself)'}")
