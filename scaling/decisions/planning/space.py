"""Where a plan looks: every design of the architectures, sizes, inputs and patches asked for. Shapes: M designs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.cost.shapes import Shape
from scaling.decisions.outcomes import Array
from scaling.design import (
    PADDED_HEADS,
    Design,
    DesignError,
    ModelSize,
    divisors,
    find_architecture,
    matches,
)
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence
    from scaling.decisions.planning.question import Question

WIDTH_STEP = 64
LARGEST_SPACE = 20_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """A size of an architecture, with its head."""

    architecture: str
    size: str
    shape: ModelSize
    head: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Designs as arrays over them."""

    models: tuple[Model, ...]
    model: Array
    """(M,) of int, index into the models."""
    input_size: Array
    patch_size: Array

    def __len__(self) -> int:
        return len(self.model)

    def design(self, place: int) -> Design:
        """One of them."""
        model = self.models[self.model[place]]
        sides = int(self.patch_size[place]), int(self.input_size[place])
        return Design(model.architecture, model.size, *sides, model.head)

    def chosen(self, which: Array) -> "Space":
        """Some of them, by index or mask."""
        return Space(self.models, self.model[which], self.input_size[which], self.patch_size[which])

    def shape(self, input_size: Array | None = None) -> Shape:
        """Their shapes, at inputs (M,) of other sizes if given."""
        sides = self.input_size if input_size is None else input_size
        columns = {
            name: np.array([getattr(model.shape, name) for model in self.models], float)[self.model]
            for name in ("width", "depth", "mlp_width", "heads")
        }
        rows = -(-sides // self.patch_size)  # a detector's input is padded; of the others patches divide it
        padded = rows * self.patch_size
        return Shape(**columns, patch_size=self.patch_size, pixels=padded**2, tokens=rows**2, rows=rows)

    @property
    def padded(self) -> Array:
        """(M,) of bool: whether inputs are padded to whole patches, so that any patch will do."""
        return np.array([model.head in PADDED_HEADS for model in self.models])[self.model]

    @property
    def architectures(self) -> Array:
        """(M,) of str."""
        return np.array([model.architecture for model in self.models])[self.model]

    @property
    def curves(self) -> Array:
        """(M,) of int: the same for designs that differ in patch alone."""
        keys = self.model * (int(self.input_size.max(initial=0)) + 1) + self.input_size.astype(int)
        return np.unique(keys, return_inverse=True)[1].ravel()


def build_space(question: "Question", evidence: "Evidence") -> Space:
    """Every design that the question allows and whose architecture the records know.

    Raises:
        UsageError: for an architecture without records, a size or a pattern that matches nothing, or too many designs.
    """
    models = tuple(_models(question, evidence))
    inputs = question.input_sizes or tuple(sorted({int(side) for side in evidence.places.scales["input"]}))
    sides = [(side, patch) for side in inputs for patch in _patches(side, question, evidence)]
    count = len(models) * len(sides)
    if count > LARGEST_SPACE:
        raise UsageError(f"{count:,} designs are too many to search; give fewer --input-sizes or --sizes")
    if not count:
        sizes = ", ".join(map(str, question.patch_sizes or ()))
        raise UsageError(f"--patch-sizes {sizes}: none divides an input of {', '.join(map(str, inputs))} pixels")
    side, patch = np.tile(np.array(sides, float).T, len(models))
    model = np.repeat(np.arange(len(models)), len(sides))
    return _filtered(Space(models, model, side, patch), question)


def _models(question: "Question", evidence: "Evidence") -> Iterator[Model]:
    known = dict(evidence.kinds)
    for architecture in question.architectures or known:
        find_architecture(architecture)
        if architecture not in known:
            raise UsageError(
                f"--architectures {architecture}: no record of {question.study} is of it; known: {', '.join(known)}"
            )
    for architecture, head in evidence.kinds:
        if architecture in (question.architectures or known):
            for size in _sizes(architecture, question, evidence):
                yield Model(architecture, size, find_architecture(architecture).shape(size), head)


def _sizes(architecture: str, question: "Question", evidence: "Evidence") -> list[str]:
    """Named sizes and those of the records, or what is asked for."""
    known = find_architecture(architecture)
    tried = [design for design in map(Design.parse, evidence.designs) if design.architecture == architecture]
    wanted = question.sizes or (*known.sizes, *dict.fromkeys(design.size for design in tried))
    named = [size for size in known.sizes if size in wanted]
    free = [size for size in wanted if size not in known.sizes]
    for size in free:
        known.shape(size)
    return list(dict.fromkeys([*named, *free, *(_between(architecture) if question.free_sizes else ())]))


def _between(architecture: str) -> Iterator[str]:
    """Widths and depths between the named sizes and none of those, as wide for their depth as those are."""
    known = find_architecture(architecture)
    named = [shape for shape in known.sizes.values() if shape.width >= WIDTH_STEP]
    if not named:
        return
    proportions = [shape.width / shape.depth for shape in named]
    widths = range(min(shape.width for shape in named), max(shape.width for shape in named) + 1, WIDTH_STEP)
    for width in widths:
        for depth in range(min(shape.depth for shape in named), max(shape.depth for shape in named) + 1):
            if min(proportions) <= width / depth <= max(proportions):
                try:
                    shape = known.rule(width, depth)
                except DesignError:  # a width that the architecture cannot take
                    continue
                if shape not in named:
                    yield f"{width}x{depth}"


def _patches(side: int, question: "Question", evidence: "Evidence") -> list[int]:
    """Those asked for that tile the input, or all; of detectors any asked for, or what tiles it or was recorded."""
    if side < 1:
        raise UsageError(f"--input-sizes {side}: an input has at least one pixel")
    if any(head not in PADDED_HEADS for _, head in evidence.kinds):
        return [patch for patch in divisors(side) if question.patch_sizes is None or patch in question.patch_sizes]
    known = question.patch_sizes or {*divisors(side), *map(int, evidence.places.scales["patch"])}
    return [patch for patch in sorted(known) if 1 <= patch <= side]


def _filtered(space: Space, question: "Question") -> Space:
    """Without what patterns leave out."""
    if not question.only and not question.without:
        return space
    names = [str(space.design(place)) for place in range(len(space))]
    only, without = (_matching(names, option, getattr(question, option)) for option in ("only", "without"))
    kept = (only if question.only else ~without) & ~without
    if not kept.any():
        raise UsageError("--only and --without leave no design")
    return space.chosen(kept)


def _matching(names: list[str], option: str, patterns: tuple[str, ...]) -> Array:
    """Which names match any of the patterns, (M,) of bool."""
    found = np.zeros(len(names), dtype=bool)
    for pattern in patterns:
        each = np.array([matches(name, pattern) for name in names])
        if not each.any():
            raise UsageError(f"--{option} '{pattern}' matches no design of the search, such as {names[0]}")
        found |= each
    return found
