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


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of a recipe for all patch sizes; `input_size` None is the design's own, `batch_size` None any."""

    name: str
    input_size: int | None
    epochs: float
    batch_size: int | None


def stage_rows(recipe: str, architecture: str, size: str, input_size: object) -> list[StageRow]:
    """Stages that a published recipe prescribes for a model at its final input; none where its source gives none.

    Raises:
        UsageError: for an unknown recipe.
    """
    if recipe not in _recipes():
        raise UsageError(f"unknown recipe '{recipe}': {nearest(recipe, recipe_names())}")
    known = _recipes()[recipe]
    rows = known["stages"] if known["architecture"] == architecture else []
    return [
        StageRow(row["name"], row.get("input_size"), row["epochs"], row["batch_size"])
        for row in rows
        if size in row["sizes"] and input_size in row.get("final_input_sizes", [input_size])
    ]


def stages_of(recipe: str, design: Design) -> list[Stage]:
    """Stages that a published recipe prescribes for a design.

    Raises:
        UsageError: for an unknown recipe, or a design for which its source gives no stages.
        DesignError: if the patch does not divide a stage's input size.
    """
    rows = stage_rows(recipe, design.architecture, design.size, design.input_size)
    if not rows:
        source = _recipes()[recipe]["source"]
        raise UsageError(f"recipe '{recipe}' does not say how {design} is trained ({source}); give --epochs")
    return [
        Stage(row.name, replace(design, input_size=row.input_size or design.input_size), row.epochs, row.batch_size)
        for row in rows
    ]
