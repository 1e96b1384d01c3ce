"""`scaling init`."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.output import message


def init(
    name: Annotated[str, typer.Argument(help="Name of the new study.", metavar="NAME")],
    template: Annotated[str, typer.Option("--from", help="Study to start from.")] = "digits",
) -> None:
    """Start a study: write NAME.toml, ready to edit and run.

    [bold]Examples[/bold]

    scaling init my-study

    scaling init my-study --from digits-quick
    """
    from scaling.design import start_study

    name = name.removesuffix(".toml")
    path = Path(f"{name}.toml")
    start_study(path, name, template)
    message(f"wrote {path}; edit it, then: scaling run-grid {path} --dry-run")
