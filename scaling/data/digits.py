"""Scenes of real handwritten digits: one generator for classification and segmentation.

Shapes: N glyphs, B scenes, P placements, K pasted glyphs, S and R pixels per side.
"""

import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor

from scaling.design import DigitsData, InputSize, sides_of
from scaling.scenes import Scenes

GLYPH_SIDE = 8
FRAGMENT_SIDE = 4
INK_LEVELS = 16
LABEL_BITS = 4  # ink and label share an integer: ink << 4 | label
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


def _pasted_keys(ink_NSS: Tensor, label_N: Tensor) -> Tensor:
    """Ink and label in one integer, so that one maximum decides both (more ink is on top)."""
    return ink_NSS << LABEL_BITS | label_N[..., None, None]


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


def draw_scenes(data: DigitsData, split: str, count: int, random: torch.Generator) -> Scenes:
    """Draw `count` scenes at once; the same generator state gives the same scenes."""
    ink, digit = glyphs(split)
    size = data.canvas
    chosen = torch.randint(0, len(digit), (count, data.digits), generator=random)
    keys = [_pasted_keys(ink[chosen], digit[chosen] + 1).flatten(1)]
    places = [_canvas_index(_apart(count, data.digits, GLYPH_SIDE, size, random), GLYPH_SIDE, size)]
    if data.clutter:
        torn = torch.randint(0, len(digit), (count, data.clutter), generator=random)
        row, column = torch.randint(0, GLYPH_SIDE // FRAGMENT_SIDE, (2, count, data.clutter), generator=random)
        quarters = ink.unfold(1, FRAGMENT_SIDE, FRAGMENT_SIDE).unfold(2, FRAGMENT_SIDE, FRAGMENT_SIDE)
        keys.append(_pasted_keys(quarters[torn, row, column], torch.zeros_like(torn)).flatten(1))
        corner = _anywhere(count, data.clutter, FRAGMENT_SIDE, size, random)
        places.append(_canvas_index(corner, FRAGMENT_SIDE, size))
    canvas = torch.zeros(count, size * size, dtype=torch.int32)
    canvas.scatter_reduce_(1, torch.cat(places, 1), torch.cat(keys, 1).int(), "amax")
    ink_BSS = (canvas >> LABEL_BITS).view(count, size, size)
    images = _paint(ink_BSS, data.noise, random)
    if data.task == "classification":
        return Scenes(images, digit[chosen[:, 0]].long())
    label_BSS = (canvas & (1 << LABEL_BITS) - 1).view(count, size, size)
    return Scenes(images, torch.where(ink_BSS >= LABEL_INK, label_BSS, 0).long())


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
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Scenes(resample(images, self.input_size), labels)

    def _scenes(self, number: int, part: slice) -> tuple[Tensor, Tensor]:
        if self._chunk is None or number != self._number:
            self._chunk = draw_scenes(self.data, "train", CHUNK_SCENES, _seeded("train", self.seed, number))
            self._number = number
        return self._chunk.images[part], self._chunk.labels[part]


def held_out_scenes(data: DigitsData, input_size: InputSize, batch_size: int) -> Iterator[Scenes]:
    """The fixed test set in batches, drawn from test glyphs only; the same for every seed and input size."""
    scenes = draw_scenes(data, "test", data.test_images, _seeded("test", TEST_SEED))
    for images, labels in zip(scenes.images.split(batch_size), scenes.labels.split(batch_size), strict=True):
        yield Scenes(resample(images, input_size), labels)


def resample(images: Float[Tensor, "B 3 S S"], input_size: InputSize) -> Float[Tensor, "B 3 R C"]:
    """Scenes at another input size, bilinear with anti-aliasing; labels stay on the canvas."""
    sides = sides_of(input_size)
    if images.shape[2:] == sides:
        return images
    return F.interpolate(images, size=sides, mode="bilinear", antialias=True)


def _seeded(*key: object) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
