"""Images with maps of labels: read as they are, resized with their labels, and refused with their names."""

import logging
import re
import shutil
import struct
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from scaling.data import DataError, Scenes, Share, data_fingerprint, held_out_batches, open_data, training_batches
from scaling.data.dense_transforms import segmentation_training
from scaling.design import Augmentation, Cell, StudyError, parse_data
from scaling.scenes import IGNORED_LABEL
from tests.conftest import small_study
from tests.data import made_dense as made
from tests.data.made import labels_of as tensor_labels

EVERYTHING = {"recipe__resize_range": [0.5, 2.0], "recipe__horizontal_flip": 0.5, "recipe__color_jitter": 0.4}


def data_of(root: Path, **changes: Any) -> Any:
    about = {"name": "segmentation-folder", "path": str(root), "classes": made.CLASSES, "train_images": made.TRAIN}
    return parse_data(about | changes)


def cell_of(root: Path, **changes: Any) -> Cell:
    return made.dense_study(root, "segmentation-folder", **changes).cells()[0]


def stream(cell: Cell, count: int, share: Share, workers: int = 0) -> Scenes:
    batches = list(islice(training_batches(cell, share, workers), count))
    return Scenes(
        torch.cat([batch.images for batch in batches]), torch.cat([tensor_labels(batch) for batch in batches])
    )


def greys(images: torch.Tensor) -> torch.Tensor:
    """Grey of each pixel, 0 to 255."""
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((images * std + mean) * 255).mean(1)


def check_match(images: torch.Tensor, labels: torch.Tensor, share: float = 0.8) -> None:
    """The grey of a labelled pixel is its class's, but near edges."""
    counted = labels != IGNORED_LABEL
    right = (greys(images) - 50 * (labels + 1)).abs() < 3
    assert counted.float().mean() > 0.4
    assert right[counted].float().mean() > share


@pytest.mark.parametrize(("zero", "first", "unlabelled"), [(False, 0, 255), (True, 1, 0)])
def test_labels_are_numbered_from_0_and_unlabelled_ones_ignored(
    zero: bool, first: int, unlabelled: int, tmp_path: Path
) -> None:
    root = made.make_maps(tmp_path, first=first, unlabelled=unlabelled)
    found = open_data(data_of(root, zero_is_unlabelled=zero))
    assert (len(found.train), len(found.test)) == (made.TRAIN, made.TEST)
    for number in range(made.TRAIN):
        image, labels = found.train.example(number)
        expected = torch.from_numpy(made.labels_of(number))
        assert torch.equal(labels, torch.where(expected < 0, IGNORED_LABEL, expected))
        assert image.tobytes() == made.coloured(made.labels_of(number)).tobytes()


def test_ade20k_has_its_folders_counts_and_labels_from_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made.make_maps(tmp_path, ade=True, first=1, unlabelled=0)
    data: Any = parse_data({"name": "ade20k", "path": str(root)})
    assert (data.classes, data.train_images, data.task) == (150, 20_210, "segmentation")
    with pytest.raises(DataError) as caught:
        open_data(data)
    assert str(caught.value).endswith("ade20k has 20,210; for a part of it use name = 'segmentation-folder'")
    monkeypatch.setattr("scaling.data.opening._check", lambda found, data: None)
    found = open_data(data, anew=True)
    assert found.test.example(1)[1].unique().tolist() == [IGNORED_LABEL, 0, 1, 3]
    assert found.test.where.endswith("images/validation")


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_crops_are_of_the_input_s_sides_and_labels_go_with_them(changes: dict[str, Any], tmp_path: Path) -> None:
    scenes = stream(cell_of(made.make_maps(tmp_path), **(changes | {"recipe__color_jitter": 0.0})), 6, Share(4, 4))
    assert scenes.images.shape == (24, 3, 32, 32)
    assert tensor_labels(scenes).shape == (24, 32, 32)
    check_match(scenes.images, tensor_labels(scenes))


def test_small_images_are_padded_with_what_does_not_count(tmp_path: Path) -> None:
    transform = segmentation_training(Augmentation(resize_range=(0.5, 0.5)), 8, 32)
    labels = made.labels_of(0)
    image, found = transform(made.coloured(labels), torch.from_numpy(labels))
    assert image.shape == (3, 32, 32)
    rows, columns = 16, round(16 * 64 / 40)
    assert (found[:rows, :columns] != IGNORED_LABEL).all()
    assert (found[rows:] == IGNORED_LABEL).all()
    assert (found[:, columns:] == IGNORED_LABEL).all()
    assert (image[:, rows:] == 0).all()
    check_match(image[None, :, :rows, :columns], found[None, :rows, :columns])


