"""`scaling recipes`."""

from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import Format, message, print_json, show_table

if TYPE_CHECKING:
    from scaling.design import Recipe, StageRecipe

SHOWN = ("batch_size", "peak_learning_rate", "weight_decay", "drop_path", "label_smoothing")


def recipes(
    output: Annotated[Format, typer.Option("--format", help="Output format; json has every setting.")] = Format.TABLE,
) -> None:
    """List the recipes of the literature that ship; a study takes one with recipe.base.

    [bold]Examples[/bold]

    scaling recipes

    scaling recipes --format json
    """
    from scaling.design import builtin_recipes

    known = builtin_recipes()
    if output is Format.JSON:
        print_json({name: recipe.model_dump(mode="json", exclude_none=True) for name, recipe in known.items()})
        return
    rows = [
        [name, *row]
        for recipe in known.values()
        for name, stage in recipe.named_stages().items()
        for row in _rows(stage)
    ]
    show_table("", ["base", "sizes", "training", "warm-up", *(name.replace("_", " ") for name in SHOWN)], rows, left=2)
    for name, recipe in known.items():
        message(f"{name}: {recipe.source}\n    expect {recipe.expected}")


def _rows(stage: "StageRecipe") -> list[list[str]]:
    """One row for each group of sizes with the same recipe."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for size in stage.sizes:
        recipe = stage.recipe.of_size(size)
        shown = (f"{getattr(recipe, name):,g}" for name in SHOWN)
        groups.setdefault((_duration(recipe, ""), _duration(recipe, "warmup_"), *shown), []).append(size)
    return [[", ".join(sizes), *values] for values, sizes in groups.items()]


def _duration(recipe: "Recipe", prefix: str) -> str:
    """In the unit that the recipe gives it in."""
    given = ((unit, getattr(recipe, prefix + unit)) for unit in ("epochs", "steps", "images"))
    return next((f"{value:,g} {unit}" for unit, value in given if value is not None), "-")
