"""The `scaling` command and its subcommands."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

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
from scaling.errors import ScalingError, UsageError

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
    _prepare_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a full disk is noticed here at the latest
    except ScalingError as error:
        code = _say(str(error), error.exit_code)
    except OSError as error:  # what the system refuses: no permission, no space, a file for a folder
        where = f"{error.filename}: " if error.filename else ""
        code = _say(f"{where}{error.strerror or error}", ScalingError.exit_code)
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 what failed is not tried again at exit
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's errors have it, and no public class in common
            raise
        code = _say(_wrong_use(error), UsageError.exit_code)
    sys.exit(code)


def _prepare_streams() -> None:
    """Words that a terminal cannot show, and streams that are closed, stop no command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _say(error: str, exit_code: int) -> int:
    if error:
        print(f"error: {error}", file=sys.stderr)
    return exit_code


def _wrong_use(error: Any) -> str:
    """What typer says of a wrong option in a line of its own, and where to read on."""
    told = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    if not told or not error.ctx:  # the command alone: its help was printed
        return told
    return f"{told[0].lower()}{told[1:]}; see '{error.ctx.command_path} --help'"
