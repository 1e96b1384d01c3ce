"""Scenes of real handwritten digits: one generator for classification, segmentation and detection.

Shapes: N glyphs, B scenes, P placements, K pasted glyphs, S and R pixels per side.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor

from scaling.data.digit_instances import digit_instances, resize_instances
from scaling.data.masks import exact_annotations
from scaling.design import DigitsData, InputSize, sides_of
from scaling.scenes import Scenes

GLYPH_SIDE = 8
FRAGMENT_SIDE = 4
INK_LEVELS = 16
LABEL_BITS = 4  # ink, label and which of the digits it is share an integer: ink << 4 | label, then << OWNER_BITS
OWNER_BITS = 16
LABEL_INK = 5  # ink (of 16) from which a pixel belongs to its digit; below it is background
CHUNK_SCENES = 256  # drawn at once; small enough for the processor's cache
PLACEMENTS = 16
TEST_SEED = 20_251_120

# Pixel statistics of the scenes, fixed so that every study normalises alike.
PIXEL_MEAN, PIXEL_STD = 0.28, 0.22


@cache
def glyphs(split: str) -> tuple[Int[Tensor, "N 8 8"], Int[Tensor, "N"]]:
    """Ink in 0..16 and digit of each glyph of a split; every third glyph is a test glyph."""
    flat_ink, digit = (torch.from_numpy(np.asarray(values)).int() for values in load_digits(return_X_y=True))
    ink = flat_ink.view(-1, GLYPH_SIDE, GLYPH_SIDE)
    is_test = torch.arange(len(digit)) % 3 == 2
    chosen = is_test if split == "test" else ~is_test
    return ink[chosen], digit[chosen]


def _pasted_keys(ink_BKSS: Tensor, label_BK: Tensor, owner_K: Tensor) -> Tensor:
    """Ink, label and owner in one integer, so that one maximum decides all (more ink is on top)."""
    label_BKSS, owner_KSS = label_BK[..., None, None], owner_K[:, None, None]
    return ((ink_BKSS << LABEL_BITS | label_BKSS) << OWNER_BITS | owner_KSS).flatten(1)


def _anywhere(count: int, pastes: int, side: int, canvas: int, random: torch.Generator) -> Tensor:
    """Corners (2, count, pastes) of squares placed uniformly at random."""
    return torch.randint(0, canvas - side + 1, (2, count, pastes), generator=random)


def _apart(count: int, pastes: int, side: int, canvas: int, random: torch.Generator) -> Tensor:
    """Corners (2, count, pastes) of squares that overlap little: the best of several placements.

    Squares stay anywhere on the canvas; a regular layout would line up with some patch sizes.
    """
    corners = _anywhere(count, PLACEMENTS * pastes, side, canvas, random).unflatten(2, (PLACEMENTS, pastes))
    apart = (corners[..., :, None] - corners[..., None, :]).abs()
    overlap_BPKK = (side - apart).clamp(min=0).prod(0)
    best = overlap_BPKK.sum((-1, -2)).argmin(1)
    return corners[:, torch.arange(count), best]


def _canvas_index(corner: Tensor, side: int, canvas: int) -> Tensor:
    """Flat canvas positions (count, pastes * side * side) of the pixels of squares."""
    row, column = corner[..., None, None]
    offset = torch.arange(side)
    return ((row + offset[:, None]) * canvas + column + offset).flatten(1)


def draw_scenes(data: DigitsData, split: str, count: int, random: torch.Generator, first: int = 0) -> Scenes:
    """Draw `count` scenes at once; the same generator state gives the same images, whatever the task.

    Args:
        data: what a scene holds, and what is asked of it.
        split: whose glyphs.
        count: scenes.
        random: where the draws come from.
        first: number of the first of them in its split.
    """
    ink, digit = glyphs(split)
    size = data.canvas
    chosen = torch.randint(0, len(digit), (count, data.digits), generator=random)
    owners = torch.arange(1, data.digits + 1, dtype=torch.int32)
    keys = [_pasted_keys(ink[chosen], digit[chosen] + 1, owners)]
    places = [_canvas_index(_apart(count, data.digits, GLYPH_SIDE, size, random), GLYPH_SIDE, size)]
    if data.clutter:
        torn = torch.randint(0, len(digit), (count, data.clutter), generator=random)
        row, column = torch.randint(0, GLYPH_SIDE // FRAGMENT_SIDE, (2, count, data.clutter), generator=random)
        quarters = ink.unfold(1, FRAGMENT_SIDE, FRAGMENT_SIDE).unfold(2, FRAGMENT_SIDE, FRAGMENT_SIDE)
        nobody = torch.zeros(data.clutter, dtype=torch.int32)
        keys.append(_pasted_keys(quarters[torn, row, column], torch.zeros_like(torn), nobody))
        corner = _anywhere(count, data.clutter, FRAGMENT_SIDE, size, random)
        places.append(_canvas_index(corner, FRAGMENT_SIDE, size))
    canvas = torch.zeros(count, size * size, dtype=torch.int32)
    canvas.scatter_reduce_(1, torch.cat(places, 1), torch.cat(keys, 1).int(), "amax")
    pasted_BSS = (canvas >> OWNER_BITS).view(count, size, size)
    ink_BSS = pasted_BSS >> LABEL_BITS
    images = _paint(ink_BSS, data.noise, random)
    if data.task == "classification":
        return Scenes(images, digit[chosen[:, 0]].long())
    is_ink_BSS = ink_BSS >= LABEL_INK
    if data.task == "segmentation":
        return Scenes(images, torch.where(is_ink_BSS, pasted_BSS & (1 << LABEL_BITS) - 1, 0).long())
    owner_BSS = torch.where(is_ink_BSS, (canvas & (1 << OWNER_BITS) - 1).view_as(ink_BSS), 0)
    return Scenes(images, digit_instances(owner_BSS, digit[chosen], first))


def _paint(ink_BSS: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Colour the ink and the paper of each scene at random and add grain."""
    count, size, _ = ink_BSS.shape
    paper = torch.rand(count, 3, 1, 1, generator=random) * 0.4
    pen = 0.5 + torch.rand(count, 3, 1, 1, generator=random) * 0.5
    strength = ink_BSS[:, None] * (1 / INK_LEVELS)
    grain = torch.randn(count, 1, size, size, generator=random) * (noise / PIXEL_STD)
    return torch.addcmul((paper - PIXEL_MEAN) / PIXEL_STD, strength, (pen - paper) / PIXEL_STD).add_(grain)


