"""`scaling plot`."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.fit_options import LawName
from scaling.cli.output import Format, print_json, source_name


def plot(
    source: Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")],
    figure: Annotated[int, typer.Option(help="Figure of the paper: 1 is test loss against patch size.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for PNG, PDF and SVG.", show_default="analysis/NAME")] = None,
    law: LawName = "auto",
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Draw a figure of the paper from records, as PNG, PDF and SVG.

    [bold]Examples[/bold]

    scaling plot runs/digits-quick --figure 1

    scaling plot table.csv --figure 1 --out analysis/mine
    """
    from scaling.figures import figure as draw
    from scaling.figures import save_figure

    drawn = draw(source, figure, law)
    paths = save_figure(drawn, out or Path("analysis") / source_name(source), f"figure{figure}")
    if output is Format.JSON:
        print_json([str(path) for path in paths])
    else:
        print("\n".join(map(str, paths)))
