"""Docstrings of fields and properties are sentences: a colon in them sets off no type."""

from sphinx.application import Sphinx


def keep_sentence(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Behind an empty comment napoleon looks for no type."""
    if what in ("attribute", "property", "data"):
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Before napoleon, which has the usual priority of 500."""
    app.connect("autodoc-process-docstring", keep_sentence, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
