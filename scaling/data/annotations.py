"""Annotations in COCO's format: read from their file, checked, and made instances of an image.

Shapes: N things, S and W sides.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import torch
from faster_coco_eval.core import mask as run_lengths
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # typing's does not do for pydantic before Python 3.12

from scaling.data.images import DataError, UnreadableImageError
from scaling.data.masks import Sides, decoded_masks, encoded_segmentation
from scaling.scenes import Instances

TOLERANCE_PIXELS, TOLERANCE_SHARE = 2.0, 0.1  # of a box's side: edges of a mask and of its box may differ by either
THINNEST = 0.01  # pixels: single precision has no area for thinner boxes at the far edge of an image
BEYOND = 10  # sides of its image that a polygon may reach beyond it; drawing takes memory for all of it
OUTSIDE, MASKLESS, DIFFERENT, HOMELESS = (
    "whose box has no area inside its image",
    "without a mask that can be read",
    "whose mask and box differ",
    "of images that are not listed",
)


class RunLengths(TypedDict):
    """A mask as run lengths down the columns, beginning with 0; a text where they are compressed."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str | list[int]


class StoredAnnotation(TypedDict):
    """One thing, or a crowd; boxes are left, top, width, height."""

    id: int
    image_id: int
    category_id: int
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    segmentation: list[list[FiniteFloat]] | RunLengths
    area: NotRequired[FiniteFloat]
    iscrowd: NotRequired[bool]


class StoredImage(TypedDict):
    """An image, whose file is below the folder of images."""

    id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]


class StoredCategory(TypedDict):
    """A class."""

    id: int
    name: str


class StoredFile(TypedDict):
    """What an annotation file must have; what else it has is not read."""

    images: list[StoredImage]
    annotations: Annotated[list[StoredAnnotation], Field(min_length=1)]
    categories: Annotated[list[StoredCategory], Field(min_length=1)]


@dataclass(frozen=True)
class AnnotatedImage:
    """What is known of a stored image; categories are numbers of classes from 0."""

    index: int
    sides: Sides
    annotations: tuple[dict[str, Any], ...]
    usable: tuple[bool, ...]
    """Which of them have a box and a mask to learn from."""

    @property
    def teaches(self) -> bool:
        """Whether there is anything in it to detect."""
        return any(good and not each["iscrowd"] for each, good in zip(self.annotations, self.usable, strict=True))


