"""Stages before a study's own training: pretrainings at other inputs or larger patches, each a cell of its own.

Not to be mixed up with `recipe.stages`, the patch schedule within one training (docs/schedules.md).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from scaling.design.architectures import DesignError
from scaling.design.augmentation import Augmentation
from scaling.design.datasets import Data, DigitsData
from scaling.design.dense_recipes import check_heads
from scaling.design.designs import Design
from scaling.design.recipes import Recipe
from scaling.design.schedules import check_stages
from scaling.design.sections import PositiveInt, Section
from scaling.design.sized_recipes import StudyRecipe

STAGE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Pretraining(Section):
    """A stage that the next one starts from: at its own input, patch and data where it says so; see docs/stages.md.

    A stage on data for classification has no head, and hands over its backbone.
    """

    name: Annotated[str, Field(pattern=STAGE_NAME)]
    input_size: Annotated[PositiveInt | None, Field(description="pixels per side; the design's own if left out")] = None
    patch_size: Annotated[PositiveInt | None, Field(description="the design's own if left out")] = None
    data: Annotated[Data | None, Field(description="the study's own if left out")] = None
    recipe: StudyRecipe

    def design_of(self, design: Design) -> Design:
        """What is trained in this stage on the way to a design.

        Raises:
            DesignError: if the patch does not divide the input.
        """
        return replace(
            design,
            patch_size=self.patch_size or design.patch_size,
            input_size=self.input_size or design.input_size,
            head=None if self.data is not None and self.data.task == "classification" else design.head,
        )


def check_trainings(
    designs: Iterable[Design], pretraining: tuple[Pretraining, ...], recipe: StudyRecipe, data: Data
) -> None:
    """Raise ValueError, naming the place, for a stage that one of the designs cannot be trained with."""
    designs = list(designs)
    _check_tasks(pretraining, data)
    names = [stage.name for stage in pretraining]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"pretraining[{index}].name: '{name}' is given twice")
    chains = [_chain(design, pretraining) for design in designs]
    recipes = [*(stage.recipe for stage in pretraining), recipe]
    places = [*(f"pretraining[{index}]." for index in range(len(pretraining))), ""]
    sets = [*(stage.data or data for stage in pretraining), data]
    for depth, (place, each, trained_on) in enumerate(zip(places, recipes, sets, strict=True)):
        with _at(place):
            check_augmentation(each, trained_on)
            _check_start(each, first=depth == 0)
            by_size: dict[str, list[Design]] = {}
            for chain in chains:
                by_size.setdefault(chain[depth].size, []).append(chain[depth])
            check_heads(map(each.of_size, by_size), (chain[depth] for chain in chains))
            for size, trained in by_size.items():
                _check_lengths(each.of_size(size), trained_on.epoch_images)
                check_stages(dict.fromkeys(trained), each.of_size(size), trained_on.epoch_images)


def _chain(design: Design, pretraining: tuple[Pretraining, ...]) -> list[Design]:
    """The designs of all stages on the way to a design, which is the last."""
    chain = []
    for index, stage in enumerate(pretraining):
        if design.extended_length is not None:
            raise ValueError(f"pretraining[{index}]: the tokens of {design} are extended, not patches; leave it out")
        try:
            chain.append(stage.design_of(design))
        except DesignError as error:
            raise ValueError(f"pretraining[{index}]: {error}") from None
    chain.append(design)
    for index, (before, after) in enumerate(pairwise(chain)):
        if before.patch_size < after.patch_size:
            raise ValueError(
                f"pretraining[{index}].patch_size: {before.patch_size} is below the patch of {after}, which starts "
                "from it; patches only shrink from stage to stage"
            )
    return chain


def _check_tasks(pretraining: tuple[Pretraining, ...], data: Data) -> None:
    """A stage has the study's task, or is a classifier at the begin of the chain."""
    tasks = [(stage.data or data).task for stage in pretraining]
    for index, task in enumerate(tasks):
        late = task == "classification" and any(before != task for before in tasks[:index])
        if task not in (data.task, "classification") or late:
            raise ValueError(
                f"pretraining[{index}].data.task: '{task}' before {data.task}; first come classifiers, then stages of "
                "the study's own task"
            )


def check_augmentation(recipe: Augmentation, data: Data) -> None:
    """Raise ValueError, naming the key, for augmentation that the data do not have."""
    if isinstance(data, DigitsData) and (keys := recipe.augmentation_keys):
        raise ValueError(f"recipe.{keys[0]}: the scenes of digits are drawn, not augmented; remove the key")
    if not isinstance(data, DigitsData):
        recipe.check_task(data.task)


def _check_start(recipe: StudyRecipe, first: bool) -> None:
    if recipe.start_from is not None and not first:
        raise ValueError("recipe.start_from: this stage starts from the pretraining before it; remove the key")
    for key in ("resize_patches", "new_head"):
        if getattr(recipe, key) and first and recipe.start_from is None:
            raise ValueError(f"recipe.{key}: there is no checkpoint; give recipe.start_from")


def _check_lengths(recipe: Recipe, epoch_images: int | None) -> None:
    steps, warmup = recipe.training_steps(epoch_images), recipe.warmup(epoch_images)
    if warmup > steps:
        raise ValueError(f"recipe: the warm-up of {warmup} steps is longer than the training of {steps}")


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put the place of a stage before what is said of its recipe."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None
