"""What else differs between designs that are compared, so that a gain may not be the design's alone."""

from collections.abc import Iterable, Iterator
from typing import Any

from scaling.decisions.candidates import Candidate
from scaling.decisions.outcomes import SeedNoise
from scaling.design import Recipe

# Settings that follow from the machine, not from the experiment.
NO_SETTING = ("recipe.micro_batch_size",)
SHOWN = 3  # designs named


def confounders(base: Candidate, others: Iterable[Candidate], noise: SeedNoise) -> Iterator[str]:
    """Sentences on recipes that differ from the base's, and on numbers of seeds."""
    others = list(others)
    differing: dict[str, list[str]] = {}
    for other in others:
        keys = differing_settings(base, other)
        if keys:
            differing.setdefault(keys, []).append(other.design)
    for what, designs in differing.items():
        yield f"{_names(designs)} and {base.design} differ in {what}"
    if noise.given:
        return
    single = [each.design for each in (base, *others) if len(each.results) == 1]
    designs = f"{len(single)} designs have one seed each" if len(single) > 1 else f"{_names(single)} has one seed"
    if single and noise.degrees_of_freedom is None:
        yield f"{designs}: how much seeds differ was not measured"
    elif single:
        yield f"{designs}: what seeds differ by is taken from the designs with several"


def differing_settings(base: Candidate, other: Candidate) -> str:
    """The settings of the recipe that differ, in words; the other's name alone where recipes have names."""
    named = base.recipe.get("recipe.name"), other.recipe.get("recipe.name")
    if named[0] != named[1]:
        return f"the recipe: {named[1] or 'not known'}"
    keys = sorted(set(base.recipe) | set(other.recipe))
    found = [key for key in keys if key not in NO_SETTING and _setting(base, key) != _setting(other, key)]
    return f"the recipe's {', '.join(key.removeprefix('recipe.') for key in found)}" if found else ""


def _setting(candidate: Candidate, key: str) -> Any:
    """What a record says, or the default where it is older than the setting."""
    known = Recipe.model_fields.get(key.removeprefix("recipe."))
    return candidate.recipe.get(key, known.default if known is not None else None)


def _names(designs: list[str]) -> str:
    more = f" and {len(designs) - SHOWN} more" if len(designs) > SHOWN else ""
    return ", ".join(designs[:SHOWN]) + more
