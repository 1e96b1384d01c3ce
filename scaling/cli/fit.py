"""`scaling fit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, message, print_json, show_table, source_name
from scaling.errors import ScalingError, UsageError

if TYPE_CHECKING:
    from scaling.laws import Estimate, FitResult, Loss, Unfitted

LawName = Annotated[
    str, typer.Option(help="auto chooses for each curve; power, saturating, shifted, M3, M4, broken, log-linear, ...")
]


def fit(
    source: Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")],
    law: LawName = "auto",
    x: Annotated[
        str | None, typer.Option(help="Column of the scale, or several with commas.", show_default="what varies")
    ] = None,
    y: Annotated[str, typer.Option(help="Column that is fitted.")] = "test_loss",
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Columns that tell curves apart, with commas.", show_default="the design columns"),
    ] = None,
    hold_out: Annotated[
        str | None, typer.Option(help="Condition; its rows are predicted, not fitted.", metavar="EXPRESSION")
    ] = None,
    hold_out_compute: Annotated[
        str | None, typer.Option(help="Share of each curve with the most training FLOPs to predict.", metavar="SHARE")
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(
            help="error, accuracy, with -percent, or none: rates are fitted by their odds.",
            show_default="accuracy by name",
        ),
    ] = None,
    residual: Annotated[str, typer.Option(help="log or linear.")] = "log",
    loss: Annotated[str, typer.Option(help="squares, huber:SCALE or cauchy:SCALE.")] = "squares",
    tail_weight: Annotated[float, typer.Option(help="q: points weigh |x / x_end|^q, for extrapolation.")] = 0.0,
    bound: Annotated[
        list[str] | None, typer.Option(help="NAME=LOW:HIGH; equal ends fix a parameter.", metavar="BOUND")
    ] = None,
    errors: Annotated[str | None, typer.Option(help="Column of standard errors of y, for weights.")] = None,
    intervals: Annotated[str, typer.Option(help="auto, profile, residual, pairs, group or none.")] = "auto",
    clusters: Annotated[str | None, typer.Option(help="Column of clusters, for --intervals group.")] = None,
    noise: Annotated[str, typer.Option(help="residuals, or repeats at the same x alone.")] = "residuals",
    learning_curves: Annotated[
        bool, typer.Option("--learning-curves", help="Forecast the final training loss of a run's cells instead.")
    ] = False,
    at: Annotated[
        str, typer.Option(help="Forecast as if only this share of the learning curves were known.", metavar="SHARE")
    ] = "100%",
    checklist: Annotated[
        bool, typer.Option("--checklist", help="Print what a paper should report, filled in, as Markdown.")
    ] = False,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(help="File for the fits as JSON.", show_default="analysis/NAME/fit.json of a run")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Fit scaling laws to records, with intervals, and say what the data cannot tell.

    [bold]Examples[/bold]

    scaling fit runs/digits-quick

    scaling fit table.csv --law chinchilla --x parameters,tokens --y loss --loss huber:0.001

    scaling fit runs/digits-quick --learning-curves --at 50%

    scaling fit curves.csv --x images_seen --y loss --group-by model,task --hold-out 'images_seen > 3e8'
    """
    from scaling.laws import Options, fit_groups, parse_share
    from scaling.records import load_records

    if learning_curves:
        _forecast(source, parse_share(at), level, output)
        return
    options = Options(
        residual=residual,  # pyright: ignore[reportArgumentType]
        loss=_loss(loss),
        tail_weight=tail_weight,
        bounds=_bounds(bound),
        intervals=intervals,  # pyright: ignore[reportArgumentType]
        noise=noise,  # pyright: ignore[reportArgumentType]
        level=level,
    )
    table = load_records(source)
    results = fit_groups(
        table,
        law,
        [column.strip() for column in x.split(",")] if x else None,
        y,
        [column.strip() for given in group_by for column in given.split(",")] if group_by else None,
        hold_out=hold_out,
        hold_out_compute=parse_share(hold_out_compute) if hold_out_compute else None,
        link=link,  # pyright: ignore[reportArgumentType]
        errors=errors,
        clusters=clusters,
        options=options,
    )
    found = {"source": str(source), "fits": [result.to_json() for result in results]}
    if output is Format.JSON:
        print_json(found)
    elif checklist and _fitted(results):
        _show_checklist(_fitted(results))
    else:
        _show(results, y)
    _save(found, out or (Path("analysis") / source_name(source) / "fit.json" if source.is_dir() else None))
    left_out = [reason for result in results for reason in result.left_out]
    if left_out:
        message(f"left out of the fits: {'; '.join(left_out)}")
    if not _fitted(results):
        message("error: no curve could be fitted")
        raise typer.Exit(1)


def _show_checklist(results: "list[FitResult]") -> None:
    from scaling.laws import checklist

    topic = ""
    for answer in checklist(results):
        if answer.topic != topic:
            topic = answer.topic
            print(f"\n## {topic.capitalize()}\n")
        done = " " if answer.answer is None else "x"
        print(f"- [{done}] {answer.question} {answer.answer or '(say it yourself)'}")


def _forecast(source: Path, at: float, level: float, output: Format) -> None:
    from scaling.laws import LossForecast, forecast_losses
    from scaling.records import load_learning_curves

    results = forecast_losses(load_learning_curves(source), at, level)
    found = [result for result in results if isinstance(result, LossForecast)]
    if not found:
        raise ScalingError(f"no learning curve can be extrapolated; {results[0]}")
    if output is Format.JSON:
        print_json({"source": str(source), "level": level, "forecasts": [result.to_json() for result in found]})
    else:
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
    for result in results:
        if isinstance(result, str):
            message(f"no forecast: {result}")


def _loss(text: str) -> "Loss":
    from scaling.laws import Loss

    name, _, scale = text.partition(":")
    if name == "squares" and not scale:
        return Loss()
    try:
        if name in ("huber", "cauchy") and 0 < float(scale) < float("inf"):
            return Loss(name, float(scale))  # pyright: ignore[reportArgumentType]
    except ValueError:
        pass
    raise UsageError(f"--loss '{text}': use squares, huber:SCALE or cauchy:SCALE, such as huber:0.001")


def _bounds(given: Sequence[str] | None) -> dict[str, tuple[float, float]] | None:
    bounds = {}
    for text in given or ():
        name, _, ends = text.partition("=")
        low, _, high = ends.partition(":")
        try:
            bounds[name] = (float(low or "-inf"), float(high or "inf")) if ":" in ends else (float(ends), float(ends))
        except ValueError:
            raise UsageError(f"--bound '{text}': use NAME=LOW:HIGH or NAME=VALUE, such as E=0:0.5") from None
    return bounds or None


def _save(found: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    import json

    from scaling.records import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(found, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise ScalingError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    message(f"wrote {path}")


def _fitted(results: "Sequence[FitResult | Unfitted]") -> "list[FitResult]":
    from scaling.laws import FitResult

    return [result for result in results if isinstance(result, FitResult)]


def _show(results: "Sequence[FitResult | Unfitted]", y: str) -> None:
    fitted = _fitted(results)
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
    for fitted in _fitted([result]):
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
        found = next((fitted.extrapolation for fitted in _fitted([result])), None)
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
