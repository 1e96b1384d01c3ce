"""Keys of a recipe that are for some heads only: refused where a stage trains none of these."""

from collections.abc import Iterable

from scaling.design.designs import Design
from scaling.design.detectors import Detector
from scaling.design.recipes import Recipe
from scaling.design.tasks import PADDED_HEADS

WINDOWED = ("deit",)
"""Architectures that can attend in windows."""


def check_heads(recipes: Iterable[Recipe], designs: Iterable[Design]) -> None:
    """Raise ValueError, naming the key, for what no head of a stage has, or one of its detectors cannot do.

    Args:
        recipes: of the stage, for each of its sizes.
        designs: that it trains.
    """
    recipes, designs = list(recipes), list(designs)
    heads = {design.head for design in designs}
    if "upernet" not in heads and any(recipe.auxiliary_loss for recipe in recipes):
        raise ValueError("recipe.auxiliary_loss: is of the head 'upernet', which no design has here; remove the key")
    if heads & {*PADDED_HEADS}:
        for recipe in recipes:
            _check_detectors(recipe, designs)
    elif any(recipe.detector != Detector() for recipe in recipes):
        raise ValueError("recipe.detector: is of the head 'cascade', which no design has here; remove the table")


def _check_detectors(recipe: Recipe, designs: list[Design]) -> None:
    if recipe.stages:
        raise ValueError("recipe.stages: detectors keep their patch size; start from a [[pretraining]] at a larger one")
    if recipe.label_smoothing:
        raise ValueError(
            f"recipe.label_smoothing: {recipe.label_smoothing:g} is for classes of images and pixels; detectors have "
            "none: remove the key"
        )
    unfit = next((design for design in designs if design.architecture not in WINDOWED), None)
    if recipe.detector.attention_window is not None and unfit is not None:
        raise ValueError(
            f"recipe.detector.attention_window: {unfit} has no attention; leave the key out, or give "
            f"{' and '.join(WINDOWED)} a study of its own"
        )
