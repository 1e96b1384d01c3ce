"""`scaling plot`."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.fit import LawChoice
from scaling.cli.output import Format, print_json


def plot(
    source: Annotated[Path, typer.Argument(help="Run directory, CSV or Parquet file.", metavar="SOURCE")],
    figure: Annotated[int, typer.Option(help="Figure of the paper: 1 is test loss against patch size.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for PNG, PDF and SVG.", show_default="analysis/NAME")] = None,
    law: Annotated[LawChoice, typer.Option(help="Law that is drawn through the points.")] = LawChoice.AUTO,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Draw a figure of the paper from records, as PNG, PDF and SVG.

    [bold]Examples[/bold]

    scaling plot runs/digits-quick --figure 1

    scaling plot table.csv --figure 1 --out analysis/mine
    """
    from scaling.figures import figure as draw
    from scaling.figures import save_figure

    drawn = draw(source, figure, law.value)
    paths = save_figure(drawn, out or Path("analysis") / _name(source), f"figure{figure}")
    if output is Format.JSON:
        print_json([str(path) for path in paths])
    else:
        print("\n".join(map(str, paths)))


def _name(source: Path) -> str:
    """Name of a run directory, which may contain dots, or of a table without its suffix."""
    path = source.resolve()
    return path.name if path.is_dir() else path.stem
