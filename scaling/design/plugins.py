"""Architectures of others: registered by a file of the working directory, or by an installed package.

A file `architectures/NAME.py`, or an entry point NAME of the group `scaling.architectures`, has a function `register`
that calls `scaling.cost.register_architecture`. Only what a design asks for by name, or `*` for all, is run.
"""

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from scaling.design.architectures import NAME, DesignError, find_architecture, known_architectures

FOLDER = Path("architectures")
ENTRY_POINTS = "scaling.architectures"
_FILES: dict[str, tuple[Path, str]] = {}
"""Where each architecture of a file was loaded from, and the text of that file."""


def load_plugins(*names: str) -> None:
    """Let files and installed packages register the architectures of these names, or all of theirs.

    Raises:
        DesignError: if one of them cannot be loaded, or registers another name than its own.
    """
    files = [FOLDER / f"{name}.py" for name in names] if names else sorted(FOLDER.glob("*.py"))
    for file in files:
        if NAME.fullmatch(file.stem) and file.stem not in known_architectures() and file.is_file():
            _register(file.stem, str(file), lambda file=file: _load_file(file))
    for plugin in entry_points(group=ENTRY_POINTS):
        if (not names or plugin.name in names) and plugin.name not in known_architectures():
            _register(plugin.name, f"its plug-in {plugin.value}", plugin.load)


def file_of(architecture: str) -> tuple[Path, str] | None:
    """The file that registered an architecture, absolute, and its text as it was run; None for any other.

    Raises:
        DesignError: if there is no such architecture.
    """
    find_architecture(architecture)
    return _FILES.get(architecture)


def origin_of(architecture: str) -> str:
    """What to call an architecture in a message: its file where there is one."""
    known = file_of(architecture)
    return f"'{architecture}'" if known is None else f"'{architecture}' of {FOLDER / known[0].name}"


def told_of(error: Exception, architecture: str) -> str:
    """What went wrong in the code of an architecture, in one line, and in which line of its file."""
    calls, file = traceback.extract_tb(error.__traceback__), str(FOLDER / f"{architecture}.py")
    line = next((f" (line {call.lineno})" for call in reversed(calls) if call.filename.endswith(file)), "")
    return f"{type(error).__name__}: {error}".splitlines()[0] + line


def is_same_code(text: str, other: str) -> bool:
    """Whether two sources differ in comments and spaces only."""
    try:
        return text == other or ast.dump(ast.parse(text)) == ast.dump(ast.parse(other))
    except SyntaxError:
        return False


def _register(name: str, place: str, load: Callable[[], Callable[[], Any]]) -> None:
    before = set(known_architectures())
    try:
        load()()
    except DesignError as error:
        raise DesignError(f"{place}: {error}") from None
    except Exception as error:  # code of others fails in any way
        raise DesignError(f"architecture '{name}': {place} does not load: {told_of(error, name)}") from None
    if name not in known_architectures():
        others = ", ".join(f"'{other}'" for other in known_architectures() if other not in before) or "nothing"
        raise DesignError(f"architecture '{name}': {place} registers {others}; its name must be '{name}'")


def _load_file(file: Path) -> Callable[[], Any]:
    """The function `register` of a file; modules beside its folder can be imported by it, now or later."""
    path = file.resolve()
    project = str(path.parent.parent)
    if project not in sys.path:
        sys.path.append(project)  # last, so that it hides nothing
    text = path.read_text(encoding="utf-8")
    name = f"{FOLDER}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(text, str(path), "exec"), module.__dict__)  # of this very text, which is compared later
    if not callable(getattr(module, "register", None)):
        raise DesignError("there is no function register() that calls register_architecture")
    _FILES[file.stem] = path, text
    return module.register
