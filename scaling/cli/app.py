"""The `scaling` command and its subcommands."""

import sys
from typing import Annotated

import typer

from scaling.cli.compare import compare
from scaling.cli.doctor import doctor
from scaling.cli.estimate import estimate
from scaling.cli.evaluate import evaluate
from scaling.cli.fit import fit
from scaling.cli.init import init
from scaling.cli.measure import measure
from scaling.cli.plan import plan
from scaling.cli.plot import plot
from scaling.cli.recipes import recipes
from scaling.cli.records import records
from scaling.cli.report import report
from scaling.cli.run_grid import run_grid
from scaling.cli.status import status
from scaling.cli.table import table
from scaling.errors import ScalingError

app = typer.Typer(
    name="scaling",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("patch-scaling"))
        raise typer.Exit


@app.callback()
def scaling(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Scaling studies of plain vision backbones.

    Where should the next GPU-hour go: a smaller patch, a larger model, or a larger input?

    [bold]First minutes[/bold]: scaling run-grid digits-quick, then scaling fit runs/digits-quick,
    then scaling plot runs/digits-quick --figure 1.
    """


app.command("estimate")(estimate)
app.command("measure")(measure)
app.command("run-grid")(run_grid)
app.command("status")(status)
app.command("evaluate")(evaluate)
app.command("fit")(fit)
app.command("compare")(compare)
app.command("plan")(plan)
app.command("plot")(plot)
app.command("table")(table)
app.command("report")(report)
app.command("records")(records)
app.command("recipes")(recipes)
app.command("init")(init)
app.command("doctor")(doctor)


def main() -> None:
    """Entry point: errors become one to three plain lines and an exit code."""
    try:
        app()
    except ScalingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
