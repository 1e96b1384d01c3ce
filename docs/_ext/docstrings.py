"""What autodoc makes of fields: their docstrings are sentences, and models show types without their checks."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation


def keep_sentence(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """A colon in the docstring of a field sets off no type: behind an empty comment napoleon looks for none."""
    if what in ("attribute", "property", "data"):
        lines[:0] = ["..", ""]


def show_fields(
    app: Sphinx, what: str, name: str, item: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """The signature of a pydantic model: its fields with their types and defaults."""
    if not (isinstance(item, type) and issubclass(item, BaseModel)):
        return None
    fields = []
    for key, field in item.model_fields.items():
        default = "" if field.is_required() else f" = {field.default!r}" if field.default_factory is None else " = ..."
        fields.append(f"{key}: {_bare(field.annotation)}{default}")
    return f"(*, {', '.join(fields)})", returns


def _bare(annotation: Any) -> str:
    """A type as it is read, without what Annotated adds to it."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_bare, get_args(annotation)))
    if get_origin(annotation) in (tuple, list, dict):
        return f"{get_origin(annotation).__name__}[{', '.join(map(_bare, get_args(annotation)))}]"
    return stringify_annotation(annotation, "smart")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both with Sphinx, the first before napoleon, which has the usual priority of 500."""
    app.connect("autodoc-process-docstring", keep_sentence, priority=400)
    app.connect("autodoc-process-signature", show_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
