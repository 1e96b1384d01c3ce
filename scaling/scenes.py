"""What passes between data, models and training: images with what is true of them, and what a detector finds.

Shapes: B images, S and W padded sides, R and C sides of label maps, K classes, N things in an image, M mask sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED_LABEL = -100
"""Of a pixel that counts neither in training nor in testing."""


@dataclass(frozen=True)
class Instances:
    """The things in one image of a batch, in pixels of the batch.

    Args:
        boxes: left, top, right, bottom; of positive area, inside the image.
        classes: numbers from 0.
        masks: which pixels belong to each.
        crowd: whether it stands for many things at once: nothing to learn, and no mistake to find.
        sides: height and width of the image; what the batch has beyond is padding.
        image: number of the image in its split.
        original_sides: height and width of the stored image, in which results are given.
        annotations: the image's own in COCO's format, of original size; None where boxes and masks are exact.
    """

    boxes: Float[Tensor, "N 4"]
    classes: Int[Tensor, "N"]
    masks: Bool[Tensor, "N S W"]
    crowd: Bool[Tensor, "N"]
    sides: tuple[int, int]
    image: int
    original_sides: tuple[int, int]
    annotations: tuple[dict[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device | str) -> "Instances":
        """The same on another device."""
        tensors = {
            field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Detections:
    """What a detector finds in one image, best first, in pixels of the batch.

    Args:
        boxes: left, top, right, bottom.
        scores: 0 to 1.
        classes: numbers from 0.
        masks: probability of belonging to the thing, over the box.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, "N"]
    classes: Int[Tensor, "N"]
    masks: Float[Tensor, "N M M"]

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Scenes:
    """A batch of images with what is true of them.

    images: float32, normalised; labels: int64, (B,) classes for classification, (B, R, C) for segmentation; of mixed
    images float32, (B, K) shares of the classes; for detection what is in each image.
    """

    images: Float[Tensor, "B 3 S W"]
    labels: Int[Tensor, "B"] | Int[Tensor, "B R C"] | Float[Tensor, "B K"] | Sequence[Instances]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Scenes":
        """The same on another device."""
        labels = self.labels.to(device) if isinstance(self.labels, Tensor) else [one.to(device) for one in self.labels]
        return Scenes(self.images.to(device), labels)