def test_images_are_flipped_half_of_the_time(tmp_path: Path) -> None:
    transform = segmentation_training(Augmentation(horizontal_flip=0.5), 8, 40)
    labels = torch.zeros(40, 40, dtype=torch.long)
    labels[:, :20] = 1
    torch.manual_seed(0)
    left = [int(transform(made.coloured(labels.numpy()), labels)[1][0, 0]) for _ in range(200)]
    assert 70 < sum(left) < 130


def test_testing_keeps_proportions_and_stored_labels_one_image_at_a_time(tmp_path: Path) -> None:
    batches = list(held_out_batches(cell_of(made.make_maps(tmp_path), **EVERYTHING), 8, workers=1))
    assert len(batches) == made.TEST
    for number, batch in enumerate(batches):
        height, width = made.sides_of(number)
        assert tuple(tensor_labels(batch).shape) == (1, height, width)
        rows, columns = batch.images.shape[2:]
        assert min(rows, columns) == 32
        assert rows % 8 == columns % 8 == 0
        assert columns / rows == pytest.approx(width / height, rel=0.15)
        resized = torch.nn.functional.interpolate(greys(batch.images)[None], (height, width))[0]
        expected = 50 * (torch.from_numpy(made.labels_of(number)) + 1)
        assert ((resized - expected).abs() < 5).float().mean() > 0.8


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_workers_micro_batches_and_steps_change_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    cell = cell_of(made.make_maps(tmp_path), **changes)
    whole = stream(cell, 4, Share(4, 4))
    for other in (stream(cell, 4, Share(4, 4), workers=2), stream(cell, 16, Share(4, 1))):
        assert torch.equal(other.images, whole.images)
        assert torch.equal(tensor_labels(other), tensor_labels(whole))
    assert torch.equal(stream(cell, 1, Share(4, 4, first_step=3)).images, whole.images[12:])


def test_the_fingerprint_is_of_images_and_labels_not_of_their_place(tmp_path: Path) -> None:
    here = made.make_maps(tmp_path / "here")
    there = Path(shutil.copytree(here, tmp_path / "there"))
    assert data_fingerprint(data_of(here)) == data_fingerprint(data_of(there))
    with (there / "annotations" / "train" / "000.png").open("ab") as file:
        file.write(b"\0")
    assert data_fingerprint(data_of(here)) != open_data(data_of(there), anew=True).fingerprint


def refused(data: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_data(data, anew=True)
    message = str(caught.value)
    assert message.startswith("data.")
    assert "\n" not in message
    return message


def test_layouts_that_are_refused(tmp_path: Path) -> None:
    root = made.make_maps(tmp_path / "maps")
    assert "the study says 5: write classes" not in (message := refused(data_of(root, train_images=5)))
    assert message.endswith("the study says 5: write train_images = 6")
    (root / "annotations" / "train" / "002.png").unlink()
    assert refused(data_of(root)).endswith("has no map of labels for 002.png")
    shutil.rmtree(root / "annotations" / "val")
    shutil.rmtree(root / "images" / "train")
    assert "has no folder images/train" in refused(data_of(root))
    (root / "images" / "train").mkdir()
    assert "images/train has no image" in refused(data_of(root))
    made.make_maps(tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "annotations" / "val")
    assert "has no folder annotations/val or annotations/test" in refused(data_of(tmp_path / "other"))


def spoil(root: Path, number: int, how: str) -> None:
    file = root / "annotations" / "train" / f"{number:03d}.png"
    labels = np.array(Image.open(file))
    if how == "label":
        labels[0, 0] = 200
    elif how == "sides":
        labels = labels[:-1]
    Image.fromarray(labels).convert("RGB" if how == "colours" else "L").save(file)
    if how == "image":
        Image.new("RGB", (7, 60)).save(root / "images" / "train" / f"{number:03d}.png")
        Image.new("L", (7, 60)).save(file)
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("label", "annotations/train/001.png has label 200; classes are 0 to 3"),
        ("sides", "annotations/train/001.png is 61 x 43 pixels, the image 61 x 44"),
        ("colours", "annotations/train/001.png has colours (mode RGB), not one label for each pixel"),
        ("image", "its 60 x 7 pixels are less than a patch of 8"),
        ("cut off", "annotations/train/001.png "),
    ],
)
def test_labels_that_do_not_go_with_their_image_are_named_and_counted(
    how: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = made.make_maps(tmp_path)
    spoil(root, 1, how)
    lenient = cell_of(root, data={"max_corrupt_share": 0.2})
    with caplog.at_level(logging.WARNING):
        assert len(stream(lenient, 6, Share(4, 4), workers=1)) == 24
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"images/train/001.png cannot be used: {said}")
    told = f"such as images/train/001.png: {said}"
    with pytest.raises(DataError, match=f"1 of 6 images .* cannot be used.*{re.escape(told)}"):
        stream(cell_of(root), 6, Share(4, 4))


