"""From examples to batches: images of other sides are padded, and their instances packed into few tensors.

Shapes: B images, S and W padded sides, N things in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scaling.scenes import Instances


@dataclass(frozen=True)
class PackedInstances:
    """The instances of a batch as four tensors: each tensor that a worker sends takes a file descriptor."""

    boxes: Float[Tensor, "N 4"]
    classes: Int[Tensor, "N"]
    masks: Bool[Tensor, "N S W"]
    crowd: Bool[Tensor, "N"]
    counts: tuple[int, ...]
    others: tuple[dict[str, Any], ...]
    """The fields of each image that are no tensors."""

    def pin_memory(self) -> "PackedInstances":
        """The same in pinned memory."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)[:4]}
        return replace(self, **{name: tensor.pin_memory() for name, tensor in tensors.items()})

    def unpacked(self) -> list[Instances]:
        """The instances of each image; views of the packed tensors."""
        parts = (tensor.split(self.counts) for tensor in (self.boxes, self.classes, self.masks, self.crowd))
        return [Instances(*tensors, **other) for *tensors, other in zip(*parts, self.others, strict=True)]


def batch_of(examples: Sequence[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor | PackedInstances]:
    """The images of a batch, and their labels: classes, maps of labels, or instances; images are padded for these."""
    images, labels = zip(*examples, strict=True)
    if isinstance(labels[0], Tensor):
        return torch.stack(images), torch.stack(labels)
    if not isinstance(labels[0], Instances):
        return torch.stack(images), torch.tensor(labels)
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    return torch.stack([_padded(image, height, width) for image in images]), _packed(labels, height, width)


def _padded(pixels: Tensor, height: int, width: int) -> Tensor:
    """Zeros on the right and below."""
    return F.pad(pixels, (0, width - pixels.shape[2], 0, height - pixels.shape[1]))


def _packed(instances: Sequence[Instances], height: int, width: int) -> PackedInstances:
    names = ("sides", "image", "original_sides", "annotations")
    return PackedInstances(
        boxes=torch.cat([each.boxes for each in instances]),
        classes=torch.cat([each.classes for each in instances]),
        masks=torch.cat([_padded(each.masks, height, width) for each in instances]),
        crowd=torch.cat([each.crowd for each in instances]),
        counts=tuple(len(each) for each in instances),
        others=tuple({name: getattr(each, name) for name in names} for each in instances),
    )
