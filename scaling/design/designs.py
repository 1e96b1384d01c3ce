"""A design: what is trained, and its short name 'deit-base/16@224' or 'deit-base/16@512+linear'."""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from scaling.design.architectures import BUILT_IN, DesignError, ModelSize, find_architecture, find_shape
from scaling.design.tasks import HEADS, PADDED_HEADS
from scaling.errors import nearest

InputSize: TypeAlias = int | tuple[int, int]
"""Pixels per side, or (height, width)."""

LARGEST_INPUT = 32_768  # pixels per side
_SHORT_NAME = re.compile(
    r"(?P<architecture>[a-z0-9]+)-(?P<size>[a-z0-9]+)/(?P<patch_size>\d{1,6})@(?P<height>\d{1,6})(x(?P<width>\d{1,6}))?"
    r"(\+(?P<head>[a-z0-9]+))?(\+extend=(?P<extended_length>\d{1,12}))?"
)


def divisors(number: int) -> list[int]:
    """All positive divisors in increasing order."""
    small = [candidate for candidate in range(1, math.isqrt(number) + 1) if number % candidate == 0]
    return sorted({*small, *(number // candidate for candidate in small)})


def check_known(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Raise DesignError, naming the nearest known value, unless `value` is one of `known`."""
    if value not in known:
        raise DesignError(f"unknown {kind} '{value}': {nearest(value, known)}")


def check_patch(patch_size: int, input_size: int, head: str | None = None) -> None:
    """Raise DesignError, listing the legal patch sizes, unless patches tile the input; a detector's is padded."""
    if input_size > LARGEST_INPUT:
        raise DesignError(f"input size {input_size} is beyond {LARGEST_INPUT:,} pixels per side")
    if head in PADDED_HEADS and input_size > 0:
        if not 1 <= patch_size <= input_size:
            raise DesignError(f"{patch_size} is no patch of input size {input_size}; use 1 to {input_size}")
        return
    if patch_size < 1 or input_size < 1 or input_size % patch_size:
        legal = ", ".join(map(str, divisors(input_size)))
        fix = f"use one of {legal}" if legal else "use a positive input size"
        raise DesignError(f"{patch_size} does not divide input size {input_size}; {fix}")


@dataclass(frozen=True, slots=True)
class Design:
    """What is trained: architecture, size, patch size, input size, and for dense tasks a head.

    Args:
        architecture: 'deit', 'adventurer' or a registered one.
        size: a named size, or 'WIDTHxDEPTH' such as '640x12'.
        patch_size: pixels per side.
        input_size: pixels per side, or (height, width).
        head: of a dense task.
        extended_length: length to which the patch tokens are interpolated (paper, Table 5).

    >>> Design.parse("deit-base/16@224").sequence_length
    196
    >>> Design.parse("deit-base/16@224x448+extend=1568").grid
    (28, 56)

    Raises:
        DesignError: for a name, a size or a head that does not exist, a patch that does not
            divide the input (a detector's is padded) or is larger, or a length to which the grid of patches
            cannot be stretched.
    """

    architecture: str
    size: str
    patch_size: int
    input_size: InputSize
    head: str | None = None
    extended_length: int | None = None

    def __post_init__(self) -> None:
        height, width = sides_of(self.input_size)
        if height == width:
            object.__setattr__(self, "input_size", height)
        find_shape(self.architecture, self.size)
        if self.head is not None:
            check_known("head", self.head, HEADS)
        try:
            for side in dict.fromkeys(self.input_sides):
                check_patch(self.patch_size, side, self.head)
        except DesignError as error:
            raise DesignError(f"patch size of '{self}': {error}") from None
        if self.extended_length is not None:
            self._check_extension(self.extended_length)

    @classmethod
    def parse(cls, name: str) -> "Design":
        """Read a short name; the inverse of `str(design)`."""
        match = _SHORT_NAME.fullmatch(name.strip())
        if match is None:
            raise DesignError(
                f"'{name}' is not a design: write architecture-size/patch@input, "
                "for example deit-base/16@224, deit-640x12/8@224x320 or deit-base/16@512+linear"
            )
        height, width, extended = match["height"], match["width"], match["extended_length"]
        return cls(
            match["architecture"],
            match["size"],
            int(match["patch_size"]),
            (int(height), int(width or height)),
            match["head"],
            int(extended) if extended else None,
        )

    def __str__(self) -> str:
        height, width = sides_of(self.input_size)
        sides = str(height) if height == width else f"{height}x{width}"
        head = f"+{self.head}" if self.head else ""
        extension = f"+extend={self.extended_length}" if self.extended_length is not None else ""
        return f"{self.architecture}-{self.size}/{self.patch_size}@{sides}{head}{extension}"

    @property
    def shape(self) -> ModelSize:
        """Widths, depth and heads of the backbone."""
        return find_shape(self.architecture, self.size)

    @property
    def input_sides(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return sides_of(self.input_size)

    @property
    def padded_sides(self) -> tuple[int, int]:
        """Height and width of what is cut into patches: the input's, for a detector padded to whole patches."""
        if self.head not in PADDED_HEADS:
            return self.input_sides
        height, width = (-(-side // self.patch_size) * self.patch_size for side in self.input_sides)
        return height, width

    @property
    def patches(self) -> int:
        """Patches cut from the input, (height / p) (width / p)."""
        height, width = self.padded_sides
        return (height // self.patch_size) * (width // self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens, after extension."""
        height, width = (side // self.patch_size for side in self.padded_sides)
        rows = round((height * self.sequence_length / width) ** 0.5)
        return rows, self.sequence_length // rows

    @property
    def sequence_length(self) -> int:
        """Number L of patch tokens that the blocks see; class tokens are not counted."""
        return self.patches if self.extended_length is None else self.extended_length

    def _check_extension(self, length: int) -> None:
        """The stretched grid keeps the proportions of the input, and is not smaller than it was."""
        height, width = (side // self.patch_size for side in self.padded_sides)
        rows, columns = self.grid if length > self.patches else (0, 0)
        if length != rows * columns or rows * width != columns * height or length <= self.patches:
            raise DesignError(
                f"extend={length} of '{self}': the {height} x {width} patches stretch to lengths such as "
                f"{4 * self.patches} or {16 * self.patches}"
            )


def sides_of(input_size: InputSize) -> tuple[int, int]:
    """Height and width in pixels."""
    return (input_size, input_size) if isinstance(input_size, int) else (input_size[0], input_size[1])


def check_has_model(design: Design) -> None:
    """Raise DesignError for a design of an architecture that was registered with closed forms only."""
    if design.architecture not in BUILT_IN and find_architecture(design.architecture).block is None:
        raise DesignError(
            f"{design}: '{design.architecture}' has costs and no model; give its Architecture a block "
            "(docs/own-backbone.md)"
        )
