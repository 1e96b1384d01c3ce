"""`scaling fit`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, message, print_json, show_table

if TYPE_CHECKING:
    from scaling.laws import CurveFit


class LawChoice(StrEnum):
    """Laws that can be fitted."""

    AUTO = "auto"
    POWER = "power"
    SATURATING = "saturating"


def fit(
    source: Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")],
    x: Annotated[str, typer.Option(help="Column of the scale.")] = "patch_size",
    y: Annotated[str, typer.Option(help="Column of the loss.")] = "test_loss",
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Columns that tell curves apart, with commas.", show_default="the design columns"),
    ] = None,
    law: Annotated[
        LawChoice, typer.Option(help="auto takes the saturating law where the data identify its floor.")
    ] = LawChoice.AUTO,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Fit scaling laws to records, with intervals, and say what the data cannot tell.

    [bold]Examples[/bold]

    scaling fit runs/digits-quick

    scaling fit table.csv --x parameters --y test_loss --group-by architecture,patch_size --law saturating
    """
    from scaling.laws import fit as fit_curves

    columns = [column for given in group_by for column in given.split(",")] if group_by else None
    curves = fit_curves(source, x, y, law.value, columns, level)
    if output is Format.JSON:
        print_json([curve.to_json() for curve in curves])
    else:
        _show(curves)
    left_out = [reason for curve in curves for reason in curve.left_out]
    if left_out:
        message(f"left out of the fits: {'; '.join(left_out)}")
    if all(curve.fit is None for curve in curves):
        message("error: no curve could be fitted")
        raise typer.Exit(1)


def _show(curves: list["CurveFit"]) -> None:
    first = curves[0]
    title = f"y = {first.y} against x = {first.x}"
    columns = ("curve", "law", "E", "A", "alpha", "relative error", "points")
    rows = [_row(curve, str(index)) for index, curve in enumerate(curves, 1)]
    level = next((curve.fit.level for curve in curves if curve.fit is not None), None)
    if level is not None:
        title += f"; in brackets, {level:.0%} intervals"
    show_table(title, columns, rows, left=2)
    for index, curve in enumerate(curves, 1):
        for note in curve.fit.notes if curve.fit else (curve.problem,):
            print(f"[{index}] {note}")


def _row(curve: "CurveFit", index: str) -> tuple[str, ...]:
    name = f"[{index}] {curve.label}"
    if curve.fit is None:
        return (name, "-", "-", "-", "-", "-", "-")
    values = [_with_interval(curve.fit, parameter) for parameter in ("E", "A", "alpha")]
    return (name, curve.fit.law.formula, *values, f"{curve.fit.relative_error:.2%}", str(curve.fit.n_points))


def _with_interval(result: Any, parameter: str) -> str:
    if parameter not in result.intervals:
        return "-"
    low, high = result.intervals[parameter]
    return f"{getattr(result.law, parameter):.4g} [{low:.3g}, {high:.3g}]"
