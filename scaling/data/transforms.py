"""From images to normalised tensors: crops, augmentation and mixing, all by timm, from a random state of our own."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from timm.data import auto_augment
from timm.data.mixup import Mixup
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from scaling.design import Augmentation

Transform: TypeAlias = Callable[[Image.Image], Tensor]
LabelledTransform: TypeAlias = Callable[[Image.Image, Any], tuple[Tensor, Any]]
THREE_AUGMENT = "3a"  # timm's name of DeiT III's choice of solarisation, grey and blur (Touvron et al. 2022, Section 4)


@contextmanager
def drawn_from(*key: object) -> Iterator[None]:
    """Random numbers that follow from a key alone; Python's, NumPy's and torch's, since timm draws from all three."""
    before = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()  # pyright: ignore[reportAttributeAccessIssue]
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    random.seed(digest[:8])
    np.random.set_bit_generator(np.random.PCG64(int.from_bytes(digest[8:12], "big")))  # pyright: ignore[reportAttributeAccessIssue]
    torch.default_generator.manual_seed(int.from_bytes(digest[12:19], "big"))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_bit_generator(before[1])  # pyright: ignore[reportAttributeAccessIssue]
        torch.set_rng_state(before[2])


def training_transform(augmentation: Augmentation, side: int) -> Transform:
    """What a recipe does to a training image before it is mixed; (3, side, side), normalised."""
    policy = {"none": None, "three-augment": THREE_AUGMENT}.get(augmentation.augmentation, augmentation.augmentation)
    parts = transforms_imagenet_train(
        side,
        scale=augmentation.crop_scale,
        hflip=augmentation.horizontal_flip,
        color_jitter=augmentation.color_jitter or None,  # pyright: ignore[reportArgumentType]
        force_color_jitter=True,
        auto_augment=policy,
        interpolation=augmentation.interpolation,
        re_prob=augmentation.random_erasing,
        re_mode="pixel",
        separate=True,
    )
    crop, augment, finish = parts  # pyright: ignore[reportGeneralTypeIssues] a tuple, with separate=True
    if augmentation.crop_scale is None:
        resize = transforms.Resize(side, InterpolationMode(augmentation.interpolation))
        flip = transforms.RandomHorizontalFlip(augmentation.horizontal_flip)
        crop = transforms.Compose([resize, transforms.CenterCrop(side), flip])
    for operation in _operations(augment):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = _posterize
    return transforms.Compose([crop, augment, finish])


def _operations(augment: transforms.Compose) -> Iterator[auto_augment.AugmentOp]:
    """The single operations of timm's policies."""
    for policy in augment.transforms:
        for part in getattr(policy, "ops", getattr(policy, "policy", ())):
            yield from part if isinstance(part, list) else (part,)


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """timm's, but for the 0 bits that it may draw: newer versions of Pillow refuse them, older ones gave black."""
    return auto_augment.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def test_transform(augmentation: Augmentation, patch_size: int, side: int) -> Transform:
    """The central square of a test image, (3, side, side), normalised."""
    ratio = augmentation.crop_ratio(patch_size, side)
    return transforms_imagenet_eval(side, crop_pct=ratio, interpolation=augmentation.interpolation)


def of_image_alone(transform: Transform) -> LabelledTransform:
    """A transform that leaves the label as it is."""
    return lambda image, label: (transform(image), label)


class PairMixer:
    """Mixup and CutMix of two images with each other, and of their labels; each pair has its own share and box.

    Zhang et al. 2018 and Yun et al. 2019. Label smoothing is the loss's, not mixed in here.
    """

    def __init__(self, augmentation: Augmentation, classes: int) -> None:
        self._mix = Mixup(augmentation.mixup, augmentation.cutmix, label_smoothing=0.0, num_classes=classes)

    def __call__(
        self, images: Float[Tensor, "2 3 S S"], labels: Int[Tensor, "2"]
    ) -> tuple[Float[Tensor, "2 3 S S"], Float[Tensor, "2 K"]]:
        """The images in each other's light and their labels as shares of the classes; `images` may be overwritten."""
        return self._mix(images, labels)
