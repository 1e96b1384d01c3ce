"""Crops, augmentation and mixing, against what their definitions say."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter, ImageOps

from scaling.data import Share, training_batches
from scaling.data.transforms import PairMixer, drawn_from, test_transform, training_transform
from scaling.design import Augmentation, StudyError, build_study
from tests.conftest import study_values
from tests.data import made

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
central_square = test_transform
del test_transform  # pytest would take it for a test


def pixels(image: torch.Tensor) -> np.ndarray:
    """Normalised (3, S, S) back to bytes (S, S, 3)."""
    return ((image.permute(1, 2, 0) * STD + MEAN) * 255).round().clamp(0, 255).numpy().astype(np.uint8)


def picture(width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def drawn(augmentation: Augmentation, count: int, side: int = 16) -> list[np.ndarray]:
    transform, images = training_transform(augmentation, side), []
    for number in range(count):
        with drawn_from(number):
            images.append(pixels(transform(picture(side, side))))
    return images


def test_by_default_training_images_are_as_test_images() -> None:
    augmentation, image = Augmentation(), picture()
    train, test = training_transform(augmentation, 20)(image), central_square(augmentation, 4, 20)(image)
    expected = image.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20))
    assert torch.equal(train, test)
    assert (pixels(test) == np.asarray(expected)).all()


def test_the_test_crop_is_the_share_of_the_short_side() -> None:
    image = picture()
    cropped = central_square(Augmentation(test_crop_ratio=0.8, interpolation="bilinear"), 4, 16)(image)
    expected = image.resize((30, 20), Image.Resampling.BILINEAR).crop((7, 2, 23, 18))
    assert (pixels(cropped) == np.asarray(expected)).all()


@pytest.mark.parametrize(
    ("patch_size", "input_size", "ratio"),
    [(16, 64, 0.875), (1, 64, 0.875), (16, 224, 0.875), (8, 224, 1.0), (16, 128, 1.0), (2, 128, 1.0)],
)
def test_the_paper_s_crops(patch_size: int, input_size: int, ratio: float) -> None:
    assert Augmentation(test_crop_ratio="paper").crop_ratio(patch_size, input_size) == ratio
    assert Augmentation(test_crop_ratio=0.9).crop_ratio(patch_size, input_size) == 0.9


def test_three_augment_is_one_of_three() -> None:
    """Grey, solarised from 128, or blurred (Touvron et al. 2022, Section 4); nothing else and never two."""
    image = picture(16, 16)
    grey, solarised = np.asarray(image.convert("L").convert("RGB")), np.asarray(ImageOps.solarize(image, 128))
    kinds = {"grey": 0, "solarised": 0, "blurred": 0}
    for found in drawn(Augmentation(augmentation="three-augment"), 120):
        if np.abs(found.astype(int) - grey).max() <= 1:
            kinds["grey"] += 1
        elif (found == solarised).all():
            kinds["solarised"] += 1
        else:
            radii = np.linspace(0.1, 2.0, 60)
            apart = [
                np.abs(np.asarray(image.filter(ImageFilter.GaussianBlur(float(r)))).astype(int) - found).max()
                for r in radii
            ]
            assert min(apart) <= 8
            kinds["blurred"] += 1
    assert all(24 <= count <= 56 for count in kinds.values()), kinds


def test_flips_and_crops_as_often_and_as_large_as_asked() -> None:
    image = np.asarray(picture(16, 16))
    flipped = [(found == image[:, ::-1]).all() for found in drawn(Augmentation(horizontal_flip=0.25), 200)]
    assert 30 <= sum(flipped) <= 70
    smooth = Image.fromarray(np.tile(np.arange(0, 200, 2, dtype=np.uint8)[:, None, None], (1, 100, 3)))
    transform = training_transform(Augmentation(crop_scale=(0.25, 0.25)), 50)
    for number in range(20):
        with drawn_from(number):
            rows = pixels(transform(smooth))[:, 0, 0].astype(int)
        assert 2 * 100 * 0.5 * 0.8 <= rows[-1] - rows[0] <= 2 * 100 * 0.5 * 1.2  # half of each side, 3/4 to 4/3


def test_colour_jitter_and_erasing_do_something_only_when_asked() -> None:
    image = np.asarray(picture(16, 16))
    for changes in ({"color_jitter": 0.3}, {"random_erasing": 1.0}, {"augmentation": "rand-m9-mstd0.5-inc1"}):
        found = drawn(Augmentation.model_validate(changes), 20)
        assert sum((each != image).any() for each in found) >= 10, changes
    erased = [(each != image).any(-1).mean() for each in drawn(Augmentation(random_erasing=1.0), 50)]
    assert min(erased) >= 0.02 * 0.8
    assert max(erased) <= 1 / 3 * 1.2


def test_pairs_are_mixed_with_their_labels() -> None:
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    for kind in ("mixup", "cutmix"):
        mix = PairMixer(Augmentation.model_validate({kind: 1.0}), classes=4)
        shares = []
        for number in range(50):
            with drawn_from(number):
                mixed, labels = mix(images.clone(), torch.tensor([1, 3]))
            assert torch.allclose(labels.sum(1), torch.ones(2))
            assert torch.allclose(mixed.mean((1, 2, 3)), labels[:, 3], atol=1e-6)  # as much of the second image
            assert torch.equal(labels[:, [1, 3]], labels[:, [3, 1]].flip(0))
            assert (mixed.unique().numel() <= 2) or kind == "mixup"
            shares.append(float(labels[0, 3]))
        assert 0.15 < np.mean(shares) < 0.7  # boxes of CutMix are cut off at the edge
        assert np.std(shares) > 0.1


def test_mixed_labels_are_smoothed_once(tmp_path: Path) -> None:
    """The loop's loss on mixed labels against the definition, written out."""
    changes: dict[str, Any] = {"recipe__mixup": 0.8, "recipe__label_smoothing": 0.1}
    cell = made.image_study(made.make_folder(tmp_path), **changes).cells()[0]
    (batch,) = islice(training_batches(cell, Share(8, 8), workers=0), 1)
    assert made.labels_of(batch).shape == (8, 3)
    assert torch.allclose(made.labels_of(batch).sum(1), torch.ones(8))
    assert ((made.labels_of(batch) > 0).sum(1) <= 2).all()  # of the two images alone: nothing is smoothed in yet
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    target = 0.9 * made.labels_of(batch) + 0.1 / 3
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(F.cross_entropy(logits, made.labels_of(batch), label_smoothing=0.1), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe__augmentation": "rand-q9"}, "recipe.augmentation: 'rand-q9' is not known; use 'none'"),
        ({"recipe__augmentation": "three"}, "recipe.augmentation: 'three' is not known"),
        ({"recipe__crop_scale": [0.5, 0.2]}, "recipe.crop_scale: [0.5, 0.2] must rise"),
        ({"recipe__crop_scale": [0.0, 0.2]}, "recipe.crop_scale: [0, 0.2] must rise and begin above 0"),
        ({"recipe__mixup": 0.8, "recipe__batch_size": 9}, "recipe.batch_size: 9 is odd; mixup and cutmix need pairs"),
        ({"recipe__repeated_augmentation": 5}, "recipe.repeated_augmentation: a batch of 8 has no two images 5 times"),
        ({"recipe__test_crop_ratio": 1.5}, "recipe.test_crop_ratio: 1.5 is neither above 0 and at most 1 nor 'paper'"),
        ({"recipe__horizontal_flip": 2.0}, "recipe.horizontal_flip: 2.0: input should be less than or equal to 1"),
        ({"recipe__interpolation": "area"}, "recipe.interpolation: 'area' is not allowed"),
        ({"data": {"name": "image-folder", "classes": 3, "train_images": 24}}, "data.path: missing"),
        ({"data": {"name": "image-folder", "path": "x", "clases": 3}}, "data.clases: unknown key; did you mean"),
        ({"data": {"name": "imagefolder"}}, "data.name: 'imagefolder' is not known; did you mean 'image-folder'?"),
        ({"data": {"name": "imagenet", "path": "x", "classes": 10}}, "data.classes: 10: input should be greater"),
        ({"data": {"name": "imagenet", "path": "x", "max_corrupt_share": 1.0}}, "data.max_corrupt_share: 1.0"),
        ({"data": 3}, "data: 3: should be a table, [data]"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(changes: dict[str, Any], message: str) -> None:
    data = {"name": "image-folder", "path": "x", "classes": 3, "train_images": 24}
    with pytest.raises(StudyError) as caught:
        build_study(study_values(**({"data": data} | changes)))
    assert message in str(caught.value)


POLICIES = ("rand-m9-mstd0.5-inc1", "rand-n2-m10-p0.7", "original-mstd0.5", "v0", "v0r", "originalr", "augmix-m5-w4-d2")


@pytest.mark.parametrize("name", ["none", "three-augment", *POLICIES])
def test_policies_that_are_known_to_timm_too(name: str) -> None:
    assert len(drawn(Augmentation(augmentation=name), 2)) == 2


@pytest.mark.parametrize(
    "name", ["rand-m10-n8-p1.0-inc1", "rand-m10-n8-p1.0", "augmix-m10", "original-mstd9", "v0-mstd9"]
)
def test_the_strongest_policies_have_no_image_they_fail_on(name: str) -> None:
    """timm draws 0 bits for posterisation, which Pillow refuses; that may not end a training."""
    assert len(drawn(Augmentation(augmentation=name), 40)) == 40


def test_digits_are_not_augmented() -> None:
    with pytest.raises(
        StudyError, match=r"recipe.mixup: the scenes of digits are drawn, not augmented; remove the key"
    ):
        build_study(study_values(recipe__mixup=0.8))
