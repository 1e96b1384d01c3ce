"""`scaling fit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.fit_output import fitted_of, show_checklist, show_fits, show_forecasts
from scaling.cli.output import Format, message, print_json, source_name
from scaling.errors import ScalingError, UsageError

if TYPE_CHECKING:
    from scaling.laws import FitResult, Loss, Unfitted

LawName = Annotated[
    str, typer.Option(help="auto chooses for each curve; power, saturating, shifted, M3, M4, broken, log-linear, ...")
]
Source = Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")]
Scales = Annotated[
    str | None, typer.Option(help="Column of the scale, or several with commas.", show_default="what varies")
]
Groups = Annotated[
    list[str] | None,
    typer.Option(help="Columns that tell curves apart, with commas.", show_default="the design columns"),
]
HoldOut = Annotated[
    str | None, typer.Option(help="Condition; its rows are predicted, not fitted.", metavar="EXPRESSION")
]
HoldOutCompute = Annotated[
    str | None, typer.Option(help="Share of each curve with the most training FLOPs to predict.", metavar="SHARE")
]
LinkName = Annotated[
    str | None,
    typer.Option(
        help="error, accuracy, with -percent, or none: rates are fitted by their odds.", show_default="accuracy by name"
    ),
]
TailWeight = Annotated[float, typer.Option(help="q: points weigh |x / x_end|^q, for extrapolation.")]
BoundTexts = Annotated[
    list[str] | None, typer.Option(help="NAME=LOW:HIGH; equal ends fix a parameter.", metavar="BOUND")
]
Intervals = Annotated[str, typer.Option(help="auto, profile, residual, pairs, group or none.")]
LearningCurves = Annotated[
    bool, typer.Option("--learning-curves", help="Forecast the final training loss of a run's cells instead.")
]
At = Annotated[
    str | None,
    typer.Option(
        help="Forecast as if only this share of the learning curves were known.", metavar="SHARE", show_default="all"
    ),
]
Checklist = Annotated[
    bool, typer.Option("--checklist", help="Print what a paper should report, filled in, as Markdown.")
]
Out = Annotated[
    Path | None, typer.Option(help="File for the fits as JSON.", show_default="analysis/NAME/fit.json of a run")
]


def fit(
    source: Source,
    law: LawName = "auto",
    x: Scales = None,
    y: Annotated[str, typer.Option(help="Column that is fitted.")] = "test_loss",
    group_by: Groups = None,
    hold_out: HoldOut = None,
    hold_out_compute: HoldOutCompute = None,
    link: LinkName = None,
    residual: Annotated[str, typer.Option(help="log or linear.")] = "log",
    loss: Annotated[str, typer.Option(help="squares, huber:SCALE or cauchy:SCALE.")] = "squares",
    tail_weight: TailWeight = 0.0,
    bound: BoundTexts = None,
    errors: Annotated[str | None, typer.Option(help="Column of standard errors of y, for weights.")] = None,
    intervals: Intervals = "auto",
    clusters: Annotated[str | None, typer.Option(help="Column of clusters, for --intervals group.")] = None,
    noise: Annotated[str, typer.Option(help="residuals, or repeats at the same x alone.")] = "residuals",
    learning_curves: LearningCurves = False,
    at: At = None,
    checklist: Checklist = False,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    out: Out = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Fit scaling laws to records, with intervals, and say what the data cannot tell.

    [bold]Examples[/bold]

    scaling fit runs/digits-quick

    scaling fit table.csv --law chinchilla --x parameters,tokens --y loss --loss huber:0.001

    scaling fit runs/digits-quick --learning-curves --at 50%

    scaling fit curves.csv --x images_seen --y loss --group-by model,task --hold-out 'images_seen > 3e8'
    """
    if learning_curves:
        _forecast(source, at or "100%", level, output)
        return
    if at is not None:
        raise UsageError(f"--at {at} goes with --learning-curves")
    if checklist and output is Format.JSON:
        raise UsageError("--checklist is Markdown; leave out --format json")
    from scaling.laws import Options, fit_groups, parse_share
    from scaling.records import load_records

    options = Options(
        residual=residual,  # pyright: ignore[reportArgumentType]
        loss=_loss(loss),
        tail_weight=tail_weight,
        bounds=_bounds(bound),
        intervals=intervals,  # pyright: ignore[reportArgumentType]
        noise=noise,  # pyright: ignore[reportArgumentType]
        level=level,
    )
    results = fit_groups(
        load_records(source),
        law,
        _names([x]) if x else None,
        y,
        _names(group_by) if group_by else None,
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
    elif checklist and fitted_of(results):
        show_checklist(fitted_of(results))
    else:
        show_fits(results, y)
    _check_fitted(results)
    _save(found, out or (Path("analysis") / source_name(source) / "fit.json" if source.is_dir() else None))


def _check_fitted(results: "Sequence[FitResult | Unfitted]") -> None:
    """Name the rows that were left out, and end the command if nothing could be fitted."""
    left_out = [reason for result in results for reason in result.left_out]
    if left_out:
        message(f"left out of the fits: {'; '.join(left_out)}")
    if not fitted_of(results):
        message("error: no curve could be fitted")
        raise typer.Exit(1)


def _names(given: Sequence[str]) -> list[str]:
    return [name.strip() for text in given for name in text.split(",")]


def _forecast(source: Path, at: str, level: float, output: Format) -> None:
    from scaling.laws import LossForecast, forecast_losses, parse_share
    from scaling.records import load_learning_curves

    share = parse_share(at)  # before a file is read: a wrong word is wrong usage
    results = forecast_losses(load_learning_curves(source), share, level)
    found = [result for result in results if isinstance(result, LossForecast)]
    if not found:
        raise ScalingError(f"no learning curve can be extrapolated; {results[0]}")
    if output is Format.JSON:
        print_json({"source": str(source), "level": level, "forecasts": [result.to_json() for result in found]})
    else:
        show_forecasts(found, level)
    for result in results:
        if isinstance(result, str):
            message(f"no forecast: {result}")


def _loss(text: str) -> "Loss":
    from scaling.laws import Loss

    name, _, scale = text.partition(":")
    if name == "squares" and not scale:
        return Loss()
    try:
        return Loss(name, float(scale))  # pyright: ignore[reportArgumentType]
    except ValueError:
        raise UsageError(f"--loss '{text}': use squares, huber:SCALE or cauchy:SCALE, such as huber:0.001") from None


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
