"""Architectures and sizes: the one table of widths and depths, and the rule for free ones.

Tiny to Huge are the paper's Table 7, with heads of 64 channels; nano and micro are ours, small
enough for a study on a CPU.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scaling.errors import UsageError, nearest

HEAD_WIDTH = 64  # channels per attention or state-space head, in every size of the paper
LARGEST_WIDTH = 65_536
LARGEST_DEPTH = 1_024
NAME = re.compile(r"[a-z0-9]+")
_FREE_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")


class DesignError(UsageError):
    """A design that does not exist, with what would."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Shape of a backbone, without its patch embedding: widths in channels, depth in blocks."""

    width: int
    depth: int
    mlp_width: int
    heads: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """Named sizes, the rule that makes a shape of a free width and depth, and how a block is built.

    Args:
        rule: from width and depth to a shape; raises DesignError for a width it cannot take.
        sizes: shapes by name.
        block: from a design and a rate of stochastic depth to a torch module that keeps the shape of its tokens
            (images, patches and a class token at their end, width); imports torch when it is called. None for one that
            is built in, or has costs only.
    """

    rule: Callable[[int, int], ModelSize]
    sizes: Mapping[str, ModelSize]
    block: Callable[[Any, float], Any] | None = None

    def shape(self, size: str) -> ModelSize:
        """Shape of a named size, or of 'WIDTHxDEPTH' such as '640x12'.

        Raises:
            DesignError: for a name that does not exist, or a width or depth out of bounds.
        """
        if size in self.sizes:
            return self.sizes[size]
        free = _FREE_SIZE.fullmatch(size)
        if free is None:
            hint = f"{nearest(size, self.sizes)} Or give WIDTHxDEPTH such as 640x12"
            raise DesignError(f"unknown size '{size}': {hint}")
        width, depth = map(int, free.groups())
        if not (0 < width <= LARGEST_WIDTH and 0 < depth <= LARGEST_DEPTH):
            raise DesignError(f"width must be 1 to {LARGEST_WIDTH:,} channels and depth 1 to {LARGEST_DEPTH:,} blocks")
        return self.rule(width, depth)


def _deit(width: int, depth: int, heads: int | None = None) -> ModelSize:
    if heads is None:
        _check_multiple(width, HEAD_WIDTH)
    return ModelSize(width, depth, mlp_width=4 * width, heads=heads or width // HEAD_WIDTH)


def _adventurer(width: int, depth: int) -> ModelSize:
    """Mamba-2 expands the width by 2 and uses heads of 64 channels (Table 7's MLP is 2.5 wide)."""
    _check_multiple(width, HEAD_WIDTH // 2)
    return ModelSize(width, depth, mlp_width=5 * width // 2, heads=2 * width // HEAD_WIDTH)


def _check_multiple(width: int, unit: int) -> None:
    if width % unit:
        below = width // unit * unit
        near = f"{below} or {below + unit}" if below else unit
        raise DesignError(f"width {width} is not a multiple of {unit}; use {near}")


_ARCHITECTURES = {
    "deit": Architecture(
        _deit,
        {
            "nano": _deit(32, 3, heads=2),
            "micro": _deit(64, 4, heads=4),
            "tiny": _deit(192, 12),
            "small": _deit(384, 12),
            "base": _deit(768, 12),
            "large": _deit(1024, 24),
            "huge": _deit(1280, 32),
        },
    ),
    "adventurer": Architecture(
        _adventurer,
        {
            "nano": _adventurer(32, 3),
            "micro": _adventurer(64, 4),
            "tiny": _adventurer(256, 12),
            "small": _adventurer(512, 12),
            "base": _adventurer(768, 12),
            "large": _adventurer(1024, 24),
            "huge": _adventurer(1280, 32),
        },
    ),
}


BUILT_IN = frozenset(_ARCHITECTURES)
"""Those with models of their own in scaling.models."""


def known_architectures() -> Mapping[str, Architecture]:
    """Every architecture known by now, by name."""
    return _ARCHITECTURES


def add_architecture(name: str, architecture: Architecture) -> None:
    """Make designs of another architecture known; the same name replaces it.

    Raises:
        DesignError: if the name cannot stand in a design's short name, or is of a built-in one.
    """
    if not NAME.fullmatch(name):
        raise DesignError(f"architecture '{name}': use lower-case letters and digits only")
    if name in BUILT_IN:
        raise DesignError(f"architecture '{name}' is built in; register yours under another name")
    _ARCHITECTURES[name] = architecture


def find_architecture(name: str) -> Architecture:
    """The architecture of this name; one that is not built in is asked of files and packages (`plugins`).

    Raises:
        DesignError: if there is none, with the nearest name, or its code does not load.
    """
    if name not in _ARCHITECTURES:
        from scaling.design.plugins import FOLDER, load_plugins  # late: start-up needs no plug-ins

        load_plugins(name)
        if name not in _ARCHITECTURES:
            raise DesignError(
                f"unknown architecture '{name}': {nearest(name, _ARCHITECTURES)}\n"
                f"one of your own is read from {FOLDER / name}.py here (run directories keep a copy) or a package"
            )
    return _ARCHITECTURES[name]


def find_shape(architecture: str, size: str) -> ModelSize:
    """Shape of a size of an architecture.

    Raises:
        DesignError: if there is no such architecture or size.
    """
    found = find_architecture(architecture)
    try:
        return found.shape(size)
    except DesignError as error:
        raise DesignError(f"{architecture}-{size}: {error}") from None
