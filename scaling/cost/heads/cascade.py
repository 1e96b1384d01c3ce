"""Cascade Mask R-CNN (Cai and Vasconcelos 2019) on a simple feature pyramid, for as many regions as training samples.

Symbols: D width of the backbone, C = min(256, D) channels of the pyramid, K classes, p patch size, s stride of a level,
R sampled regions of an image in each of three stages, R / 4 in the mask head, e bytes of an element in products.
What depends on which things are in an image, such as losses, is below 1 % and not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from scaling.cost import terms
from scaling.cost.heads.head_cost import HeadCost
from scaling.cost.shapes import Count, Execution, Head, Shape, larger

WIDEST = 256  # channels of the pyramid
ANCHORS = 3  # of a cell: ratios
DELTAS = 4  # of a box
STAGES = 3
BOX_CELLS, MASK_CELLS, MASK_PIXELS = 7 * 7, 14 * 14, 28 * 28  # of a region
MASK_CONVOLUTIONS = 4
HIDDEN = 4  # times the channels, in a stage
STATISTICS_BYTES = 8  # a LayerNorm's fp32 mean and reciprocal deviation, per cell
REGION_BYTES = 4 * 5  # a box and the number of its image
MOST_DOUBLINGS = 15  # from the largest patch to one pixel


@dataclass(frozen=True, slots=True)
class _Doubling:
    """A transposed convolution that doubles the sides of a map; `exists` is 0 where a patch size needs none."""

    exists: Count
    cells: Count
    inputs: Count
    outputs: Count


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the pyramid, between doublings and the convolutions that all levels have."""

    stride: int
    cells: Count
    width: Count
    """Channels that the convolution of 1 x 1 takes."""
    doublings: tuple[_Doubling, ...]


class CascadeMaskRCNN(HeadCost):
    """Pyramid, proposals, three stages of boxes, masks."""

    def parameters(self, shape: Shape, head: Head) -> Count:
        """Of each level 4 D' D'' + D'' per doubling with norms 2 D'' between, D'' C + 9 C^2 and norms 4 C.

        Proposals 9 C^2 + C and 15 C + 15; of a stage 49 C 4C + 4C, 16 C^2 + 4C, 4C (K + 1) + K + 1 and 16 C + 4;
        masks 4 (9 C^2 + C), 4 C^2 + C and C K + K.
        """
        C, K = _channels(shape), head.classes
        levels = 0
        for level in _levels(shape, head):
            for place, one in enumerate(level.doublings):
                norm = terms.layer_norm_parameters(one.inputs) if place else 0
                levels += one.exists * (4 * one.inputs * one.outputs + one.outputs + norm)
            levels += level.width * C + 9 * C**2 + 2 * terms.layer_norm_parameters(C)
        proposals = 9 * C**2 + C + terms.linear_parameters(C, ANCHORS * (1 + DELTAS))
        hidden = HIDDEN * C
        stage = terms.linear_parameters(BOX_CELLS * C, hidden) + terms.linear_parameters(hidden, hidden)
        stage += terms.linear_parameters(hidden, K + 1) + terms.linear_parameters(hidden, DELTAS)
        masks = MASK_CONVOLUTIONS * (9 * C**2 + C) + 4 * C**2 + C + terms.linear_parameters(C, K)
        return levels + proposals + STAGES * stage + masks

    def flops(self, shape: Shape, head: Head) -> Count:
        """Of each cell of a level 2 (D'' C + 9 C^2), and 2 (9 C^2 + 15 C) for proposals; 8 D' D'' for each doubled.

        2 R times the products of a stage in each of three; of a mask 2 x 196 (36 C^2 + 4 C^2) + 2 x 784 C K.
        """
        C, K = _channels(shape), head.classes
        levels = 0
        for level in _levels(shape, head):
            levels += sum(8 * one.exists * one.cells * one.inputs * one.outputs for one in level.doublings)
            levels += 2 * level.cells * (level.width * C + 18 * C**2 + ANCHORS * (1 + DELTAS) * C)
        regions, hidden = head.detector.sampled_regions, HIDDEN * C
        stage = terms.linear_flops(regions, BOX_CELLS * C, hidden) + terms.linear_flops(regions, hidden, hidden)
        stage += terms.linear_flops(regions, hidden, K + 1 + DELTAS)
        mask = 2 * MASK_CELLS * (9 * MASK_CONVOLUTIONS + 4) * C**2 + terms.linear_flops(MASK_PIXELS, C, K)
        return levels + STAGES * stage + _positives(head) * mask

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Inputs of every product, norm and GELU, outputs of every ReLU, which are inputs too.

        Norms keep their input in fp32. The map of patch tokens is kept as an fp32 view of all tokens, under autocast
        only where a level pools or interpolates it.
        """
        C, e = _channels(shape), execution.element_bytes
        whole_power = _power_of_2(shape.patch_size)
        levels, viewed = 0, 1 - execution.autocast * whole_power
        for level in _levels(shape, head):
            pooled = level.stride > shape.patch_size
            viewed = larger(viewed, pooled * 1)
            levels += _rescaling_bytes(shape, level, execution)
            levels += level.cells * (3 * e * C + 2 * (4 * C + STATISTICS_BYTES))
        tokens = viewed * 4 * shape.width * (shape.tokens + 1)
        regions, positives = head.detector.sampled_regions, _positives(head)
        stages = STAGES * e * regions * (BOX_CELLS + 2 * HIDDEN) * C
        masks = e * positives * ((1 + MASK_CONVOLUTIONS) * MASK_CELLS + MASK_PIXELS) * C
        return tokens + levels + stages + masks + REGION_BYTES * (regions + positives)

    def loss_bytes(self, shape: Shape, head: Head) -> Count:
        """Not counted."""
        return 0 * shape.pixels


def _channels(shape: Shape) -> Count:
    """The smaller of 256 and the backbone's width."""
    return shape.width + WIDEST - larger(shape.width, WIDEST)


