"""`scaling records`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import SOURCE_HELP, Format, amount, duration, message, number, print_json, show_table, si, size

JSON_KINDS = (str, int, float, bool, type(None))

if TYPE_CHECKING:
    import pandas as pd


def records(
    sources: Annotated[
        list[Path], typer.Argument(help=f"{SOURCE_HELP} Several are put into one table.", metavar="SOURCE...")
    ],
    export: Annotated[Path | None, typer.Option(help="Write the full table to this .csv or .parquet file.")] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Show the records of a study, or export them with every column.

    [bold]Examples[/bold]

    scaling records runs/digits-quick

    scaling records runs/digits-quick --export digits.parquet

    scaling records runs/mine runs/pilots --export both.csv

    scaling records paper
    """
    from scaling.records import load_all, save_table

    found = load_all(sources, each_stage=True)
    if export is not None:
        save_table(found, export)
        message(f"{len(found)} records written to {export}")
    if output is Format.JSON:
        print_json([_without_gaps(row) for row in found.to_dict("records")])
    elif export is None:
        show_records(found)


def _without_gaps(row: dict[Any, Any]) -> dict[str, Any]:
    """JSON knows no NaN, no infinity and no missing dates: they become null, and dates text."""
    finite = {
        key: None if value != value or (isinstance(value, float) and math.isinf(value)) else value
        for key, value in row.items()
    }
    return {str(key): value if isinstance(value, JSON_KINDS) else str(value) for key, value in finite.items()}


def show_records(found: "pd.DataFrame") -> None:
    """Print the main columns of a table of records, or all of a table that is not one of ours."""
    if "design" not in found:
        rows = [[str(value) for value in row] for row in found.itertuples(index=False)]
        show_table("", list(map(str, found.columns)), rows)
        return
    tasks = [rows for _, rows in found.groupby("task", sort=False)] if "task" in found else [found]
    for rows in tasks:
        columns = {name: [show(row) for row in rows.to_dict("records")] for name, show in COLUMNS.items()}
        shown = {name: values for name, values in columns.items() if set(values) != {"-"}}
        title = str(rows["task"].iloc[0]) if len(tasks) > 1 else ""
        show_table(title, list(shown), list(zip(*shown.values(), strict=True)), left=3 if "from" in shown else 2)
    if "reference" in found and found["reference"].notna().any():
        print("~ estimated")


def _text(key: str) -> Callable[[dict[Any, Any]], str]:
    return lambda row: "-" if row.get(key) is None or row[key] != row[key] else f"{row[key]:.10g}"


def _shown(show: Callable[[Any], str], key: str) -> Callable[[dict[Any, Any]], str]:
    return lambda row: show(row.get(key))


def _or_estimated(show: Callable[[Any], str], key: str) -> Callable[[dict[Any, Any]], str]:
    def shown(row: dict[Any, Any]) -> str:
        known, estimated = show(row.get(key)), show(row.get(f"estimated_{key}"))
        return known if known != "-" or estimated == "-" else f"~{estimated}"

    return shown


def _measured(row: dict[Any, Any]) -> bool:
    return row.get("source", "measured") == "measured"


COLUMNS: dict[str, Callable[[dict[Any, Any]], str]] = {
    "design": lambda row: str(row["design"]),
    "stage": lambda row: row["stage"] if isinstance(row.get("stage"), str) else "-",
    "status": lambda row: str(row.get("status", "-")),
    "from": lambda row: str(row.get("reference") or "-").replace("; Table", ",").replace("Adventurer README", "README"),
    "seed": _text("seed"),
    "tokens": _shown(si, "sequence_length"),
    "test loss": lambda row: number(row.get("test_loss"), row.get("test_loss_standard_error")),
    "mask loss": lambda row: number(row.get("mask_test_loss"), row.get("mask_test_loss_standard_error")),
    "accuracy": lambda row: number(row.get("accuracy"), digits=3),
    "mean IoU": lambda row: number(row.get("mean_iou"), digits=3),
    "box AP": lambda row: number(row.get("box_ap"), digits=3),
    "mask AP": lambda row: number(row.get("mask_ap"), digits=3),
    "params": _or_estimated(si, "parameters"),
    "train FLOPs/img": _or_estimated(si, "training_flops_per_image"),
    "memory/img": _or_estimated(size, "activation_bytes_per_image"),
    "est. memory": lambda row: _shown(size, "estimated_activation_bytes_per_image")(row if _measured(row) else {}),
    "GPU-h/epoch": _or_estimated(amount, "gpu_hours_per_epoch"),
    "trained in": _shown(duration, "training_seconds"),
    "img/s": _shown(amount, "images_per_second"),
    "est. img/s": _shown(amount, "estimated_images_per_second"),
}
"""Main columns and how a row's value is shown; a column that no row has is left out."""
