"""A study's recipe, which may have settings of its own for some sizes."""

import json
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from scaling.design.architectures import DesignError, find_shape, known_architectures
from scaling.design.recipes import Recipe, settings_over
from scaling.design.sections import Section
from scaling.errors import nearest


class SizeSettings(Section):
    """Settings of some sizes: any keys of a recipe, which win over the recipe's own."""

    model_config = ConfigDict(extra="allow")

    sizes: Annotated[tuple[str, ...], Field(min_length=1)]

    @property
    def settings(self) -> dict[str, Any]:
        """Keys of a recipe, as they stand in the file."""
        return dict(self.model_extra or {})


class StudyRecipe(Recipe):
    """The recipe of a study or of one of its pretrainings: for all sizes, and what is different for some."""

    by_size: Annotated[tuple[SizeSettings, ...], Field(description="settings of some sizes; the last wins")] = ()

    @model_validator(mode="after")
    def _tables_make_recipes(self) -> "StudyRecipe":
        for index, table in enumerate(self.by_size):
            for size in table.sizes:
                _check_size(f"recipe.by_size[{index}].sizes", size)
            try:
                self._over((table,))
            except ValidationError as error:
                raise ValueError(f"recipe.by_size[{index}]: {_first_problem(error)}") from None
        return self

    def of_size(self, size: str) -> Recipe:
        """The recipe that a model of this size is trained with."""
        return self._over(tuple(table for table in self.by_size if size in table.sizes))

    def _over(self, tables: tuple[SizeSettings, ...]) -> Recipe:
        settings = self.model_dump(mode="json", exclude={"by_size"}, exclude_none=True)
        for table in tables:
            settings = settings_over(settings, table.settings)
        return Recipe.model_validate_json(json.dumps(settings), strict=True)


def _check_size(place: str, size: str) -> None:
    if _has_size(size):
        return
    from scaling.design.plugins import load_plugins  # late: few studies need it

    load_plugins()
    if not _has_size(size):
        known = dict.fromkeys(each for architecture in known_architectures().values() for each in architecture.sizes)
        raise ValueError(f"{place}: unknown size '{size}': {nearest(size, known)}")


def _has_size(size: str) -> bool:
    """Whether an architecture that is known by now has a size of this name."""
    for name in known_architectures():
        try:
            find_shape(name, size)
        except DesignError:
            continue
        return True
    return False


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(key, Recipe.model_fields)}"
    if problem["type"] == "value_error":
        return str(problem.get("ctx", {}).get("error", problem["msg"]))
    return f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
