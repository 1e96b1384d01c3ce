"""Scenes of coloured squares and discs, and small detectors for them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import masks_to_boxes

from scaling.design import Design, Detector
from scaling.models import CascadeMaskRCNN, build_model
from scaling.scenes import Detections, Instances

SIDE = 48
CLASSES = 2
SMALL = {"strides": (2, 4, 8), "proposals": 64, "sampled_regions": 32}


def detector(name: str = "deit-nano/8@48+cascade", **changes: object) -> CascadeMaskRCNN:
    """A nano detector of two classes, from the same weights each time."""
    torch.manual_seed(0)
    settings = Detector.model_validate(SMALL | changes)
    model = build_model(Design.parse(name), CLASSES, position_init="sincos", detector=settings)
    assert isinstance(model, CascadeMaskRCNN)
    return model


def things(
    boxes: Sequence[Sequence[float]],
    classes: list[int] | None = None,
    crowd: list[bool] | None = None,
    sides: tuple[int, int] = (SIDE, SIDE),
    canvas: tuple[int, int] = (SIDE, SIDE),
) -> Instances:
    """Instances whose masks fill their boxes; the canvas is the padded image."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    y, x = torch.arange(canvas[0])[:, None] + 0.5, torch.arange(canvas[1]) + 0.5
    left, top, right, bottom = corners[:, :, None, None].unbind(1)
    return Instances(
        corners,
        torch.tensor(classes or [0] * len(corners), dtype=torch.long),
        (x > left) & (x < right) & (y > top) & (y < bottom),
        torch.tensor(crowd or [False] * len(corners), dtype=torch.bool),
        sides,
        image=0,
        original_sides=sides,
    )


def squares_and_discs(count: int, in_each: int = 3) -> tuple[Tensor, list[Instances]]:
    """Images with things of 8 to 16 pixels that do not overlap; squares are of class 0, discs of class 1."""
    random = torch.Generator().manual_seed(0)
    made = [_scene(random, in_each) for _ in range(count)]
    return torch.stack([image for image, _ in made]), [one for _, one in made]


def _scene(random: torch.Generator, count: int) -> tuple[Tensor, Instances]:
    image, masks, classes = 0.1 * torch.randn(3, SIDE, SIDE, generator=random), [], []
    y, x = torch.arange(SIDE)[:, None] + 0.5, torch.arange(SIDE) + 0.5
    while len(masks) < count:
        width, height = torch.randint(8, 17, (2,), generator=random).tolist()
        left, top = (int(torch.randint(0, SIDE - side + 1, (), generator=random)) for side in (width, height))
        across, along = (x - left - width / 2) / (width / 2), (y - top - height / 2) / (height / 2)
        disc = len(masks) % 2
        mask = across**2 + along**2 <= 1 if disc else (across.abs() < 1) & (along.abs() < 1)
        if any((mask & other).any() for other in masks):
            continue
        image[:, mask] += torch.tensor([[-1.0], [1.5], [0.5]] if disc else [[1.5], [-1.0], [0.0]])
        masks.append(mask)
        classes.append(disc)
    boxes = masks_to_boxes(torch.stack(masks))
    boxes[:, 2:] += 1
    known = things(boxes.tolist(), classes)
    return image, Instances(
        known.boxes, known.classes, torch.stack(masks), known.crowd, known.sides, 0, known.original_sides
    )


def pasted(found: Detections, side: int = SIDE) -> Tensor:
    """Masks of detections in the image: bilinear between the centres of their pixels, 0.5 and more belongs."""
    centres = torch.arange(side) + 0.5
    left, top, right, bottom = found.boxes[:, :, None].unbind(1)
    across, along = 2 * (centres - left) / (right - left) - 1, 2 * (centres - top) / (bottom - top) - 1
    grid = torch.stack([across[:, None].expand(-1, side, -1), along[:, :, None].expand(-1, -1, side)], -1)
    values = F.grid_sample(found.masks[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return (values >= 0.5) & (grid.abs() <= 1).all(-1)
