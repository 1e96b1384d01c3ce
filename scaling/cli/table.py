"""`scaling table`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import SOURCE_HELP, message
from scaling.errors import UsageError
from scaling.outputs import check_output, write_output

if TYPE_CHECKING:
    from scaling.figures.tables import Table


class TableFormat(StrEnum):
    """How a table is written."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


def table(
    source: Annotated[Path, typer.Argument(help=SOURCE_HELP, metavar="SOURCE")],
    number: Annotated[str, typer.Option(help="Number of the table in the paper, 1 to 7, or all that can be made.")] = (
        "all"
    ),
    y: Annotated[
        str | None, typer.Option(help="Metric of tables 1, 4 and 5, such as test_loss.", show_default="chosen")
    ] = None,
    output: Annotated[TableFormat, typer.Option("--format", help="Output format.")] = TableFormat.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option(help="Write to this file; of all tables as CSV, to this folder.", show_default=False)
    ] = None,
) -> None:
    """Make the tables of the paper from records: best values bold, ± over seeds, what is missing said.

    [bold]Examples[/bold]

    scaling table paper --number 4

    scaling table runs/digits-quick --number 1 --y test_loss

    scaling table runs/digits-quick --number 6 --format latex --out table6.tex

    scaling table paper --number all --format csv --out analysis/paper
    """
    from scaling.figures.tables import TABLES, FigureError, check_number, paper_table
    from scaling.records import load_records

    every = number == "all"
    if not (every or number.isdecimal()):
        raise UsageError(f"no table '{number}': give 1 to {len(TABLES)}, or all")
    if every and output is TableFormat.CSV and out is None:
        raise UsageError("a CSV file holds one table: give --number, or --out FOLDER for a file of each")
    if every and y is not None:
        raise UsageError("--y is of one table: give --number 1, 4 or 5")
    if not every:
        check_number(int(number))
    if out is not None:
        check_output(_file_of(1, out) if every and output is TableFormat.CSV else out)
    records, tables, left_out = load_records(source), [], {}
    for one in TABLES if every else [int(number)]:
        try:
            tables.append(paper_table(records, one, y))
        except FigureError as error:
            left_out.setdefault(str(error), []).append(str(one))
    for why, numbers in left_out.items():
        message(f"{'left out' if tables else 'error'}: table{'s' * (len(numbers) > 1)} {', '.join(numbers)}: {why}")
    if not tables:
        raise typer.Exit(1)
    if every and output is TableFormat.CSV and out is not None:
        for made in tables:
            _write(_text([made], output, every), _file_of(made.number, out))
    elif out is not None:
        _write(_text(tables, output, every), out)
    else:
        print(_text(tables, output, every), end="")


def _text(tables: list["Table"], output: TableFormat, every: bool) -> str:
    from scaling.figures.tables import to_csv, to_json, to_latex, to_markdown

    if output is TableFormat.JSON:
        values = [to_json(made) for made in tables]
        return json.dumps(values if every else values[0], indent=2, allow_nan=False) + "\n"
    write = {TableFormat.MARKDOWN: to_markdown, TableFormat.LATEX: to_latex, TableFormat.CSV: to_csv}[output]
    return "\n".join(map(write, tables))


def _file_of(number: int, folder: Path) -> Path:
    return folder / f"table{number}.csv"


def _write(text: str, path: Path) -> None:
    write_output(path, text)
    message(f"written to {path}")
