"""Architectures and sizes: the one table of widths and depths.

Tiny to Huge are the paper's Table 7, with heads of 64 channels; nano and micro are ours, small
enough for a study on a CPU.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Shape of a backbone, without its patch embedding: widths in channels, depth in blocks."""

    width: int
    depth: int
    mlp_width: int
    heads: int


def _deit(width: int, depth: int, heads: int) -> ModelSize:
    return ModelSize(width, depth, mlp_width=4 * width, heads=heads)


def _adventurer(width: int, depth: int) -> ModelSize:
    """Mamba-2 expands the width by 2 and uses heads of 64 channels (Table 7's MLP is 2.5 wide)."""
    return ModelSize(width, depth, mlp_width=5 * width // 2, heads=2 * width // 64)


ARCHITECTURES = MappingProxyType(
    {
        "deit": MappingProxyType(
            {
                "nano": _deit(32, 3, heads=2),
                "micro": _deit(64, 4, heads=4),
                "tiny": _deit(192, 12, heads=3),
                "small": _deit(384, 12, heads=6),
                "base": _deit(768, 12, heads=12),
                "large": _deit(1024, 24, heads=16),
                "huge": _deit(1280, 32, heads=20),
            }
        ),
        "adventurer": MappingProxyType(
            {
                "nano": _adventurer(32, 3),
                "micro": _adventurer(64, 4),
                "tiny": _adventurer(256, 12),
                "small": _adventurer(512, 12),
                "base": _adventurer(768, 12),
                "large": _adventurer(1024, 24),
                "huge": _adventurer(1280, 32),
            }
        ),
    }
)

HEADS = ("linear",)
