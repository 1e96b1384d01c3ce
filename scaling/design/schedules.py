"""Patch schedules: a training that begins at larger patches, which shrink to the design's own.

After Anagnostidis et al. 2024, 'Navigating Scaling Laws: Compute Optimality in Adaptive Model Training'.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from scaling.design.architectures import DesignError
from scaling.design.designs import Design, check_patch
from scaling.design.recipes import Recipe


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """Consecutive optimiser steps of a training at one patch size; `design` has that patch."""

    design: Design
    first_step: int
    """Counted from 0."""
    steps: int


def training_stages(design: Design, recipe: Recipe, epoch_images: int | None) -> tuple[TrainingStage, ...]:
    """The stages of a design's training in order; the last, and often the only one, is of the design itself.

    A stage ends at the step nearest to its share of the training.

    Raises:
        DesignError: if a stage's patch does not divide the input.
        ValueError: for epochs of an endless stream.
    """
    steps = recipe.training_steps(epoch_images)
    ends = [round(steps * done) for done in accumulate(stage.share for stage in recipe.stages)]
    designs = [*(replace(design, patch_size=stage.patch_size) for stage in recipe.stages), design]
    return tuple(
        TrainingStage(each, start, end - start)
        for each, (start, end) in zip(designs, pairwise([0, *ends, steps]), strict=True)
    )


def check_stages(designs: Iterable[Design], recipe: Recipe, epoch_images: int | None) -> None:
    """Raise ValueError, naming the key, for stages that one of the designs cannot be trained with."""
    if not recipe.stages:
        return
    for design in designs:
        if design.extended_length is not None:
            raise ValueError(f"recipe.stages: the tokens of {design} are extended, not patches; leave it out")
        for index, stage in enumerate(recipe.stages):
            place, patch_size = f"recipe.stages[{index}].patch_size", stage.patch_size
            if patch_size <= design.patch_size:
                raise ValueError(f"{place}: {patch_size} is not above the patch of {design}; leave out one of them")
            try:
                for side in design.input_sides:
                    check_patch(patch_size, side)
            except DesignError as error:
                raise ValueError(f"{place}: {error}") from None
        *before, last = (stage.steps for stage in training_stages(design, recipe, epoch_images))
        total = recipe.training_steps(epoch_images)
        for index, steps in enumerate(before):
            if steps < 1:
                share = recipe.stages[index].share
                raise ValueError(f"recipe.stages[{index}].share: {share:g} of {total} steps is no step; give more")
        if last < 1:
            raise ValueError(f"recipe.stages: the shares leave none of {total} steps to {design}; give less")
