"""What the closed forms are functions of: a backbone's shape, its head, and how it is executed.

Every form is written with + - * // only, so that it takes exact Python integers for one design and
numpy arrays for a million.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from scaling.design import HEADS, Design, Detector, Precision, Task, check_known, task_of_head
from scaling.errors import UsageError, nearest

Count: TypeAlias = Any
"""A Python integer for one design, a float64 array for many."""

Attention = Literal["fused", "materialised"]
Scan = Literal["fused", "recomputed"]
Sharding = Literal["ddp", "fsdp"]

CHANNELS = 3
LARGEST_CLASSES = 10_000_000
COCO_DETECTOR = Detector()
ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a backbone at its input: channels, blocks, heads, pixels and tokens.

    Args:
        width: channels d of the residual stream.
        depth: blocks.
        mlp_width: hidden channels m of the MLP.
        heads: attention or state-space heads.
        patch_size: pixels per side p.
        pixels: pixels of the input, height x width.
        tokens: patch tokens L that the blocks see; class and heading tokens are added where they cost.
        rows: of patch tokens.
    """

    width: Count
    depth: Count
    mlp_width: Count
    heads: Count
    patch_size: Count
    pixels: Count
    tokens: Count
    rows: Count

    @classmethod
    def of(cls, design: Design) -> "Shape":
        """The shape of a design, in exact integers."""
        size, (height, width) = design.shape, design.padded_sides
        return cls(
            width=size.width,
            depth=size.depth,
            mlp_width=size.mlp_width,
            heads=size.heads,
            patch_size=design.patch_size,
            pixels=height * width,
            tokens=design.sequence_length,
            rows=design.grid[0],
        )

    @property
    def patches(self) -> Count:
        """Patches cut from the input; fewer than `tokens` where tokens are extended."""
        return self.pixels // self.patch_size**2


@dataclass(frozen=True, slots=True)
class Head:
    """What stands on a backbone.

    Args:
        classes: outputs.
        kind: a head of a dense task as in a design's short name; None for a classifier on the class token.
        label_sides: height and width of a segmenter's label maps; by default the input's.
        auxiliary: whether UperNet has its second, small head.
        detector: settings of a detector.

    Raises:
        UsageError: for a size that cannot be.
        DesignError: for a head that does not exist.
    """

    classes: int = 1000
    kind: str | None = None
    label_sides: tuple[int, int] | None = None
    auxiliary: bool = False
    detector: Detector = COCO_DETECTOR

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_known("head", self.kind, HEADS)
        if not 1 <= self.classes <= LARGEST_CLASSES:
            raise UsageError(f"classes must be at least 1 and at most {LARGEST_CLASSES:,}, not {self.classes:.6g}")
        if self.label_sides is not None and min(self.label_sides) < 1:
            raise UsageError(f"label sides must be at least 1, not {self.label_sides}")

    @property
    def task(self) -> Task:
        """What it is for."""
        return task_of_head(self.kind)

    def label_pixels(self, shape: Shape) -> Count:
        """Labelled pixels of a segmenter, per image."""
        return shape.pixels if self.label_sides is None else self.label_sides[0] * self.label_sides[1]


@dataclass(frozen=True, slots=True)
class Execution:
    """How a design is trained, as far as it changes cost.

    Args:
        precision: 'fp32', or 16-bit autocast: 'bf16' or 'fp16'.
        attention: 'fused' (FlashAttention, torch's fused kernels) or 'materialised' (T x T scores kept).
        scan: 'fused' (mamba-ssm's kernels) or 'recomputed' (our torch path: convolution and scan again in backward).
        checkpointing: keep only the input of each block, and run the block again in backward.
        ema: keep an exponential moving average of the weights.
        sharding: 'ddp' (every GPU holds all state) or 'fsdp' (state divided between the GPUs).

    Raises:
        UsageError: for a word that is none of these.
    """

    precision: Precision = "bf16"
    attention: Attention = "fused"
    scan: Scan = "fused"
    checkpointing: bool = False
    ema: bool = False
    sharding: Sharding = "ddp"

    def __post_init__(self) -> None:
        for name, known in (
            ("precision", get_args(Precision)),
            ("attention", get_args(Attention)),
            ("scan", get_args(Scan)),
            ("sharding", get_args(Sharding)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise UsageError(f"unknown {name} '{value}': {nearest(value, known)}")

    @property
    def element_bytes(self) -> int:
        """Bytes of an element in matrix products."""
        return ELEMENT_BYTES[self.precision]

    @property
    def autocast(self) -> bool:
        """Whether products run in 16 bits beside fp32 weights, norms and residual stream."""
        return self.precision != "fp32"


def larger(first: Count, second: Count) -> Count:
    """The larger of two numbers, or of arrays element by element."""
    difference = second - first
    return first + (difference > 0) * difference
