"""Boxes and masks of the digits in drawn scenes.

Shapes: B scenes, K pasted digits, N visible ones, S, R and C sides.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scaling.scenes import Instances


def digit_instances(owner_BSS: Int[Tensor, "B S S"], classes_BK: Int[Tensor, "B K"], first: int = 0) -> list[Instances]:
    """The digits of each scene, from which digit (from 1; 0 for none) each pixel shows; hidden ones are left out.

    Args:
        owner_BSS: what each pixel shows.
        classes_BK: of the pasted digits.
        first: number of the first scene in its split.
    """
    side, pasted = owner_BSS.shape[1], classes_BK.shape[1]
    masks = owner_BSS[:, None] == torch.arange(1, pasted + 1)[:, None, None]
    columns, rows = masks.any(2), masks.any(3)
    visible = columns.any(2)
    counts = visible.sum(1).tolist()
    boxes = _tight_boxes(columns[visible], rows[visible]).split(counts)
    found = zip(boxes, classes_BK[visible].long().split(counts), masks[visible].split(counts), strict=True)
    return [
        Instances(
            *(box, classes, mask, torch.zeros(len(box), dtype=torch.bool)),
            sides=(side, side),
            image=first + index,
            original_sides=(side, side),
        )
        for index, (box, classes, mask) in enumerate(found)
    ]


def _tight_boxes(columns: Bool[Tensor, "N S"], rows: Bool[Tensor, "N S"]) -> Float[Tensor, "N 4"]:
    """Left, top, right, bottom around what is set."""
    edges = [(line.int().argmax(1), line.shape[1] - line.flip(1).int().argmax(1)) for line in (columns, rows)]
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], 1).float()


def resize_instances(instances: Sequence[Instances], sides: tuple[int, int]) -> list[Instances]:
    """Those of images of equal sides, at others: boxes scaled, masks of the nearest pixels, padding removed."""
    if not instances or instances[0].sides == sides == tuple(instances[0].masks.shape[1:]):
        return list(instances)
    height, width = instances[0].sides
    counts = [len(each) for each in instances]
    scale = torch.tensor([sides[1] / width, sides[0] / height]).repeat(2)
    masks = torch.cat([each.masks[:, :height, :width] for each in instances])
    resized = F.interpolate(masks[None].to(torch.uint8), size=sides, mode="nearest-exact")[0].bool().split(counts)
    return [
        replace(each, boxes=each.boxes * scale, masks=mask, sides=sides)
        for each, mask in zip(instances, resized, strict=True)
    ]