def test_a_map_of_labels_that_vanishes_is_a_failure_of_the_storage(tmp_path: Path) -> None:
    root = made.make_maps(tmp_path)
    cell = cell_of(root)
    open_data(data_of(root), anew=True)
    (root / "annotations" / "train" / "001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"001\.png"):
        stream(cell, 6, Share(4, 4))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mixup", 0.8),
        ("cutmix", 1.0),
        ("augmentation", "three-augment"),
        ("crop_scale", [0.1, 1.0]),
        ("repeated_augmentation", 3),
        ("random_erasing", 0.25),
        ("test_crop_ratio", 0.9),
    ],
)
def test_augmentation_of_classification_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=f"recipe.{key}: is for classification, not segmentation"):
        cell_of(tmp_path, **{f"recipe__{key}": value})


def test_augmentation_of_dense_tasks_is_refused_elsewhere(tmp_path: Path) -> None:
    folder = {"name": "image-folder", "path": "x", "classes": 3, "train_images": 9}
    with pytest.raises(StudyError, match=r"recipe.resize_range: is for segmentation and detection; use crop_scale"):
        small_study(data=folder, recipe__resize_range=[0.5, 2.0])
    with pytest.raises(StudyError, match=r"recipe.resize_range: the scenes of digits are drawn"):
        small_study(recipe__resize_range=[0.5, 2.0])
    with pytest.raises(StudyError, match=r"recipe.resize_range: \[2, 0.5\] must not fall"):
        cell_of(tmp_path, recipe__resize_range=[2.0, 0.5])
    with pytest.raises(StudyError, match=r"recipe.resize_range: up to 2 times the input size"):
        made.dense_study(tmp_path, "coco-format", recipe__resize_range=[0.5, 2.0])
    with pytest.raises(StudyError, match=r"data.longest_side: unknown key"):
        cell_of(tmp_path, data={"longest_side": 50})


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_maps_of_few_bits_are_read_as_they_are_stored(bits: int, tmp_path: Path) -> None:
    root = made.make_maps(tmp_path)
    sides = made.sides_of(0)
    stored = np.arange(sides[0] * sides[1]).reshape(sides) % min(2**bits, made.CLASSES)
    file = root / "annotations" / "train" / "000.png"
    grey = Image.fromarray((stored * (255 // (2**bits - 1))).astype(np.uint8))
    if bits == 1:
        grey.convert("1", dither=Image.Dither.NONE).save(file)
    else:
        file.write_bytes(grey_png(stored, bits))
    assert torch.equal(open_data(data_of(root), anew=True).train.example(0)[1], torch.from_numpy(stored))


def grey_png(values: NDArray[Any], bits: int) -> bytes:
    """A grey image of 2 or 4 bits, which Pillow reads and does not write."""
    digits = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(digits.reshape(len(values), -1).astype(bool), axis=1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    parts = (b"IHDR" + header, b"IDAT" + zlib.compress(content), b"IEND")
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_an_ignored_label_is_no_class(tmp_path: Path) -> None:
    place = {"name": "segmentation-folder", "path": "x", "train_images": 1}
    for classes, zero in ((256, False), (255, True)):
        with pytest.raises(ValidationError, match=r"ignored_label: 255 is the number of a class; .* such as 256"):
            parse_data({**place, "classes": classes, "zero_is_unlabelled": zero})
    for classes, zero in ((255, False), (254, True)):
        assert parse_data({**place, "classes": classes, "zero_is_unlabelled": zero}).classes == classes