def read_annotations(path: Path) -> tuple[StoredFile, str]:
    """An annotation file, and the SHA-256 of its content.

    Raises:
        DataError: in one line, for a file that is missing or not of COCO's format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"data.path: {path} cannot be read ({error.strerror or error})") from None
    try:
        stored = TypeAdapter(StoredFile).validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        if problem["type"] == "json_invalid":
            raise DataError(
                f"data.path: {path} is not JSON ({problem['msg'].removeprefix('Invalid JSON: ')})"
            ) from None
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
        message = problem["msg"][0].lower() + problem["msg"][1:]
        raise DataError(f"data.path: {path} is not of COCO's format: {place or 'the file'}: {message}") from None
    _check_ids(path, stored)
    return stored, hashlib.sha256(content).hexdigest()


def _check_ids(path: Path, stored: StoredFile) -> None:
    for kind in ("images", "categories"):
        numbers = [each["id"] for each in stored[kind]]
        if len({*numbers}) < len(numbers):
            twice = next(number for index, number in enumerate(numbers) if number in numbers[:index])
            raise DataError(f"data.path: {path}: {kind} have the id {twice} twice")
    known = {each["id"] for each in stored["categories"]}
    for each in stored["annotations"]:
        if each["category_id"] not in known:
            raise DataError(
                f"data.path: {path}: annotation {each['id']} is of category {each['category_id']}, which is not among "
                f"the {len(known)} categories"
            )


def annotated_images(stored: StoredFile) -> tuple[list[AnnotatedImage], dict[str, list[int]]]:
    """The images of a file in its order, and the ids of annotations that cannot be used, by what is wrong."""
    numbers = {number: index for index, number in enumerate(sorted(each["id"] for each in stored["categories"]))}
    sides = {each["id"]: (each["height"], each["width"]) for each in stored["images"]}
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    usable: dict[int, list[bool]] = defaultdict(list)
    wrong: dict[str, list[int]] = defaultdict(list)
    for each in stored["annotations"]:
        image = each["image_id"]
        fault = _fault(each, sides[image]) if image in sides else HOMELESS
        if fault is not None:
            wrong[fault].append(each["id"])
        if fault in (HOMELESS, MASKLESS):
            continue
        usable[image].append(fault is None)
        complete = {"area": each["bbox"][2] * each["bbox"][3]} | each
        complete |= {"category_id": numbers[each["category_id"]], "iscrowd": int(each.get("iscrowd", False))}
        of_image[image].append(complete)
    images = [
        AnnotatedImage(index, sides[number], tuple(of_image[number]), tuple(usable[number]))
        for index, number in enumerate(sides)
    ]
    return images, dict(wrong)


def _fault(annotation: StoredAnnotation, sides: Sides) -> str | None:
    """Why nothing can be learned from an annotation."""
    try:
        extent = _extent(annotation["segmentation"], sides)
    except (ValueError, RuntimeError, TypeError, KeyError):
        return MASKLESS
    left, top, right, bottom = box = clipped(annotation["bbox"], sides)
    if right - left < THINNEST or bottom - top < THINNEST:
        return OUTSIDE
    tolerances = [max(TOLERANCE_PIXELS, TOLERANCE_SHARE * side) for side in (right - left, bottom - top)] * 2
    apart = (abs(here - there) > most for here, there, most in zip(extent, box, tolerances, strict=True))
    return DIFFERENT if any(apart) else None


def clipped(box: list[float], sides: Sides) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a box within its image, from left, top, width, height."""
    left, top, width, height = box
    rows, columns = sides
    return max(left, 0.0), max(top, 0.0), min(left + width, float(columns)), min(top + height, float(rows))


def _extent(segmentation: list[list[float]] | RunLengths, sides: Sides) -> tuple[float, float, float, float]:
    """The box around a mask; raises ValueError or RuntimeError where there is none."""
    if isinstance(segmentation, list):
        if not segmentation or any(len(one) < 6 or len(one) % 2 for one in segmentation):
            raise ValueError
        across, down = ([value for one in segmentation for value in one[axis::2]] for axis in (0, 1))
        if max(map(abs, across)) > BEYOND * sides[1] or max(map(abs, down)) > BEYOND * sides[0]:
            raise ValueError
        return clipped([min(across), min(down), max(across) - min(across), max(down) - min(down)], sides)
    encoded = encoded_segmentation(segmentation, sides, sides)
    if not run_lengths.decode(encoded).any():  # which also fails for runs that do not fill the image
        raise ValueError
    return clipped(np.asarray(run_lengths.toBbox(encoded), np.float64).tolist(), sides)


def instances_of(known: AnnotatedImage, sides: Sides, keep_annotations: bool) -> Instances:
    """What can be used of an image that was resized to these sides."""
    usable = [each for each, good in zip(known.annotations, known.usable, strict=True) if good]
    scale = torch.tensor([sides[1] / known.sides[1], sides[0] / known.sides[0]] * 2)
    boxes = torch.tensor([clipped(each["bbox"], known.sides) for each in usable]).view(-1, 4) * scale
    try:
        encoded = [encoded_segmentation(each["segmentation"], sides, known.sides) for each in usable]
        masks = decoded_masks(encoded, sides)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UnreadableImageError(f"a mask of it: {error}") from None
    return Instances(
        boxes.float(),
        torch.tensor([each["category_id"] for each in usable], dtype=torch.long),
        masks,
        torch.tensor([bool(each["iscrowd"]) for each in usable], dtype=torch.bool),
        sides=sides,
        image=known.index,
        original_sides=known.sides,
        annotations=known.annotations if keep_annotations else None,
    )
