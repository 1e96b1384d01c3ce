"""What a study says about its training and measuring; every field is a TOML key."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scaling.design.augmentation import Augmentation
from scaling.design.detectors import Detector
from scaling.design.sections import NonNegativeInt, PositiveInt, Section
from scaling.errors import nearest

Precision = Literal["fp32", "bf16", "fp16"]
START_NAMES = ("architecture", "size", "patch_size")
"""Of a design, filled in for a checkpoint's path."""
PatchResize = Literal["flexivit", "bicubic"]
"""How a patch kernel is fitted to another patch size: by pseudo-inverse, or interpolated itself."""
Flip = Literal["alternate", "released"]
"""Which blocks of an Adventurer read backwards: every second one, or those of the paper's released code."""


OptimizerName = Literal["adamw", "adamw-8bit"]
"""torch's fused AdamW, or bitsandbytes' with moments of 8 bits (Dettmers et al. 2021); CUDA only."""
Decay = Literal["cosine", "linear", "steps"]
"""A half cosine or a line down to the least rate, or a tenth after 8/12 of the training and again after 11/12."""


class PatchStage(Section):
    """A first part of a training, at a larger patch than the design's own; see docs/schedules.md."""

    patch_size: PositiveInt
    share: Annotated[float, Field(gt=0, lt=1, description="of the training's images")]


class Recipe(Augmentation):
    """How every cell of a study is trained: AdamW, linear warm-up, then one of three decays.

    Exactly one of `steps`, `images` and `epochs` says how long, at most one of the `warmup_` keys
    how long the learning rate rises. `micro_batch_size` splits the batch, which changes the result
    by rounding, by the draws of drop path and of a detector's regions, and by what images of
    detection are padded with, so it is not part of a cell's identity.
    """

    steps: PositiveInt | None = None
    images: PositiveInt | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    warmup_steps: NonNegativeInt | None = None
    warmup_images: NonNegativeInt | None = None
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    batch_size: PositiveInt
    micro_batch_size: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)]
    learning_rate_batch: Annotated[
        PositiveInt | None, Field(description="learning_rate is for batches of this size, and scaled to batch_size")
    ] = None
    decay: Annotated[Decay, Field(description="how the learning rate falls after the warm-up")] = "cosine"
    minimum_learning_rate: Annotated[float, Field(ge=0, description="where a cosine or a line ends")] = 0.0
    layer_decay: Annotated[
        float | None, Field(gt=0, le=1, description="learning rate of each block, over that of the next one")
    ] = None
    ema_decay: Annotated[
        float | None, Field(gt=0, lt=1, description="of an average of the weights, which is then tested and kept")
    ] = None
    optimizer: OptimizerName = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    gradient_clip: Annotated[float, Field(ge=0, description="global norm; 0 switches it off")] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    position_init: Literal["normal", "sincos"] = "normal"
    start_from: Annotated[
        str | None,
        Field(min_length=1, description="checkpoint; {architecture}, {size} and {patch_size} stand for the design's"),
    ] = None
    resize_patches: Annotated[PatchResize | None, Field(description="fit a checkpoint's patch kernel")] = None
    new_head: Annotated[bool, Field(description="do not take a checkpoint's classifier")] = False
    flip: Annotated[Flip, Field(description="which blocks of an Adventurer read backwards")] = "alternate"
    stages: Annotated[
        tuple[PatchStage, ...], Field(description="larger patches to begin with; the rest is at the design's own")
    ] = ()
    auxiliary_loss: Annotated[
        float, Field(ge=0, description="weight of the loss of a second, small head of UperNet; 0 leaves it out")
    ] = 0.0
    detector: Annotated[Detector, Field(description="settings of a detector")] = Detector()
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _keys_agree(self) -> "Recipe":
        _given(self, "", at_least=1)
        _given(self, "warmup_", at_least=0)
        for name in re.findall(r"\{(.*?)\}", self.start_from or ""):
            if name not in START_NAMES:
                raise ValueError(f"recipe.start_from: unknown name {{{name}}}: {nearest(name, START_NAMES)}")
        micro = self.micro_batch_size
        if micro and self.batch_size % micro:
            raise ValueError(f"recipe.micro_batch_size: {micro} does not divide batch_size {self.batch_size}")
        if self.minimum_learning_rate > self.peak_learning_rate:
            raise ValueError(
                f"recipe.minimum_learning_rate: {self.minimum_learning_rate:g} is above the highest learning rate, "
                f"{self.peak_learning_rate:g}"
            )
        if self.minimum_learning_rate and self.decay == "steps":
            raise ValueError(
                f"recipe.minimum_learning_rate: {self.minimum_learning_rate:g} is for a cosine or a line; decay = "
                '"steps" ends at a hundredth of the highest learning rate: remove the key'
            )
        _check_shrinking(self.stages)
        self.check_batch(self.batch_size)
        return self

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up, scaled to the batch where the recipe says so (Goyal et al. 2017)."""
        return self.learning_rate * (self.batch_size / self.learning_rate_batch if self.learning_rate_batch else 1)

    def training_steps(self, epoch_images: int | None) -> int:
        """Optimiser steps, at least one."""
        return max(1, self._in_steps("", epoch_images))

    def warmup(self, epoch_images: int | None) -> int:
        """Optimiser steps of rising learning rate; 0 where none is asked for."""
        return self._in_steps("warmup_", epoch_images)

    def _in_steps(self, prefix: str, epoch_images: int | None) -> int:
        steps, images, epochs = (getattr(self, prefix + unit) for unit in _UNITS)
        if epochs is not None:
            if epoch_images is None:
                raise ValueError(
                    f"recipe.{prefix}epochs: an endless stream has no epochs; give {prefix}steps or {prefix}images"
                )
            images = epochs * epoch_images
        return round(images / self.batch_size) if images is not None else steps or 0


_UNITS = ("steps", "images", "epochs")


def settings_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a recipe over those of another; a duration takes the place of one in another unit."""
    replaced = {
        prefix + unit for prefix in ("", "warmup_") for unit in _UNITS if any(prefix + given in own for given in _UNITS)
    }
    return {key: value for key, value in base.items() if key not in replaced} | dict(own)


def _check_shrinking(stages: tuple[PatchStage, ...]) -> None:
    for index, (before, after) in enumerate(pairwise(stages), start=1):
        if after.patch_size >= before.patch_size:
            raise ValueError(
                f"recipe.stages[{index}].patch_size: {after.patch_size} is not below the {before.patch_size} "
                "before it; patches only shrink"
            )
    total = sum(stage.share for stage in stages)
    if total >= 1:
        raise ValueError(f"recipe.stages: the shares sum to {total:g}; leave a rest for the design's own patch")


def _given(recipe: Recipe, prefix: str, at_least: int) -> None:
    keys = [prefix + unit for unit in _UNITS]
    given = [key for key in keys if getattr(recipe, key) is not None]
    if len(given) > 1:
        raise ValueError(f"recipe: {' and '.join(given)} are both given; keep one")
    if len(given) < at_least:
        raise ValueError(f"recipe: one of {', '.join(keys)} is needed")


class Measure(Section):
    """What is measured beside the loss; none of it changes a result."""

    log_every_steps: PositiveInt = 50
    fvcore: Annotated[bool, Field(description="cross-check FLOPs with fvcore")] = True
