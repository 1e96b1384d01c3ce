"""The directive `commands`: every command of the command line with its options, as they stand in the code."""

import re
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from scaling.cli.app import app as command_line

EXTRA = re.compile(r"  \[(.*)\]$")  # what Typer puts behind a help text: the default, the range
MARKUP = re.compile(r"\[/?bold\]")


class Commands(SphinxDirective):
    """A section for each command: what it does, examples, arguments and options."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        group: Any = typer.main.get_command(command_line)
        context = group.make_context("scaling", [], resilient_parsing=True)
        return [self._section(name, command, context) for name, command in group.commands.items()]

    def _section(self, name: str, command: Any, context: Any) -> nodes.section:
        section = nodes.section("", nodes.title("", f"scaling {name}"), ids=[name], names=[name])
        self.state.document.note_explicit_target(section)
        section += self.parse_text_to_nodes(_page(command, context))
        return section


def _page(command: Any, context: Any) -> str:
    """The text of a command in Markdown."""
    text, _, examples = MARKUP.sub("**", command.help).partition("**Examples**")
    lines = [line for line in examples.splitlines() if line]
    parts = [_plain(text.strip()), "```bash\n{}\n```".format("\n".join(lines))]
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(parameter.rich_help_panel or kind, []).append(_row(*parameter.get_help_record(context)))
    for title, rows in panels.items():
        parts.append("\n".join([f"| {title} | | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _row(names: str, text: str) -> str:
    found = EXTRA.search(text)
    extra = found[1].removeprefix("default: ") if found else ""
    return f"| {_code(names)} | {_plain(EXTRA.sub('', text))} | {_plain(extra)} |"


def _code(names: str) -> str:
    return "`{}`".format(names.replace("|", "\\|"))


def _plain(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|").replace("<", "&lt;")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
