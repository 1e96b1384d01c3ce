"""Average precision of boxes and masks as COCO defines it, in pixels of the stored images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from scaling.data.digit_instances import resize_instances
from scaling.data.masks import encoded_segmentation, exact_annotations
from scaling.data.pasting import pasted_masks
from scaling.scenes import Detections, Instances

OVERLAPS = (None, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Precision:
    """Means over classes; over the overlaps 0.5 to 0.95, at 0.5 and at 0.75. None where there is nothing to find."""

    box_ap: float | None
    box_ap50: float | None
    box_ap75: float | None
    mask_ap: float | None
    mask_ap50: float | None
    mask_ap75: float | None


class AveragePrecision:
    """Gathers what was to be found and what was found, image by image.

    Of an image with annotations these are the truth, with numbers of classes from 0 as categories; of another one its
    boxes and masks, brought to the stored image. Detections of a crowd are no mistakes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def update(self, instances: Sequence[Instances], detections: Sequence[Detections]) -> None:
        """Add the images of a batch."""
        for known, found in zip(instances, detections, strict=True):
            number = len(self._images)
            height, width = known.original_sides
            self._images.append({"id": number, "height": height, "width": width})
            self._add(self._truth, number, _truth(known))
            self._add(self._found, number, _results(known, found))

    def compute(self) -> Precision:
        """The precision over all images so far."""
        classes = [{"id": number, "name": str(number)} for number in range(self.classes)]
        known, found = (
            COCO({"images": self._images, "annotations": each, "categories": classes}, print_function=_silent)
            for each in (self._truth, self._found)
        )
        return Precision(*_three(known, found, "bbox"), *_three(known, found, "segm"))

    @staticmethod
    def _add(rows: list[dict[str, Any]], image: int, new: Iterable[dict[str, Any]]) -> None:
        for each in new:  # numbered from 1: the library takes 0 for no match
            rows.append(each | {"image_id": image, "id": len(rows) + 1})


def _truth(known: Instances) -> Iterable[dict[str, Any]]:
    """What there is to find, with masks as run lengths in the stored image."""
    if known.annotations is None:
        return exact_annotations(resize_instances([known.to("cpu")], known.original_sides)[0])
    sides = known.original_sides
    return [
        each | {"segmentation": encoded_segmentation(each["segmentation"], sides, sides)} for each in known.annotations
    ]


def _results(known: Instances, found: Detections) -> list[dict[str, Any]]:
    """Detections as COCO's format has them, in pixels of the stored image."""
    (height, width), (rows, columns) = known.original_sides, known.sides
    scale = torch.tensor([width / columns, height / rows] * 2)
    most = torch.tensor([width, height] * 2, dtype=torch.float32)
    boxes = torch.minimum((found.boxes.detach().float().cpu() * scale).clamp(min=0), most)
    sizes = (boxes[:, 2:] - boxes[:, :2]).double()
    masks = pasted_masks(found.masks.detach(), boxes, known.original_sides)
    values = zip(
        *(boxes[:, :2].double().tolist(), sizes.tolist(), found.classes.tolist(), found.scores.tolist(), masks),
        strict=True,
    )
    return [
        {
            "category_id": number,
            "bbox": [*corner, *size],
            "area": size[0] * size[1],
            "iscrowd": 0,
            "score": score,
            "segmentation": mask,
        }
        for corner, size, number, score, mask in values
    ]


def _three(known: COCO, found: COCO, kind: Literal["bbox", "segm"]) -> Iterator[float | None]:
    """AP over all overlaps, at 0.5 and at 0.75."""
    evaluation = COCOeval_faster(known, found, kind, print_function=_silent, separate_eval=True)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # of things of all sizes
    for overlap in OVERLAPS:
        chosen = slice(None) if overlap is None else np.isclose(evaluation.params.iouThrs, overlap)
        of_classes = precision[chosen]
        yield float(of_classes[of_classes > -1].mean()) if (of_classes > -1).any() else None


def _silent(*_: object) -> None:
    """The library says what it does."""