def _sides(shape: Shape) -> tuple[Count, Count]:
    """Height and width of the padded input in pixels."""
    height = shape.rows * shape.patch_size
    return height, shape.pixels // height


def _positives(head: Head) -> int:
    """Regions of an image that the mask head sees."""
    return head.detector.sampled_regions // 4


def _power_of_2(number: Count) -> Count:
    """1 for a power of 2, else 0."""
    return sum((number == 2**exponent) * 1 for exponent in range(MOST_DOUBLINGS + 1))


def _levels(shape: Shape, head: Head) -> Iterator[_Level]:
    """Each level; a patch size that is no power of 2 is interpolated, without doublings."""
    C, whole_power = _channels(shape), _power_of_2(shape.patch_size)
    height, across = _sides(shape)
    for stride in head.detector.strides:
        width, cells, doublings = shape.width, shape.patches, []
        for doubling in range(1, MOST_DOUBLINGS + 1):
            exists = whole_power * (shape.patch_size >= stride * 2**doubling)
            outputs = larger(C, width // 2)
            doublings.append(_Doubling(exists, cells, width, outputs))
            width, cells = width + exists * (outputs - width), cells * (1 + 3 * exists)
        yield _Level(stride, -(-height // stride) * -(-across // stride), width, tuple(doublings))


def _rescaling_bytes(shape: Shape, level: _Level, execution: Execution) -> Count:
    """What is kept from patch tokens to the input of a level's convolution of 1 x 1."""
    e, (first, *later) = execution.element_bytes, level.doublings
    found = sum(one.exists * one.cells * ((4 + 2 * e) * one.inputs + STATISTICS_BYTES) for one in later)
    if execution.autocast:
        return found + e * (first.exists * first.cells * first.inputs + level.width * level.cells)
    whole_power, (height, across) = _power_of_2(shape.patch_size), _sides(shape)
    beyond = -(-level.stride // shape.patch_size) * shape.patch_size
    resized = (height + beyond) // level.stride * ((across + beyond) // level.stride)  # of which cells are a view
    cells = whole_power * (level.stride != shape.patch_size) * level.cells + (1 - whole_power) * resized
    return found + e * level.width * cells
