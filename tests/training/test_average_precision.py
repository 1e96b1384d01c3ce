"""Average precision is pycocotools', of boxes and of masks."""

import contextlib
import io
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pycocotools import mask as reference_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scaling.data.masks import decoded_masks, encoded_masks
from scaling.data.pasting import pasted_masks
from scaling.scenes import Detections, Instances
from scaling.training.average_precision import AveragePrecision, Precision

SIDES, CLASSES, CELLS = (60, 80), 3, 12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(boxes: list[list[float]], classes: list[int], number: int = 0, crowd: list[bool] | None = None) -> Instances:
    """Things that fill their boxes, of whole pixels."""
    masks = torch.zeros(len(boxes), *SIDES, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = True
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(classes, dtype=torch.long),
        masks,
        torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool),
        sides=SIDES,
        image=number,
        original_sides=SIDES,
    )


def perfect(known: Instances, shift: float = 0.0) -> Detections:
    count = len(known)
    return Detections(
        known.boxes + torch.tensor([shift, 0, shift, 0]),
        torch.linspace(1, 0.5, count),
        known.classes,
        torch.ones(count, CELLS, CELLS),
    )


def nothing() -> Detections:
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), torch.zeros(0, CELLS, CELLS))


def scenes() -> list[Instances]:
    return [
        image([[10, 10, 50, 40], [2, 30, 30, 58], [40, 5, 78, 30]], [0, 1, 2], 7),
        image([], [], 8),
        image([[5, 5, 45, 45]], [1], 9),
    ]


def precision(known: list[Instances], found: list[Detections], batch: int = 1) -> Precision:
    result = AveragePrecision(CLASSES)
    for start in range(0, len(known), batch):
        result.update(known[start : start + batch], found[start : start + batch])
    return result.compute()


