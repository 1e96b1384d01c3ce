"""`scaling doctor`."""

from typing import Annotated

import typer

from scaling.cli.output import Format, message, print_json, show_table


def doctor(output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE) -> None:
    """Say what is installed, which devices and kernels would be used, and what is missing.

    [bold]Example[/bold]

    scaling doctor
    """
    from scaling.grid import examine

    found = examine()
    if output is Format.JSON:
        print_json({"checks": [check.to_json() for check in found], "can_train": all(c.ok for c in found if c.needed)})
        return
    rows = [(check.name, "ok" if check.ok else "missing" if check.needed else "-", check.finding) for check in found]
    show_table("", ("check", "state", "finding"), rows, left=3)
    for fix in dict.fromkeys(check.fix for check in found if check.fix and not check.ok):
        message(fix)
