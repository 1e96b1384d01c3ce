"""From images and what is true of their pixels to tensors: resized, cropped, flipped and jittered together.

Shapes: N things, S and W, R and C sides.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as pixels

from scaling.data.annotations import AnnotatedImage, instances_of
from scaling.data.images import UnreadableImageError
from scaling.data.transforms import LabelledTransform
from scaling.design import Augmentation
from scaling.scenes import IGNORED_LABEL, Instances

LONGEST = 4
"""Of a side of a resized image, over the input size; longer ones are squeezed."""
Sides: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Finish:
    """What ends every transform: jitter in training, and normalised pixels."""

    augmentation: Augmentation
    patch_size: int

    def resized(self, image: Image.Image, sides: Sides) -> Image.Image:
        """An image of these sides.

        Raises:
            UnreadableImageError: for an image that is smaller than a patch.
        """
        if min(image.size) < self.patch_size:
            width, height = image.size
            raise UnreadableImageError(f"its {height} x {width} pixels are less than a patch of {self.patch_size}")
        return image.resize((sides[1], sides[0]), Image.Resampling[self.augmentation.interpolation.upper()])

    def tensor(self, image: Image.Image, training: bool) -> Float[Tensor, "3 S W"]:
        """Its pixels, normalised with ImageNet's mean and standard deviation."""
        if training and (share := self.augmentation.color_jitter):
            image = v2.ColorJitter(share, share, share)(image)
        values = pixels.to_dtype(pixels.pil_to_tensor(image), torch.float32, scale=True)
        return pixels.normalize(values, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD))

    def scale(self) -> float:
        """A random share of the input size, uniform in the recipe's range; 1 without one."""
        if self.augmentation.resize_range is None:
            return 1.0
        low, high = self.augmentation.resize_range
        return low + (high - low) * float(torch.rand(()))

    def flips(self) -> bool:
        """Whether this image is to be flipped."""
        return float(torch.rand(())) < self.augmentation.horizontal_flip


def resized_sides(image: Image.Image, short: float, longest: float) -> tuple[float, float]:
    """Height and width of an image whose short side is to be `short`, and whose long one at most `longest`."""
    width, height = image.size
    scale = min(short / min(width, height), longest / max(width, height))
    return height * scale, width * scale


def whole(sides: tuple[float, float], multiple: int = 1) -> Sides:
    """The nearest sides that are multiples of this, at least one."""
    height, width = (max(1, round(side / multiple)) * multiple for side in sides)
    return height, width


def segmentation_training(augmentation: Augmentation, patch_size: int, side: int) -> LabelledTransform:
    """A random crop (3, side, side) of a resized image and the labels (side, side) of its pixels.

    What a crop has beyond the image is zero, and does not count.
    """
    finish = Finish(augmentation, patch_size)

    def transform(image: Image.Image, labels: Int[Tensor, "R C"]) -> tuple[Tensor, Tensor]:
        short = side * finish.scale()
        sides = whole(resized_sides(image, short, LONGEST * short))
        image = finish.resized(image, sides)
        labels = F.interpolate(labels[None, None].float(), size=sides, mode="nearest-exact")[0, 0].long()
        top, left = (int(torch.randint(max(0, one - side) + 1, ())) for one in sides)
        box = (left, top, min(left + side, sides[1]), min(top + side, sides[0]))
        values, labels = finish.tensor(image.crop(box), training=True), labels[top : box[3], left : box[2]]
        beyond = (0, side - labels.shape[1], 0, side - labels.shape[0])
        values, labels = F.pad(values, beyond), F.pad(labels, beyond, value=IGNORED_LABEL)
        return (values.flip(2), labels.flip(1)) if finish.flips() else (values, labels)

    return transform


def segmentation_test(augmentation: Augmentation, patch_size: int, side: int) -> LabelledTransform:
    """An image whose short side is the input's, in whole patches, and its labels as they are stored."""
    finish = Finish(augmentation, patch_size)

    def transform(image: Image.Image, labels: Int[Tensor, "R C"]) -> tuple[Tensor, Tensor]:
        sides = whole(resized_sides(image, float(side), float(LONGEST * side)), patch_size)
        return finish.tensor(finish.resized(image, sides), training=False), labels

    return transform


def detection_transform(
    augmentation: Augmentation, patch_size: int, side: int, longest: int, training: bool
) -> LabelledTransform:
    """An image whose short side is the input's, and its long one no more than `longest`; the instances with it."""
    finish = Finish(augmentation, patch_size)

    def transform(image: Image.Image, known: AnnotatedImage) -> tuple[Tensor, Instances]:
        sides = whole(resized_sides(image, side * (finish.scale() if training else 1.0), float(longest)))
        values = finish.tensor(finish.resized(image, sides), training)
        instances = instances_of(known, sides, keep_annotations=not training)
        return (values.flip(2), instances_flipped(instances)) if training and finish.flips() else (values, instances)

    return transform


def instances_flipped(instances: Instances) -> Instances:
    """Those of the mirrored image."""
    width = instances.sides[1]
    left, top, right, bottom = instances.boxes.unbind(1)
    boxes = torch.stack([width - right, top, width - left, bottom], 1)
    return replace(instances, boxes=boxes, masks=instances.masks.flip(2))
