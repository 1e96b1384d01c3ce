"""Random images with labels, for steps that are taken to be timed.

Shapes: N things in an image, S and W sides.
"""

import torch

from scaling.cost import Head
from scaling.design import Design
from scaling.scenes import Instances, Scenes

THINGS = 7  # of a training image of COCO: 860,001 in 118,287 images


def random_scenes(design: Design, head: Head, count: int, device: str, sides: tuple[int, int] | None = None) -> Scenes:
    """Images and labels of a head, drawn where they are needed; of other sides than a design's input if given.

    Zeros would cost a GPU less power, and so run faster.
    """
    sides = sides or design.padded_sides
    images = torch.randn(count, 3, *sides, device=device)
    if head.task == "detection":
        return Scenes(images, [_random_things(sides, head.classes, device) for _ in range(count)])
    label_sides = (head.label_sides or design.input_sides) if head.task == "segmentation" else ()
    return Scenes(images, torch.randint(head.classes, (count, *label_sides), device=device))


def _random_things(sides: tuple[int, int], classes: int, device: str) -> Instances:
    """Boxes from an eighth to a half of an image's sides, full of their things."""
    height, width = sides
    extent = torch.tensor([width, height], device=device)
    size = extent * torch.empty(THINGS, 2, device=device).uniform_(1 / 8, 1 / 2)
    corner = (extent - size) * torch.rand(THINGS, 2, device=device)
    boxes = torch.cat([corner, corner + size], 1)
    left, top, right, bottom = (edge[:, None, None] for edge in boxes.unbind(1))
    x, y = torch.arange(width, device=device) + 0.5, (torch.arange(height, device=device) + 0.5)[:, None]
    masks = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    none = torch.zeros(THINGS, dtype=torch.bool, device=device)
    return Instances(boxes, torch.randint(classes, (THINGS,), device=device), masks, none, sides, 0, sides)
