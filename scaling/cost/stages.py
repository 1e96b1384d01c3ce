"""Stages of published recipes: how long each trains, and at which input size."""

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from scaling.design import Design
from scaling.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training: a design, for so many epochs, with its batch size (None: any)."""

    name: str
    design: Design
    epochs: float
    batch_size: int | None = None


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    text = (resources.files("scaling.cost") / "recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def recipe_names() -> list[str]:
    """Names of the recipes that ship."""
    return list(_recipes())


def stages_of(recipe: str, design: Design) -> list[Stage]:
    """Stages that a published recipe prescribes for a design.

    Raises:
        UsageError: for an unknown recipe, or a design for which its source gives no stages.
        DesignError: if the patch does not divide a stage's input size.
    """
    if recipe not in _recipes():
        raise UsageError(f"unknown recipe '{recipe}': {nearest(recipe, recipe_names())}")
    known = _recipes()[recipe]
    rows = known["stages"] if known["architecture"] == design.architecture else []
    found = [_stage(row, design) for row in rows if _applies(row, design)]
    if not found:
        raise UsageError(f"recipe '{recipe}' does not say how {design} is trained ({known['source']}); give --epochs")
    return found


def _applies(row: dict[str, Any], design: Design) -> bool:
    sizes = row.get("final_input_sizes")
    return design.size in row["sizes"] and (sizes is None or design.input_size in sizes)


def _stage(row: dict[str, Any], design: Design) -> Stage:
    trained = replace(design, input_size=row.get("input_size", design.input_size))
    return Stage(row["name"], trained, row["epochs"], row["batch_size"])
