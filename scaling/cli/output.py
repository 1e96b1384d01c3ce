"""What every command shares: consoles, tables, JSON, and numbers people can read."""

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

TASK_HELP = "Such as segmentation, detection (boxes) or instance-segmentation (masks)."
SOURCE_HELP = "Run directory, CSV or Parquet file, or 'paper' for the published records."
UNBOUNDED = 10_000  # columns
PLAIN_WIDTH = 180  # of tables that go to a file or a pipe


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"


class RowFormat(StrEnum):
    """Output formats of commands that give one row per design."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def console(stderr: bool = False) -> Any:
    """A rich console; wide where there is no terminal to fit into."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> Any:
    """A rich table whose first `left` columns are words and the others numbers; text is never markup."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    title_text = Text(title) if title else None
    drawn = Table(title=title_text, title_justify="left", box=SIMPLE, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(Text(column), justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return drawn


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table to stdout; where it is wider than the terminal, each row as a block of lines."""
    out = console()
    drawn = table(title, columns, rows, left)
    if out.measure(drawn, options=out.options.update(max_width=UNBOUNDED)).maximum <= out.width:
        out.print(drawn)
        return
    lines = [title, *("\n".join(_block(columns, row)) for row in rows)]
    print("\n\n".join(filter(None, lines)))


def _block(columns: Sequence[str], row: Sequence[str]) -> list[str]:
    width = max(map(len, columns))
    return [row[0], *(f"  {name:<{width}}  {cell}" for name, cell in zip(columns[1:], row[1:], strict=True))]


def print_json(value: Any) -> None:
    """Print JSON and nothing else to stdout; NaN is not JSON and is refused."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of equal keys to stdout as CSV; missing values are empty."""
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def message(text: str) -> None:
    """Print a line for people to stderr."""
    print(text, file=sys.stderr)


def si(value: float | None) -> str:
    """1234567 as '1.23 M'; a missing value as a dash."""
    if value is None or value != value:
        return "-"
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def size(value: float | None) -> str:
    """Bytes as KiB, MiB or GiB, with three digits or more."""
    if value is None or value != value:
        return "-"
    if value >= 2**30:
        return f"{value / 2**30:.2f} GiB"
    return f"{amount(value / 2**20)} MiB" if value >= 2**20 / 10 else f"{amount(value / 2**10)} KiB"


def duration(seconds: float | None) -> str:
    """Seconds as '45 s', '3 min 20 s' or '2 h 5 min'."""
    if seconds is None or seconds != seconds:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def amount(value: float | None) -> str:
    """A quantity of everyday size with three digits: '0.386', '79.5', '1,230'."""
    if value is None or value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(value: Any) -> str:
    """An Interval as '0.386 [0.335, 0.443]'."""
    return f"{amount(value.estimate)} [{amount(value.low)}, {amount(value.high)}]" if value else "-"


def number(value: float | None, error: float | None = None, digits: int = 4) -> str:
    """A value with its standard error, if there is one."""
    if value is None or value != value:
        return "-"
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None and error == error else "")
