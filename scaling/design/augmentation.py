"""How training images are cropped, changed and mixed, and test images cropped; every field is a TOML key."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from scaling.design.sections import PositiveInt, Section
from scaling.design.tasks import Task

Share = Annotated[float, Field(ge=0, le=1)]
# timm's: a policy, and letters with numbers, such as rand-m9-mstd0.5-inc1.
_NUMBER = r"\d+(\.\d+)?"
_POLICIES = {
    "rand": rf"(-(m\d+|n\d+|p{_NUMBER}|mstd{_NUMBER}|mmax\d+|inc[01]))*",
    "augmix": rf"(-(m\d+|w\d+|d\d+|b[01]|mstd{_NUMBER}))*",
    **dict.fromkeys(("v0", "v0r", "original", "originalr"), rf"(-mstd{_NUMBER})?"),
}
DENSE_KEYS = frozenset({"resize_range", "horizontal_flip", "color_jitter", "interpolation"})
"""Of images whose labels have places; the others are for classification, and the first is not."""
PAPER_CROP, PAPER_CROPPED = 0.875, ((16, 224),)  # the paper's crop, and patches and inputs that are cropped


def _crop_ratio(value: object) -> object:
    """A share of the image, or 'paper'; one message for both."""
    if value == "paper" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1):
        return value
    raise ValueError(f"recipe.test_crop_ratio: {value!r} is neither above 0 and at most 1 nor 'paper'")


class Augmentation(Section):
    """What a recipe does to images in files; by default nothing but a resize and a central square.

    Of a training image a random crop is taken, it is flipped, augmented, jittered and partly erased, in this order,
    and mixed with another one. All of it is timm's. For segmentation and detection it is resized, cropped, flipped and
    jittered, its labels with it.
    """

    augmentation: Annotated[str, Field(description="none, three-augment, or timm's: rand-m9-mstd0.5-inc1")] = "none"
    crop_scale: Annotated[
        tuple[Share, Share] | None, Field(description="shares of the image that a random resized crop takes")
    ] = None
    resize_range: Annotated[
        tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None,
        Field(description="of the input size, for the short side of a training image; segmentation and detection"),
    ] = None
    color_jitter: Annotated[Share, Field(description="of brightness, contrast and saturation")] = 0.0
    horizontal_flip: Annotated[Share, Field(description="probability")] = 0.0
    mixup: Annotated[float, Field(ge=0, description="alpha; of its Beta distribution; 0 switches it off")] = 0.0
    cutmix: Annotated[float, Field(ge=0, description="alpha; with mixup, each is drawn half of the time")] = 0.0
    random_erasing: Annotated[Share, Field(description="probability")] = 0.0
    repeated_augmentation: Annotated[PositiveInt, Field(description="copies of an image in a batch")] = 1
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    test_crop_ratio: Annotated[
        float | Literal["paper"], BeforeValidator(_crop_ratio), Field(description="of the resized short side")
    ] = 1.0

    @model_validator(mode="after")
    def _is_known(self) -> "Augmentation":
        policy, dash, rest = self.augmentation.partition("-")
        known = re.fullmatch(_POLICIES[policy], dash + rest) if policy in _POLICIES else None
        if self.augmentation not in ("none", "three-augment") and known is None:
            raise ValueError(
                f"recipe.augmentation: '{self.augmentation}' is not known; use 'none', 'three-augment' or timm's "
                "'rand-m9-mstd0.5-inc1', 'original-mstd0.5', 'v0', 'augmix-m3-w3'"
            )
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1]:
            low, high = self.crop_scale
            raise ValueError(f"recipe.crop_scale: [{low:g}, {high:g}] must rise and begin above 0, such as [0.08, 1.0]")
        if self.resize_range is not None and self.resize_range[0] > self.resize_range[1]:
            low, high = self.resize_range
            raise ValueError(f"recipe.resize_range: [{low:g}, {high:g}] must not fall, such as [0.5, 2.0]")
        return self

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs, and labels with them."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def augmentation_keys(self) -> list[str]:
        """The keys of this section that are not at their defaults."""
        fields = Augmentation.model_fields
        return [key for key, field in fields.items() if getattr(self, key) != field.default]

    def check_task(self, task: Task) -> None:
        """Raise ValueError for a key that images in files of a task do not have."""
        dense = task != "classification"
        for key in self.augmentation_keys:
            if dense and key not in DENSE_KEYS:
                known = ", ".join(sorted(DENSE_KEYS))
                raise ValueError(f"recipe.{key}: is for classification, not {task}; remove the key, or use {known}")
            if not dense and key == "resize_range":
                raise ValueError(f"recipe.{key}: is for segmentation and detection; use crop_scale")
        if task == "detection" and self.resize_range is not None and self.resize_range[1] > 1:
            raise ValueError(
                f"recipe.resize_range: up to {self.resize_range[1]:g} times the input size; images of detection "
                "are resized and not cropped: use at most 1, such as [0.6, 1.0]"
            )

    def check_batch(self, batch_size: int) -> None:
        """Raise ValueError for a batch that cannot be mixed in pairs of different images."""
        if self.mixes and batch_size % 2:
            raise ValueError(f"recipe.batch_size: {batch_size} is odd; mixup and cutmix need pairs")
        if self.repeated_augmentation > 1 and batch_size < 2 * self.repeated_augmentation:
            raise ValueError(
                f"recipe.repeated_augmentation: a batch of {batch_size} has no two images "
                f"{self.repeated_augmentation} times; use a larger batch_size"
            )

    def crop_ratio(self, patch_size: int, input_size: int) -> float:
        """Share of the resized short side that a test image keeps.

        'paper': 0.875 for inputs of 64 pixels and for patch 16 at 224, 1 elsewhere (its Section 4.1 and released code).
        """
        if self.test_crop_ratio != "paper":
            return self.test_crop_ratio
        return PAPER_CROP if input_size == 64 or (patch_size, input_size) in PAPER_CROPPED else 1.0
