"""Small data sets of segmentation and detection in the formats of large ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scaling.design import Study
from tests.conftest import small_study

TRAIN, TEST, CLASSES = 6, 3, 4
CATEGORIES = {18: "dog", 3: "car", 90: "cup"}  # not in the order of their ids


def sides_of(number: int) -> tuple[int, int]:
    """Height and width of an image; no two are alike."""
    return 40 + 4 * number, 64 - 3 * number


def labels_of(number: int) -> np.ndarray:
    """Quarters of classes 0 to 3, of which one is unlabelled (-1) in every second image."""
    height, width = sides_of(number)
    labels = np.zeros((height, width), np.int64)
    labels[: height // 2, width // 2 :] = 1
    labels[height // 2 :, : width // 2] = 2
    labels[height // 2 :, width // 2 :] = 3
    if number % 2:
        labels[height // 2 :, : width // 2] = -1
    return labels


def coloured(labels: np.ndarray) -> Image.Image:
    """Pixels whose grey tells the class."""
    return Image.fromarray((50 * (labels + 1)).astype(np.uint8)).convert("RGB")


def make_maps(root: Path, ade: bool = False, test: str = "val", first: int = 0, unlabelled: int = 255) -> Path:
    """Images and maps of labels, numbered from `first`."""
    splits = {"training": TRAIN, "validation": TEST} if ade else {"train": TRAIN, test: TEST}
    for split, count in splits.items():
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            labels = labels_of(number)
            coloured(labels).save(root / "images" / split / f"{number:03d}.png")
            stored = np.where(labels < 0, unlabelled, labels + first).astype(np.uint8)
            Image.fromarray(stored).save(root / "annotations" / split / f"{number:03d}.png")
    return root


def thing(number: int, box: tuple[int, int, int, int], category: int = 3, **others: Any) -> dict[str, Any]:
    """An annotation of a rectangle, as a polygon; left, top, width, height."""
    left, top, width, height = box
    corners = [left, top, left + width, top, left + width, top + height, left, top + height]
    return {
        "id": number,
        "image_id": 0,
        "category_id": category,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [corners],
    } | others


def annotations_of(count: int) -> dict[str, Any]:
    """Images of 10, 20, ... as ids; the last has nothing, every second one a crowd beside two things."""
    images, annotations = [], []
    for number in range(count):
        height, width = sides_of(number)
        images.append({"id": 10 * (number + 1), "file_name": f"{number:03d}.png", "height": height, "width": width})
        if number == count - 1:
            continue
        boxes = [((4, 4, 20, 16), 18), ((width - 16, height - 20, 16, 20), 90)]
        for box, category in boxes:
            annotations.append(thing(len(annotations) + 1, box, category, image_id=10 * (number + 1)))
        if number % 2:
            runs = [2 * height, height, (width - 3) * height]  # the third column
            crowd = {"iscrowd": 1, "segmentation": {"size": [height, width], "counts": runs}}
            annotations.append(thing(len(annotations) + 1, (2, 0, 1, height), 3, image_id=10 * (number + 1), **crowd))
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def make_coco(root: Path) -> Path:
    """Images whose things are white."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", TRAIN), ("val", TEST)):
        (root / split).mkdir()
        stored = annotations_of(count)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(stored))
        for image in stored["images"]:
            pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
            for each in stored["annotations"]:
                if each["image_id"] == image["id"] and not each["iscrowd"]:
                    left, top, width, height = each["bbox"]
                    pixels[top : top + height, left : left + width] = 255
            Image.fromarray(pixels).save(root / split / image["file_name"])
    return root


def change(root: Path, split: str, **changes: Any) -> None:
    """Replace parts of an annotation file."""
    file = root / "annotations" / f"{split}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def dense_study(path: Path, name: str, data: dict[str, Any] | None = None, **changes: Any) -> Study:
    """A study of a nano model on a made data set."""
    counts = {"segmentation-folder": CLASSES, "coco-format": len(CATEGORIES)}
    about = {"name": name, "path": str(path), "classes": counts[name], "train_images": TRAIN}
    base = {"grid__patch_sizes": [8], "grid__input_sizes": [32]}
    return small_study(**({"data": about | (data or {})} | base | changes))
