"""How much of a test is not the model: suppressing boxes, pasting masks, average precision, IoU; for benchmarks.heads.

Models are untrained. On digits such a detector finds 100 things in nearly every image, which is the most there can be.
For images of COCO's sides the detections are made, since an untrained model of 80 classes finds nothing.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from benchmarks.pages import Table
from scaling.cost import Head
from scaling.data.digits import held_out_scenes
from scaling.design import Design, Detector, DigitsData, Task
from scaling.models import CascadeMaskRCNN
from scaling.models.detection import detector
from scaling.scenes import Detections, Instances, Scenes
from scaling.training.average_precision import AveragePrecision
from scaling.training.building import build_for
from scaling.training.evaluate import evaluate
from scaling.training.synthetic import random_scenes
from scaling.training.trials import PLAIN

Functions = Sequence[tuple[Any, str]]
SCORING: dict[Task, Functions] = {
    "detection": [(detector, "best"), (AveragePrecision, "update"), (AveragePrecision, "compute")],
    "segmentation": [
        (metric, method) for metric in (MulticlassAccuracy, MulticlassJaccardIndex) for method in ("update", "compute")
    ],
}
DIGITS: dict[str, tuple[str, dict[str, Any]]] = {
    "boxes and masks of digits": ("deit-nano/8@48+cascade", {"task": "detection", "canvas": 48, "digits": 4}),
    "labels of digits": ("deit-nano/8@32+linear", {"task": "segmentation", "digits": 3}),
}
FEW = Detector(strides=(2, 4, 8), proposals=64, sampled_regions=32)
DIGIT_IMAGES, BATCH, ROUNDS = 512, 64, 2
SEGMENTERS, LABELLED = ("deit-tiny/16@512+linear", "deit-tiny/16@512+upernet"), 4
COCO, COCO_SIDES, COCO_CLASSES, COCO_IMAGES, FOUND = "deit-base/16@800x1067+cascade", (480, 640), 80, 100, 100


class Clock:
    """Processor seconds inside some functions."""

    seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **others: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments, **others)
            finally:
                self.seconds += time.process_time() - started

        return call


@contextmanager
def clock(functions: Functions) -> Iterator[Clock]:
    found = Clock()
    with ExitStack() as stack:
        for owner, name in functions:
            stack.enter_context(patch.object(owner, name, found.timed(getattr(owner, name))))
        yield found


def tested(what: str, design: Design, head: Head, scenes: Sequence[Scenes]) -> tuple[str, ...]:
    """A whole test, and what of it is scoring."""
    torch.manual_seed(0)
    model = build_for(design, head, PLAIN)
    wholes, parts = [], []
    for _ in range(ROUNDS + 1):
        started = time.process_time()
        with clock(SCORING[head.task]) as scoring:
            result = evaluate(model, scenes, head.classes, head.task, torch.device("cpu"))
        wholes.append((time.process_time() - started) / result.test_images)
        parts.append(scoring.seconds / result.test_images)
    return _row(what, design, sum(map(len, scenes)), wholes[1:], parts[1:])


def _row(what: str, design: Design, images: int, wholes: list[float], parts: list[float]) -> tuple[str, ...]:
    shares = [part / whole for part, whole in zip(parts, wholes, strict=True)]
    milliseconds = (f"{1000 * statistics.median(each):.3g}" for each in (wholes, parts))
    share = f"{statistics.median(shares):.1%} [{min(shares):.1%}, {max(shares):.1%}]"
    return what, str(design), f"{images:,}", *milliseconds, share


def of_digits() -> Iterator[tuple[str, ...]]:
    for what, (name, settings) in DIGITS.items():
        data, design = DigitsData(test_images=DIGIT_IMAGES, **settings), Design.parse(name)
        head = Head(data.classes, design.head, data.label_sides, detector=FEW)
        yield tested(what, design, head, list(held_out_scenes(data, data.canvas, BATCH)))


def of_labels() -> Iterator[tuple[str, ...]]:
    for name in SEGMENTERS:
        design, head = Design.parse(name), Head(150, Design.parse(name).head)
        scenes = [random_scenes(design, head, 1, "cpu") for _ in range(LABELLED)]
        yield tested("labels of 150 classes", design, head, scenes)


def of_coco() -> tuple[str, ...]:
    """The model's part from two images, the score's from many: a forward pass takes many seconds here."""
    torch.manual_seed(0)
    design, head = Design.parse(COCO), Head(COCO_CLASSES, "cascade")
    model = build_for(design, head, PLAIN).eval()
    assert isinstance(model, CascadeMaskRCNN)
    scenes = random_scenes(design, head, 1, "cpu")
    assert not isinstance(scenes.labels, Tensor)
    known = [annotated(replace(scenes.labels[0], original_sides=COCO_SIDES)) for _ in range(COCO_IMAGES)]
    found = [detections(one.sides) for one in known]
    wholes, parts = [], []
    for _ in range(2):
        started = time.process_time()
        with torch.no_grad():
            model.test(scenes.images, known[:1])
        forward, started = time.process_time() - started, time.process_time()
        precision = AveragePrecision(COCO_CLASSES)
        precision.update(known, found)
        precision.compute()
        parts.append((time.process_time() - started) / COCO_IMAGES)
        wholes.append(forward + parts[-1])
    return _row(f"boxes and masks in {COCO_SIDES[0]} x {COCO_SIDES[1]} pixels", design, COCO_IMAGES, wholes, parts)


def annotated(known: Instances) -> Instances:
    """The same with polygons of 40 corners in the boxes, in pixels of the stored image."""
    scale = torch.tensor([known.original_sides[1] / known.sides[1], known.original_sides[0] / known.sides[0]])
    angle = torch.linspace(0, 6.28, 40)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    rows = []
    for box, number in zip(known.boxes, known.classes.tolist(), strict=True):
        corner, size = box[:2] * scale, (box[2:] - box[:2]) * scale
        polygon = corner + size * (circle * torch.empty(40, 1).uniform_(0.5, 1) + 1) / 2
        rows.append({
            "category_id": number, "bbox": [*corner.tolist(), *size.tolist()], "area": float(size.prod()), "iscrowd": 0,
            "segmentation": [polygon.flatten().tolist()],
        })  # fmt: skip
    return replace(known, annotations=tuple(rows))


def detections(sides: tuple[int, int]) -> Detections:
    """As many as there can be, from 1 % to 50 % of the image's long side, with blurred masks."""
    extent = torch.tensor(sides).flip(0)
    size = (max(sides) * torch.exp(torch.empty(FOUND, 2).uniform_(-4.6, -0.7))).minimum(extent)
    corner = (extent - size) * torch.rand(FOUND, 2)
    masks = F.interpolate(torch.rand(FOUND, 1, 4, 4), size=(28, 28), mode="bilinear")[:, 0]
    scores = torch.rand(FOUND).sort(descending=True).values
    return Detections(torch.cat([corner, corner + size], 1), scores, torch.randint(COCO_CLASSES, (FOUND,)), masks)


def shares() -> Table:
    rows = []
    for row in (*of_digits(), *of_labels(), of_coco()):
        rows.append(row)
        print(*row, flush=True)
    heading = "Suppression, masks and scores in a test; target: at most 10 % for boxes and masks"
    return heading, ("test", "design", "images", "whole, ms per image", "of which scoring", "share"), rows
