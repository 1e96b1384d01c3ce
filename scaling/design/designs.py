"""A design: what is trained, and its short name 'deit-base/16@224' or 'deit-base/16@512+linear'."""

import re
from dataclasses import dataclass

from scaling.design.architectures import ARCHITECTURES, HEADS, ModelSize
from scaling.errors import UsageError, nearest

_SHORT_NAME = re.compile(
    r"(?P<architecture>[a-z0-9]+)-(?P<size>[a-z0-9]+)/(?P<patch_size>\d+)@(?P<input_size>\d+)"
    r"(\+(?P<head>[a-z0-9]+))?"
)


class DesignError(UsageError):
    """A design that does not exist, with what would."""


def divisors(number: int) -> list[int]:
    """All positive divisors in increasing order."""
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def check_known(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Raise DesignError, naming the nearest known value, unless `value` is one of `known`."""
    if value not in known:
        raise DesignError(f"unknown {kind} '{value}': {nearest(value, known)}")


def check_divides(patch_size: int, input_size: int) -> None:
    """Raise DesignError, listing the legal patch sizes, unless patches tile the input."""
    if patch_size < 1 or input_size < 1 or input_size % patch_size:
        legal = ", ".join(map(str, divisors(input_size))) or "a positive input size"
        raise DesignError(f"{patch_size} does not divide input size {input_size}; use one of {legal}")


@dataclass(frozen=True, slots=True, order=True)
class Design:
    """Architecture, size, patch size and input size (pixels per side), and for dense tasks a head.

    >>> Design.parse("deit-base/16@224").sequence_length
    196

    Raises:
        DesignError: for a name, a size or a head that does not exist, or a patch that does not
            divide the input.
    """

    architecture: str
    size: str
    patch_size: int
    input_size: int
    head: str | None = None

    def __post_init__(self) -> None:
        check_known("architecture", self.architecture, tuple(ARCHITECTURES))
        check_known(f"{self.architecture} size", self.size, tuple(ARCHITECTURES[self.architecture]))
        if self.head is not None:
            check_known("head", self.head, HEADS)
        try:
            check_divides(self.patch_size, self.input_size)
        except DesignError as error:
            raise DesignError(f"patch size of '{self}': {error}") from None

    @classmethod
    def parse(cls, name: str) -> "Design":
        """Read a short name; the inverse of `str(design)`."""
        match = _SHORT_NAME.fullmatch(name.strip())
        if match is None:
            raise DesignError(
                f"'{name}' is not a design: write architecture-size/patch@input, "
                "for example deit-base/16@224 or deit-base/16@512+linear"
            )
        parts = match.groupdict()
        return cls(
            parts["architecture"], parts["size"], int(parts["patch_size"]), int(parts["input_size"]), parts["head"]
        )

    def __str__(self) -> str:
        head = f"+{self.head}" if self.head else ""
        return f"{self.architecture}-{self.size}/{self.patch_size}@{self.input_size}{head}"

    @property
    def shape(self) -> ModelSize:
        """Widths, depth and heads of the backbone."""
        return ARCHITECTURES[self.architecture][self.size]

    @property
    def grid_size(self) -> int:
        """Patches per side."""
        return self.input_size // self.patch_size

    @property
    def sequence_length(self) -> int:
        """Number of patch tokens L = (input / patch)^2; class tokens are not counted."""
        return self.grid_size**2
