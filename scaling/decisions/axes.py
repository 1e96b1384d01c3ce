"""The axes along which a design can grow, each as a path of designs from a base."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.decisions.candidates import Candidate, Field
from scaling.design.tasks import HEADS_OF_TASK


@dataclass(frozen=True, slots=True)
class Axis:
    """One way to spend more: what stays the same, and what grows along it."""

    name: str
    phrase: str
    """As the subject of a sentence."""
    same: tuple[str, ...]
    place: Callable[[Candidate], float | None]
    """Grows along the axis; None for a design that is not on it."""
    only: str
    """Pattern of the designs on it, with the base's fields to be put in."""


DECODERS = HEADS_OF_TASK["segmentation"]


def _negative_patch(candidate: Candidate) -> float | None:
    return -candidate.fields["patch_size"]


def _decoder(candidate: Candidate) -> float | None:
    head = candidate.fields["head"]
    return DECODERS.index(head) if head in DECODERS else None


AXES = (
    Axis(
        "patch",
        "a smaller patch",
        ("architecture", "size", "input_size", "head", "extended_length"),
        _negative_patch,
        "{architecture}-{size}/*@{input_size}",
    ),
    Axis(
        "parameters",
        "a larger model",
        ("architecture", "patch_size", "input_size", "head", "extended_length"),
        lambda candidate: candidate.parameters,
        "{architecture}-*/{patch_size}@{input_size}",
    ),
    Axis(
        "input",
        "a larger input",
        ("architecture", "size", "patch_size", "head", "extended_length"),
        lambda candidate: candidate.fields["input_size"],
        "{architecture}-{size}/{patch_size}@*",
    ),
    Axis(
        "input at fixed length",
        "a larger input at the same sequence length",
        ("architecture", "size", "sequence_length", "head", "extended_length"),
        lambda candidate: candidate.fields["input_size"] if candidate.fields["sequence_length"] else None,
        "{architecture}-{size}/*@*",
    ),
    Axis(
        "extension",
        "more tokens without new information",
        ("architecture", "size", "patch_size", "input_size", "head"),
        lambda candidate: candidate.fields["sequence_length"],
        "{architecture}-{size}/{patch_size}@{input_size}+extend=*",
    ),
    Axis(
        "decoder",
        "a decoder",
        ("architecture", "size", "patch_size", "input_size", "extended_length"),
        _decoder,
        "{architecture}-{size}/{patch_size}@{input_size}+*",
    ),
)


@dataclass(frozen=True, slots=True)
class Path:
    """Designs along one axis, in its order, those with a result and those without."""

    axis: Axis
    line: tuple[Candidate, ...]
    """All designs on the axis, cheaper than the base too."""
    base: Candidate

    @property
    def onward(self) -> tuple[Candidate, ...]:
        """The base and the designs after it that have a result."""
        return tuple(each for each in self.line[self.line.index(self.base) :] if each.value is not None)

    @property
    def unfinished(self) -> tuple[Candidate, ...]:
        """Designs after the base without a result, such as those out of memory."""
        return tuple(each for each in self.line[self.line.index(self.base) :] if each.value is None)


def path_along(axis: Axis, field: Field, base: Candidate) -> Path:
    """The designs that share with the base all that the axis keeps, and differ along it."""
    start = axis.place(base)
    line = {start: base} if start is not None else {}
    for candidate in field.candidates:
        place = axis.place(candidate)
        if place is not None and all(candidate.fields[key] == base.fields[key] for key in axis.same):
            line.setdefault(place, candidate)
    return Path(axis, tuple(line[place] for place in sorted(line)) if start is not None else (base,), base)


def paths_from(field: Field, base: Candidate) -> list[Path]:
    """Every axis that has a design beyond the base."""
    found = [path_along(axis, field, base) for axis in AXES]
    return [path for path in found if len(path.line) > 1 and path.line[-1] is not base]


def default_base(field: Field) -> Candidate | None:
    """The design from which most axes can be followed, and on these most designs; None if there is none."""
    reach = {
        candidate.design: [len(path.onward) - 1 for path in paths_from(field, candidate) if len(path.onward) > 1]
        for candidate in field.candidates
        if candidate.value is not None
    }
    best = max(reach, key=lambda design: (len(reach[design]), sum(reach[design])), default=None)
    return field.find(best) if best is not None and reach[best] else None
