"""Stages of published recipes: how long each trains, and at which input size."""

from dataclasses import dataclass, replace

from scaling.design import BuiltinRecipe, Design, Recipe, builtin_recipes, task_of_head
from scaling.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training: a design, for so many epochs, with its batch size (None: any)."""

    name: str
    design: Design
    epochs: float
    batch_size: int | None = None


def recipe_names() -> list[str]:
    """Names of the recipes that ship."""
    return list(builtin_recipes())


def find_recipe(name: str) -> BuiltinRecipe:
    """The recipe of this name.

    Raises:
        UsageError: for an unknown one, with the nearest.
    """
    if name not in recipe_names():
        raise UsageError(f"unknown recipe '{name}': {nearest(name, recipe_names())}")
    return builtin_recipes()[name]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of a recipe for all patch sizes; `input_size` None is the design's own, `batch_size` None any."""

    name: str
    input_size: int | None
    epochs: float
    batch_size: int | None


def stage_rows(
    recipe: str, architecture: str, size: str, input_size: object, head: str | None, train_images: int
) -> list[StageRow]:
    """Stages that a published recipe prescribes for a model at its final input; none where its source gives none.

    Steps are counted in epochs of the training images.

    Raises:
        UsageError: for an unknown recipe.
    """
    known = find_recipe(recipe)
    meant = known.architecture in (None, architecture) and known.task == task_of_head(head)
    return [
        StageRow(stage.name, stage.input_size, _epochs(each, train_images), each.batch_size)
        for stage, each in (known.stages_to(size, input_size) if meant else [])
    ]


def _epochs(recipe: Recipe, train_images: int) -> float:
    if recipe.epochs is not None:
        return recipe.epochs
    return recipe.training_steps(train_images) * recipe.batch_size / train_images


def stages_of(recipe: str, design: Design, train_images: int) -> list[Stage]:
    """Stages that a published recipe prescribes for a design.

    Raises:
        UsageError: for an unknown recipe, or a design for which its source gives no stages.
        DesignError: if the patch does not divide a stage's input size.
    """
    rows = stage_rows(recipe, design.architecture, design.size, design.input_size, design.head, train_images)
    if not rows:
        source = find_recipe(recipe).source
        raise UsageError(f"recipe '{recipe}' does not say how {design} is trained ({source}); give --epochs")
    return [
        Stage(row.name, replace(design, input_size=row.input_size or design.input_size), row.epochs, row.batch_size)
        for row in rows
    ]
