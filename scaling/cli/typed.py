"""Which options of a command were typed, so that none is ignored without a word."""

from collections.abc import Collection

import typer

from scaling.errors import UsageError


def typed_options(context: typer.Context) -> dict[str, str]:
    """Names of the parameters that were typed, with the options they were typed by."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None and _is_typed(context, parameter.name)
    }


def refuse_others(context: typer.Context, option: str, used: Collection[str]) -> None:
    """Refuse what was typed beside an option that does not use it.

    Raises:
        UsageError: naming the first of them.
    """
    for name, typed in typed_options(context).items():
        if name not in used:
            raise UsageError(f"{typed} does not go with {option}: leave out one of them")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