def reference(known: list[Instances], found: list[Detections]) -> Precision:
    """By pycocotools, from masks that are pasted here without hurry."""
    images, truth, results = [], [], []
    for number, (here, there) in enumerate(zip(known, found, strict=True)):
        height, width = here.original_sides
        images.append({"id": number, "height": height, "width": width})
        for thing in range(len(here)):
            mask = reference_masks.encode(np.asfortranarray(here.masks[thing].numpy().astype(np.uint8)))
            left, top, right, bottom = here.boxes[thing].tolist()
            truth.append({
                "id": len(truth) + 1, "image_id": number, "category_id": int(here.classes[thing]),
                "bbox": [left, top, right - left, bottom - top], "area": float(reference_masks.area(mask)),
                "iscrowd": int(here.crowd[thing]), "segmentation": mask,
            })  # fmt: skip
        for thing in range(len(there)):
            box = there.boxes[thing].double().numpy()
            left, top, right, bottom = np.clip(box, 0, [width, height, width, height]).tolist()
            results.append({
                "id": len(results) + 1, "image_id": number, "category_id": int(there.classes[thing]), "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top], "score": float(there.scores[thing]),
                "area": (right - left) * (bottom - top),
                "segmentation": slowly_pasted(there.masks[thing].numpy(), [left, top, right, bottom], (height, width)),
            })  # fmt: skip
    categories = [{"id": number, "name": str(number)} for number in range(CLASSES)]
    values: list[float | None] = []
    with contextlib.redirect_stdout(io.StringIO()):
        known_set, found_set = sets = [COCO(), COCO()]
        for each, annotations in zip(sets, (truth, results), strict=True):
            each.dataset = cast("Any", {"images": images, "annotations": annotations, "categories": categories})
            each.createIndex()
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(known_set, found_set, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            values += [None if value < 0 else float(value) for value in evaluation.stats[:3]]
    return Precision(*values)


def slowly_pasted(cells: np.ndarray, box: list[float], sides: tuple[int, int]) -> dict[str, Any]:
    """Every pixel of the image by itself, by its neighbours among the cells."""
    left, top, right, bottom = box
    inside = np.zeros(sides, np.uint8)
    for row in range(sides[0]):
        for column in range(sides[1]):
            if left <= column + 0.5 < right and top <= row + 0.5 < bottom:
                x = (column + 0.5 - left) / (right - left) * len(cells) - 0.5
                y = (row + 0.5 - top) / (bottom - top) * len(cells) - 0.5
                value = 0.0
                for across in (int(np.floor(x)), int(np.floor(x)) + 1):
                    for down in (int(np.floor(y)), int(np.floor(y)) + 1):
                        weight = (1 - abs(x - across)) * (1 - abs(y - down))
                        value += weight * cells[np.clip(down, 0, len(cells) - 1), np.clip(across, 0, len(cells) - 1)]
                inside[row, column] = value >= 0.5
    return dict(reference_masks.encode(np.asfortranarray(inside)))


def compare(here: Precision, there: Precision) -> None:
    for name in Precision.__slots__:
        assert getattr(here, name) == pytest.approx(getattr(there, name), abs=1e-6), name


def random_scene(seed: int) -> tuple[Instances, Detections]:
    """Things, and detections near them and elsewhere, with blurred masks."""
    random = generator(seed)
    count = seed % 5

    def boxes(number: int) -> torch.Tensor:
        corner = torch.rand(number, 2, generator=random) * torch.tensor([50.0, 30.0])
        return torch.cat([corner, corner + 6 + torch.rand(number, 2, generator=random) * 24], 1)

    classes = torch.randint(0, CLASSES, (count,), generator=random)
    crowd = [bool(seed % 7 == 3)] + [False] * (count - 1)
    known = image(boxes(count).round().tolist(), classes.tolist(), seed, crowd[:count])
    near = known.boxes + torch.randn(count, 4, generator=random)
    found = torch.cat([near, near + 1.5, boxes(6)])
    labels = torch.cat([classes, classes, torch.randint(0, CLASSES, (6,), generator=random)])
    rough = torch.rand(len(found), 1, 3, 3, generator=random) * 0.8 + 0.3
    masks = torch.nn.functional.interpolate(rough, size=(CELLS, CELLS), mode="bilinear")[:, 0]
    order = torch.randperm(len(found), generator=random)
    scores = torch.rand(len(found), generator=random).sort(descending=True).values
    return known, Detections(found[order], scores, labels[order], masks[order])


def test_a_perfect_predictor_has_all_of_it() -> None:
    known = scenes()
    found = precision(known, [perfect(each) for each in known])
    assert found == Precision(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("shift", [1.0, 4.0, 8.0, 15.0])
def test_a_shifted_predictor_is_what_pycocotools_says(shift: float) -> None:
    known = scenes()
    found = [perfect(each, shift) for each in known]
    here = precision(known, found)
    compare(here, reference(known, found))
    assert here.box_ap is not None
    assert here.box_ap < 1


@pytest.mark.parametrize("batch", [1, 4])
def test_random_detections_with_crowds_are_what_pycocotools_says(batch: int) -> None:
    known, found = map(list, zip(*map(random_scene, range(24)), strict=True))
    assert any(bool(each.crowd.any()) for each in known)
    here = precision(known, found, batch)
    compare(here, reference(known, found))
    assert 0.02 < (here.box_ap or 0) < 0.98
    assert here.mask_ap != pytest.approx(here.box_ap, abs=1e-3)


def test_what_is_found_in_a_crowd_is_no_mistake() -> None:
    crowd = image([[0, 0, 80, 60], [10, 10, 30, 30]], [0, 0], 1, [True, False])
    found = Detections(
        torch.tensor([[40.0, 20, 60, 40], [10, 10, 30, 30]]),
        torch.tensor([0.9, 0.8]),
        torch.zeros(2, dtype=torch.long),
        torch.ones(2, CELLS, CELLS),
    )
    assert precision([crowd], [found]).box_ap == 1.0
    assert precision([replace(crowd, crowd=torch.tensor([False, False]))], [found]).box_ap != 1.0


def test_no_detection_is_0_and_nothing_to_find_is_missing() -> None:
    known = scenes()
    assert precision(known, [nothing()] * 3) == Precision(*[0.0] * 6)
    empty = image([], [])
    assert precision([empty], [nothing()]) == Precision(*[None] * 6)
    assert precision([empty], [perfect(known[0])]) == Precision(*[None] * 6)


def test_detections_of_a_resized_image_are_scored_in_the_stored_one() -> None:
    """Twice as large in the batch, with padding; the truth is of annotations, or of what is in the batch."""
    known = scenes()[0]
    large = replace(
        known,
        boxes=known.boxes * 2,
        masks=torch.nn.functional.pad(known.masks.repeat_interleave(2, 1).repeat_interleave(2, 2), (0, 16, 0, 8)),
        sides=(120, 160),
    )
    found = perfect(large)
    assert precision([large], [found]).mask_ap == 1.0
    annotations = tuple(
        {"category_id": int(number), "bbox": [0.0, 0.0, 5.0, 5.0], "area": 25.0, "iscrowd": 0, "segmentation": mask}
        for number, mask in zip(known.classes, encoded_masks(known.masks), strict=True)
    )
    split = precision([replace(large, annotations=annotations)], [found])
    assert (split.box_ap, split.mask_ap) == (0.0, 1.0)


def test_polygons_and_uncompressed_runs_are_understood() -> None:
    known = image([[10, 10, 30, 30], [40, 20, 60, 50]], [0, 1])
    runs = [0] * SIDES[0] * SIDES[1]
    flat = known.masks[1].T.flatten().int().tolist()
    assert len(runs) == len(flat)
    changes = [0, *(place for place in range(1, len(flat)) if flat[place] != flat[place - 1]), len(flat)]
    counts = np.diff(changes).tolist()
    segmentations = [[[10, 10, 30, 10, 30, 30, 10, 30]], {"size": list(SIDES), "counts": counts}]
    annotations = tuple(
        {
            "category_id": number,
            "bbox": [1.0, 1.0, 2.0, 2.0],
            "area": 400.0,
            "iscrowd": 0,
            "segmentation": segmentations[number],
        }
        for number in range(2)
    )
    assert precision([replace(known, annotations=annotations)], [perfect(known)]).mask_ap == 1.0


def test_computing_changes_nothing_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    known, found = map(list, zip(*map(random_scene, range(12)), strict=True))
    result = AveragePrecision(CLASSES)
    result.update(known[:5], found[:5])
    assert result.compute() == precision(known[:5], found[:5])
    result.update(known[5:], found[5:])
    assert result.compute() == precision(known, found)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "box", [[0.0, 0.0, 80.0, 60.0], [3.2, 4.6, 40.7, 41.5], [5.1, 5.1, 5.3, 5.3], [7.0, 7.0, 7.0, 7.0]]
)
def test_masks_are_pasted_by_the_nearest_cells(box: list[float]) -> None:
    cells = torch.rand(1, CELLS, CELLS, generator=generator(1))
    (fast,) = pasted_masks(cells, torch.tensor([box]), SIDES)
    slow = slowly_pasted(cells[0].numpy(), box, SIDES)
    assert torch.equal(decoded_masks([fast], SIDES), decoded_masks([slow], SIDES))


def test_masks_at_the_edges_of_an_image_end_there() -> None:
    """Boxes with up to four sides on the image's edges, some of them full to the corners."""
    random, count = generator(2), 40
    height, width = SIDES
    extent = torch.tensor([width, height, width, height])
    boxes = (torch.rand(count, 2, 2, generator=random).sort(1).values.flatten(1) * extent).round()
    on_edge = torch.rand(count, 4, generator=random) < 0.6
    boxes = torch.where(on_edge, extent * torch.tensor([0, 0, 1, 1]), boxes)
    cells = torch.rand(count, CELLS, CELLS, generator=random) + 0.2
    cells[::3] = 1
    fast = pasted_masks(cells, boxes, SIDES)
    slow = [slowly_pasted(mask.numpy(), box.tolist(), SIDES) for mask, box in zip(cells, boxes, strict=True)]
    assert [one["counts"] for one in fast] == [one["counts"] for one in slow]


@pytest.mark.gpu
def test_what_is_on_a_gpu_scores_the_same() -> None:
    known, found = map(list, zip(*map(random_scene, range(8)), strict=True))
    there = [
        Detections(*(value.to("cuda") for value in (each.boxes, each.scores, each.classes, each.masks)))
        for each in found
    ]
    assert precision([each.to("cuda") for each in known], there) == precision(known, found)