class DigitStream:
    """The endless training stream of a seed; scene i is the same however batches are cut."""

    def __init__(self, data: DigitsData, seed: int, input_size: InputSize) -> None:
        self.data, self.seed, self.input_size = data, seed, input_size
        self._chunk, self._number = None, -1

    def batch(self, start: int, count: int) -> Scenes:
        """Scenes start to start + count of the stream."""
        parts = []
        while count:
            number, offset = divmod(start, CHUNK_SCENES)
            taken = min(count, CHUNK_SCENES - offset)
            parts.append(self._scenes(number, slice(offset, offset + taken)))
            start, count = start + taken, count - taken
        images, labels = torch.cat([part.images for part in parts]), _joined([part.labels for part in parts])
        return _resized(Scenes(images, labels), self.input_size)

    def _scenes(self, number: int, part: slice) -> Scenes:
        if self._chunk is None or number != self._number:
            random = _seeded("train", self.seed, number)
            self._chunk = draw_scenes(self.data, "train", CHUNK_SCENES, random, number * CHUNK_SCENES)
            self._number = number
        return Scenes(self._chunk.images[part], self._chunk.labels[part])


def held_out_scenes(data: DigitsData, input_size: InputSize, batch_size: int) -> Iterator[Scenes]:
    """The fixed test set in batches, drawn from test glyphs only; the same for every seed and input size.

    At another input size than the canvas, boxes and masks are not exact, and come with annotations of the canvas.
    """
    scenes = draw_scenes(data, "test", data.test_images, _seeded("test", TEST_SEED))
    for start in range(0, data.test_images, batch_size):
        part = slice(start, start + batch_size)
        labels = scenes.labels[part]
        if not isinstance(labels, Tensor) and sides_of(input_size) != (data.canvas, data.canvas):
            labels = [replace(each, annotations=exact_annotations(each)) for each in labels]
        yield _resized(Scenes(scenes.images[part], labels), input_size)


def _joined(labels: list[Any]) -> Any:
    return torch.cat(labels) if isinstance(labels[0], Tensor) else list(chain.from_iterable(labels))


def _resized(scenes: Scenes, input_size: InputSize) -> Scenes:
    """Scenes at another input size; maps of labels stay on the canvas, boxes and masks do not."""
    labels = scenes.labels
    if not isinstance(labels, Tensor):
        labels = resize_instances(labels, sides_of(input_size))
    return Scenes(resample(scenes.images, input_size), labels)


def resample(images: Float[Tensor, "B 3 S S"], input_size: InputSize) -> Float[Tensor, "B 3 R C"]:
    """Scenes at another input size, bilinear with anti-aliasing."""
    sides = sides_of(input_size)
    if images.shape[2:] == sides:
        return images
    return F.interpolate(images, size=sides, mode="bilinear", antialias=True)


def _seeded(*key: object) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
