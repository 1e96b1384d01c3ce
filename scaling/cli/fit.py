"""`scaling fit`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import fit_options as given
from scaling.cli.fit_output import (
    fitted_of,
    left_out_in_words,
    show_checklist,
    show_fits,
    show_forecasts,
)
from scaling.cli.output import Format, message, print_json
from scaling.cli.typed import refuse_others
from scaling.errors import ScalingError, UsageError
from scaling.names import source_name
from scaling.outputs import check_output, write_output

if TYPE_CHECKING:
    import pandas as pd

    from scaling.laws import FitResult, Prediction, Unfitted, Window
    from scaling.laws.law import Array


def fit(
    context: typer.Context,
    source: given.Source,
    law: given.LawName = "auto",
    x: given.Scales = None,
    y: Annotated[str, typer.Option(help="Column that is fitted.")] = "test_loss",
    group_by: given.Groups = None,
    where: given.Where = None,
    hold_out: given.HoldOut = None,
    hold_out_compute: given.HoldOutCompute = None,
    link: given.LinkName = None,
    residual: Annotated[str, typer.Option(help="log or linear.")] = "log",
    loss: Annotated[str, typer.Option(help="squares, huber:SCALE or cauchy:SCALE.")] = "squares",
    tail_weight: given.TailWeight = 0.0,
    bound: given.BoundTexts = None,
    errors: Annotated[str | None, typer.Option(help="Column of standard errors of y, for weights.")] = None,
    intervals: given.Intervals = "auto",
    clusters: Annotated[str | None, typer.Option(help="Column of clusters, for --intervals group.")] = None,
    noise: given.Noise = "residuals",
    predict: given.Predict = None,
    windows: given.Windows = False,
    learning_curves: given.LearningCurves = False,
    at: given.At = None,
    checklist: given.Checklist = False,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    out: given.Out = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Fit scaling laws to records, with intervals, and say what the data cannot tell.

    [bold]Examples[/bold]

    scaling fit runs/digits-quick

    scaling fit table.csv --law chinchilla --x parameters,tokens --y loss --loss huber:0.001

    scaling fit runs/digits-quick --where 'patch_size <= 6'

    scaling fit runs/digits-quick --predict 1.5,1 --windows

    scaling fit runs/digits-quick --learning-curves --at 50%

    scaling fit curves.csv --x images_seen --y loss --group-by model,task --hold-out 'images_seen > 3e8'
    """
    _check_used(learning_curves, at, checklist, output, {"--predict": predict, "--windows": windows})
    if learning_curves:
        _forecast(context, source, at or "100%", level, output)
        return
    from scaling.laws import check_windows, fit_groups, parse_share

    options = given.options_of(residual, loss, tail_weight, bound, intervals, noise, level)
    columns = given.names_of([x]) if x else ["x"]
    places = None if predict is None else given.places_of(predict, columns)
    if windows:
        check_windows(len(columns), options.method)
    file = _file_of(source, out)
    results = fit_groups(
        table := _rows(source, where),
        law,
        columns if x else None,
        y,
        given.names_of(group_by) if group_by else None,
        hold_out=hold_out,
        hold_out_compute=parse_share(hold_out_compute) if hold_out_compute else None,
        link=link,  # pyright: ignore[reportArgumentType]
        errors=errors,
        clusters=clusters,
        options=options,
    )
    predicted = None if places is None else [_predictions(result, places) for result in results]
    windowed = [_windows(result) for result in results] if windows else None
    found = {"source": str(source), "where": where, "fits": _plain(results, predicted, windowed)}
    if output is Format.JSON:
        print_json(found)
    elif checklist and fitted_of(results):
        show_checklist(fitted_of(results))
    else:
        show_fits(results, y, predicted, windowed)
    _tell(table, results, y)
    _save(found, file)


def _file_of(source: Path, out: Path | None) -> Path | None:
    """Where the fits are saved, seen to be writable; nowhere by default for a table of one's own."""
    from scaling.records import published_studies

    of_study = source.is_dir() or str(source) in published_studies()
    file = out or (Path("analysis") / source_name(source) / "fit.json" if of_study else None)
    if file is not None:
        check_output(file)
    return file


def _rows(source: Path, where: str | None) -> "pd.DataFrame":
    from scaling.laws import rows_where
    from scaling.records import load_records

    table = load_records(source)
    return table if where is None else table[rows_where(table, where, "--where")]


def _tell(table: "pd.DataFrame", results: "Sequence[FitResult | Unfitted]", y: str) -> None:
    """Say what is to be known of published records, and what was not fitted; end the command if nothing was."""
    from scaling.laws import stating
    from scaling.records import notes_on

    used = stating(table, y)
    if len(used) < len(table):
        message(f"{len(table) - len(used)} published records state no {y}")
    if "design" in used:
        for note in notes_on(used, used["design"]):
            message(f"note: {note}")
    left_out = [reason for result in results for reason in result.left_out]
    if left_out:
        message(f"left out of the fits: {left_out_in_words(left_out)}")
    if not fitted_of(results):
        message("error: no curve could be fitted")
        raise typer.Exit(1)


def _check_used(
    learning_curves: bool, at: str | None, checklist: bool, output: Format, tables: dict[str, str | bool | None]
) -> None:
    """Refuse options that would be ignored."""
    if at is not None and not learning_curves:
        raise UsageError(f"--at {at} goes with --learning-curves")
    if checklist and output is Format.JSON:
        raise UsageError("--checklist is Markdown; leave out --format json")
    for name, value in tables.items():
        if value and checklist:
            raise UsageError(f"{name} does not go with --checklist: leave out one of them")


def _predictions(result: "FitResult | Unfitted", places: "Array") -> "tuple[Prediction, ...]":
    from scaling.laws import Unfitted

    return () if isinstance(result, Unfitted) else result.predictions(places)


def _windows(result: "FitResult | Unfitted") -> "tuple[Window, ...]":
    from scaling.laws import FitError, Unfitted, expanding_windows

    if isinstance(result, Unfitted):
        return ()
    try:
        return expanding_windows(result)
    except FitError as error:
        message(f"no windows of {result.label}: {error}")
        return ()


def _plain(
    results: "Sequence[FitResult | Unfitted]",
    predicted: "Iterable[Sequence[Prediction]] | None",
    windowed: "Iterable[Sequence[Window]] | None",
) -> list[dict[str, Any]]:
    """The fits with the tables that were asked for."""
    fits = [result.to_json() for result in results]
    for name, tables in (("predictions", predicted), ("windows", windowed)):
        for values, rows in zip(fits, tables or (), strict=tables is not None):
            values[name] = [row.to_json() for row in rows]
    return fits


def _forecast(context: typer.Context, source: Path, at: str, level: float, output: Format) -> None:
    refuse_others(context, "--learning-curves", {"source", "learning_curves", "at", "level", "output"})
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


def _save(found: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    import json

    write_output(path, json.dumps(found, indent=2, allow_nan=False) + "\n")
    message(f"wrote {path}")
