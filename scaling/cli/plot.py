"""`scaling plot`."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.fit_options import LawName
from scaling.cli.output import SOURCE_HELP, Format, message, print_json
from scaling.cli.typed import typed_options
from scaling.errors import UsageError
from scaling.names import source_name
from scaling.outputs import check_output

Figures = Annotated[
    str, typer.Option(help="Name of a figure, several with commas, or all that can be drawn; --list names them.")
]
Base = Annotated[str | None, typer.Option("--from", help="Design that comparisons start from.", show_default="chosen")]


def plot(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None, typer.Argument(help=f"{SOURCE_HELP} Several are drawn together.", metavar="SOURCE...")
    ] = None,
    figure: Figures = "1",
    out: Annotated[Path | None, typer.Option(help="Folder for PNG, PDF and SVG.", show_default="analysis/NAME")] = None,
    law: LawName = "auto",
    base: Base = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the figures and stop.")] = False,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Draw figures from records, as PNG, PDF and SVG.

    [bold]Examples[/bold]

    scaling plot paper --figure all

    scaling plot runs/digits-quick --figure 1

    scaling plot table.csv --figure 1 --out analysis/mine

    scaling plot runs/labels runs/boxes --figure 1 --out analysis/dense
    """
    from scaling.figures import FIGURES, Material, check_figure, file_name

    if list_ and output is Format.JSON:
        print_json({name: drawing.title for name, drawing in FIGURES.items()})
        return
    if list_:
        print("\n".join(f"{name:<16}{drawing.title}" for name, drawing in FIGURES.items()))
        return
    if not sources:
        raise UsageError("give a SOURCE to draw from: a run directory, a table, or paper")
    if len(sources) > 1 and out is None:
        raise UsageError("--out: figures of several sources have no folder of their own; name one")
    asked = [name.strip() for name in figure.split(",")]
    names = list(FIGURES) if "all" in asked else list(dict.fromkeys(asked))
    for name in names:
        check_figure(name)
    used = {FIGURES[name].uses for name in names}
    for name, option in typed_options(context).items():
        if name in ("law", "base") and name not in used:
            users = " and ".join(each for each, drawing in FIGURES.items() if drawing.uses == name)
            raise UsageError(f"{option} is for figures {users}; leave it out for --figure {figure}")
    from scaling.figures.drawing import draw_all
    from scaling.records import load_all

    folder = out or Path("analysis") / source_name(sources[0])
    check_output(folder / f"{file_name(names[0])}.png")
    material = Material(load_all(sources), sources[0] if len(sources) == 1 else None, law, base)
    paths, missing = [], []
    for drawn in draw_all(material, names, folder):
        paths += drawn.paths
        if drawn.problem is not None:
            missing.append(drawn.name)
            message(f"{'left out' if 'all' in asked else 'error'}: figure {drawn.name}: {drawn.problem}")
    if output is Format.JSON:
        print_json([str(path) for path in paths])
    elif paths:
        print("\n".join(map(str, paths)))
    if not paths or (missing and "all" not in asked):
        raise typer.Exit(1)
