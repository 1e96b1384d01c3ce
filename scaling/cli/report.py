"""`scaling report`."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.output import SOURCE_HELP


def report(
    source: Annotated[Path, typer.Argument(help=SOURCE_HELP, metavar="SOURCE")],
    out: Annotated[Path | None, typer.Option(help="HTML file.", show_default="analysis/NAME/report.html")] = None,
) -> None:
    r"""Write one HTML page: the verdict, interactive figures, fits, and every record.

    The page is one file that needs no network. It takes the extra: pip install 'patch-scaling\[report]'.

    [bold]Examples[/bold]

    scaling report paper

    scaling report runs/digits-quick --out report.html
    """
    from scaling.figures.report import report as write_report

    print(write_report(source, out))
