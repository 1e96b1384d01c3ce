"""Recipes of the literature that ship as data: what a study takes with `base`, and how long each stage trains."""

import json
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Any

from pydantic import Field

from scaling.design.augmentation import Augmentation
from scaling.design.recipes import Recipe, settings_over
from scaling.design.sections import PositiveInt, Section
from scaling.design.sized_recipes import StudyRecipe
from scaling.design.tasks import Task
from scaling.errors import UsageError, nearest


class ScheduledStage(Section):
    """One stage on the way to a final input; without an input size it trains at that."""

    name: str
    input_size: PositiveInt | None = None


class Schedule(Section):
    """The stages, in order, of models whose final input is one of these sizes; without sizes, of all."""

    final_input_sizes: tuple[PositiveInt, ...] = ()
    stages: Annotated[tuple[ScheduledStage, ...], Field(min_length=1)]


class StageRecipe(Section):
    """One stage's recipe, and the model sizes that its source states it for."""

    sizes: tuple[str, ...]
    recipe: StudyRecipe


class BuiltinRecipe(Section):
    """How a source trains its models; see the files in builtin_recipes/."""

    name: str
    architecture: str | None = None
    """None where it is the same for all."""
    task: Task = "classification"
    source: str
    expected: str
    """What it reaches, and where that is said."""
    schedules: Annotated[tuple[Schedule, ...], Field(min_length=1)]
    stages: dict[str, StageRecipe]

    def named_stages(self) -> dict[str, StageRecipe]:
        """Every stage by the name that a study's `base` has: 'deit', or 'adventurer-pretraining' of several."""
        alone = len(self.stages) == 1
        return {self.name if alone else f"{self.name}-{stage}": recipe for stage, recipe in self.stages.items()}

    def stages_to(self, size: str, input_size: object) -> list[tuple[ScheduledStage, Recipe]]:
        """The stages of a model size at its final input, with their recipes; none where the source leaves one out."""
        for schedule in self.schedules:
            if not schedule.final_input_sizes or input_size in schedule.final_input_sizes:
                found = [(stage, self.stages[stage.name]) for stage in schedule.stages]
                known = all(size in each.sizes for _, each in found)
                return [(stage, each.recipe.of_size(size)) for stage, each in found] if known else []
        return []


@cache
def builtin_recipes() -> dict[str, BuiltinRecipe]:
    """The recipes that ship, by name."""
    folder = resources.files("scaling.design") / "builtin_recipes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    values = [
        {"name": file.name.removesuffix(".toml")} | tomllib.loads(file.read_text(encoding="utf-8")) for file in files
    ]
    return {each["name"]: BuiltinRecipe.model_validate_json(json.dumps(each), strict=True) for each in values}


def with_base(recipe: dict[str, Any], drawn: bool) -> dict[str, Any]:
    """A recipe of a study with its `base` filled in; its own keys win, over those by size too.

    Of images that are drawn, and not augmented, the base's augmentation is left out.

    Raises:
        UsageError: for a base that does not ship.
    """
    own = {key: value for key, value in recipe.items() if key != "base"}
    known = {name: stage for each in builtin_recipes().values() for name, stage in each.named_stages().items()}
    name = str(recipe["base"])
    if name not in known:
        raise UsageError(f"recipe.base: unknown recipe '{name}': {nearest(name, known)}")
    base = known[name].recipe.model_dump(mode="json", exclude_unset=True)
    if drawn:
        base = _unaugmented(base) | {"by_size": [_unaugmented(table) for table in base.get("by_size", [])]}
    tables = [_without(table, own) for table in base.get("by_size", [])]
    by_size, more = [table for table in tables if len(table) > 1], own.get("by_size", [])
    return settings_over(base, own) | {"by_size": [*by_size, *more] if isinstance(more, list) else more}


def _unaugmented(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in Augmentation.model_fields}


def _without(table: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The settings of some sizes that a study does not set itself."""
    return {key: value for key, value in settings_over(table, own).items() if key in table and key not in own}
