"""Ranges of designs: 'deit-base/{16,8,4}@224', 'adventurer-*/16@224', '*-base/16@{128,224}'."""

import re

from scaling.design.architectures import DesignError, find_architecture, known_architectures
from scaling.design.designs import Design

_BRACES = re.compile(r"\{([^{}]*)\}")


def expand_designs(patterns: list[str]) -> list[Design]:
    """Designs of short names with ranges, each once, in the order given.

    Braces list alternatives anywhere in a name; `*` stands for every architecture or every named size.

    Raises:
        DesignError: for a name that is none, with what would be.
    """
    names = [name for pattern in patterns for braced in alternatives(pattern) for name in _wildcards(braced)]
    return [Design.parse(name) for name in dict.fromkeys(names)]


def alternatives(pattern: str) -> list[str]:
    """A pattern with each of the values that its braces list."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [name for part in found[1].split(",") for name in alternatives(before + part.strip() + after)]


def _wildcards(name: str) -> list[str]:
    backbone, slash, rest = name.partition("/")
    architecture, _, size = backbone.partition("-")
    if "*" in rest:
        raise DesignError(f"'{name}': '*' stands for architectures and sizes; list patches and inputs in {{16,8,4}}")
    if "*" not in backbone:
        return [name]
    if architecture == "*":
        from scaling.design.plugins import load_plugins  # late: importlib.metadata takes a while

        load_plugins()
    names = [
        f"{one}-{each}{slash}{rest}"
        for one in (known_architectures() if architecture == "*" else [architecture])
        for each in (find_architecture(one).sizes if size == "*" else [size])
    ]
    if not names:
        raise DesignError(f"'{name}': {architecture} has no named sizes; give WIDTHxDEPTH such as 640x12")
    return names
