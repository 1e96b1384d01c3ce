"""`scaling records`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, amount, duration, message, number, print_json, show_table, si, size

JSON_KINDS = (str, int, float, bool, type(None))

if TYPE_CHECKING:
    import pandas as pd


def records(
    source: Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")],
    export: Annotated[Path | None, typer.Option(help="Write the full table to this .csv or .parquet file.")] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Show the records of a study, or export them with every column.

    [bold]Examples[/bold]

    scaling records runs/digits-quick

    scaling records runs/digits-quick --export digits.parquet
    """
    from scaling.records import load_records, save_table

    found = load_records(source)
    if export is not None:
        save_table(found, export)
        message(f"{len(found)} records written to {export}")
    if output is Format.JSON:
        print_json([_without_gaps(row) for row in found.to_dict("records")])
    elif export is None:
        show_records(found)


def _without_gaps(row: dict[Any, Any]) -> dict[str, Any]:
    """JSON knows no NaN and no infinity: they become null, and dates text."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    return {str(key): value if isinstance(value, JSON_KINDS) else str(value) for key, value in finite.items()}


def show_records(found: "pd.DataFrame") -> None:
    """Print the main columns of a table of records, or all of a table that is not one of ours."""
    if "design" not in found:
        rows = [[str(value) for value in row] for row in found.itertuples(index=False)]
        show_table("", list(map(str, found.columns)), rows)
        return
    dense = "mean_iou" in found and found["mean_iou"].notna().any()
    metric = "mean_iou" if dense else "accuracy"
    sized, timed = (
        name in found and found[name].notna().any()
        for name in ("estimated_activation_bytes_per_image", "estimated_images_per_second")
    )
    columns = [
        "design",
        "status",
        "seed",
        "tokens",
        "test loss",
        "mean IoU" if dense else "accuracy",
        "params",
        "train FLOPs/img",
        "memory/img",
        *(["est. memory"] if sized else []),
        "trained in",
        *(["img/s", "est. img/s"] if timed else []),
    ]
    rows = [
        [
            str(row["design"]),
            str(row.get("status", "-")),
            str(row.get("seed", "-")),
            si(row.get("sequence_length")),
            number(row.get("test_loss"), row.get("test_loss_standard_error")),
            number(row.get(metric), digits=3),
            si(row.get("parameters")),
            si(row.get("training_flops_per_image")),
            size(row.get("activation_bytes_per_image")),
            *([size(row.get("estimated_activation_bytes_per_image"))] if sized else []),
            duration(row.get("training_seconds")),
            *([amount(row.get("images_per_second")), amount(row.get("estimated_images_per_second"))] if timed else []),
        ]
        for row in found.to_dict("records")
    ]
    show_table("", columns, rows, left=2)
