"""What `scaling fit` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.cli.output import show_table

if TYPE_CHECKING:
    from scaling.laws import Estimate, FitResult, LossForecast, Unfitted


def fitted_of(results: "Sequence[FitResult | Unfitted]") -> "list[FitResult]":
    """Those that could be fitted."""
    from scaling.laws import FitResult

    return [result for result in results if isinstance(result, FitResult)]


def show_fits(results: "Sequence[FitResult | Unfitted]", y: str) -> None:
    """Print the laws, their doubts, and how held-out rows were predicted."""
    fitted = fitted_of(results)
    names = list(dict.fromkeys(name for result in fitted for name in result.parameters))
    title = f"y = {y}"
    if fitted:
        level = fitted[0].fitted.options.level
        title += f" against x = {', '.join(fitted[0].x)}; in brackets, {level:.0%} intervals"
    rows = [_row(result, str(index), names) for index, result in enumerate(results, 1)]
    show_table(title, ("curve", "law", *names, "residuals", "points"), rows, left=2)
    for index, result in enumerate(results, 1):
        for note in result.notes:
            print(f"[{index}] {note}")
    _show_extrapolation(list(enumerate(results, 1)))


def _row(result: "FitResult | Unfitted", index: str, names: Sequence[str]) -> tuple[str, ...]:
    label = f"[{index}] {result.label}"
    for fitted in fitted_of([result]):
        values = [_with_interval(fitted.parameters.get(name)) for name in names]
        return (label, fitted.fitted.law.formula, *values, f"{fitted.residual_deviation:.3g}", str(fitted.points_used))
    return (label, "-", *("-" for _ in names), "-", "-")


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
