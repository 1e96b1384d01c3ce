"""Masks of pixels, and what COCO's format stores of them: polygons, or lengths of runs down the columns.

Shapes: N masks, S and W sides.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from faster_coco_eval.core import mask as run_lengths
from jaxtyping import Bool
from torch import Tensor

from scaling.scenes import Instances

Sides = tuple[int, int]


def encoded_masks(masks: Bool[Tensor, "N S W"]) -> list[dict[str, Any]]:
    """Their run lengths in COCO's compressed form."""
    columns = masks.to(torch.uint8).transpose(1, 2).contiguous().numpy().transpose(2, 1, 0)  # as the format counts
    return run_lengths.encode(columns) if len(masks) else []  # pyright: ignore[reportReturnType]


def encoded_segmentation(segmentation: Any, sides: Sides, stored_sides: Sides) -> dict[str, Any]:
    """Run lengths of what an annotation says, in an image of `stored_sides` that was resized to `sides`.

    Raises:
        ValueError, RuntimeError or TypeError: for what is neither polygons nor run lengths of such an image.
    """
    if isinstance(segmentation, list):
        scale = np.array([sides[1] / stored_sides[1], sides[0] / stored_sides[0]])
        polygons = [(np.asarray(one, np.float64).reshape(-1, 2) * scale).ravel().tolist() for one in segmentation]
        parts = run_lengths.frPyObjects(polygons, *sides)
        if not parts:
            raise ValueError("has no polygon")
        return run_lengths.merge(parts)  # pyright: ignore[reportArgumentType]
    if tuple(segmentation["size"]) != stored_sides:
        raise ValueError(f"is of {segmentation['size']} pixels")
    stored: Any = segmentation
    if isinstance(segmentation["counts"], list):
        stored = run_lengths.frPyObjects(segmentation, *stored_sides)
    elif isinstance(segmentation["counts"], str):
        stored = segmentation | {"counts": segmentation["counts"].encode()}
    if sides == stored_sides:
        return stored
    mask = torch.from_numpy(np.ascontiguousarray(run_lengths.decode(stored)))
    resized = F.interpolate(mask[None, None], size=sides, mode="nearest-exact")[0]
    return encoded_masks(resized.bool())[0]


def decoded_masks(encoded: list[dict[str, Any]], sides: Sides) -> Bool[Tensor, "N S W"]:
    """The masks of run lengths, all of the same sides."""
    if not encoded:
        return torch.zeros(0, *sides, dtype=torch.bool)
    # Decoded with the masks side by side as the last, slowest axis: the transpose below is a view.
    return torch.from_numpy(run_lengths.decode(encoded).transpose(2, 0, 1)).bool()


def exact_annotations(instances: Instances) -> tuple[dict[str, Any], ...]:
    """Boxes and masks of an image as annotations in COCO's format, of the sides that they have here."""
    corners = instances.boxes.double()
    sizes = (corners[:, 2:] - corners[:, :2]).tolist()
    encoded = encoded_masks(instances.masks)
    areas = run_lengths.area(encoded).tolist() if encoded else []
    rows = zip(
        *(corners[:, :2].tolist(), sizes, areas, instances.classes.tolist(), instances.crowd.tolist(), encoded),
        strict=True,
    )
    return tuple(
        {
            "category_id": number,
            "bbox": [*corner, *size],
            "area": area,
            "iscrowd": int(crowd),
            "segmentation": rle,
        }
        for corner, size, area, number, crowd, rle in rows
    )
