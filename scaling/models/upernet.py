"""UperNet (Xiao et al. 2018, 'Unified Perceptual Parsing for Scene Understanding') on a plain backbone.

All strides are relative to the patch p, so that weights fit every patch size.
Shapes: B images, D width of the backbone, C of the decoder, K classes, S and W, R and C pixels, h and w positions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scaling.models.dense import Backbone
from scaling.models.heads import Segmenter, resized, sides_of

CHANNELS = 192  # of the decoder at most; gives the 17M and 112M of the paper's Table 2
POOLED_SIDES = (1, 2, 3, 6)
LEVELS = 4


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position: the same whatever else is in the batch, image or process."""

    def forward(self, input: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Computed in float32, and given back in the precision of the input."""
        return super().forward(input.movedim(1, -1).float()).to(input.dtype).movedim(-1, 1)


class UperNet(Segmenter):
    """A backbone with UperNet's decoder, and if asked for a second, small head that helps training only.

    Args:
        backbone: of any depth.
        classes: outputs K.
        label_sides: height and width of the label maps of images of the design's input size.
        auxiliary: whether there is a second head, on the third map.
    """

    def __init__(self, backbone: Backbone, classes: int, label_sides: tuple[int, int], auxiliary: bool = False) -> None:
        super().__init__(backbone, label_sides)
        self.head = _Head(backbone.embed_dim, classes, auxiliary)
        self.blocks_read = tuple(-(-level * backbone.depth // LEVELS) - 1 for level in range(1, LEVELS + 1))

    def forward(
        self, images: Float[Tensor, "B 3 S W"]
    ) -> Float[Tensor, "B K R C"] | tuple[Float[Tensor, "B K R C"], Float[Tensor, "B K R C"]]:
        """Logits of images of any sides that patches tile; in training with the auxiliary head's, if there is one."""
        blocks = sorted(set(self.blocks_read))  # fewer than four in a backbone of fewer
        found = dict(zip(blocks, self.backbone.maps_after(images, blocks), strict=True))
        maps = [found[block] for block in self.blocks_read]
        logits = self.to_labels(self.head.decoder(maps), images)
        if self.head.auxiliary is None or not self.training:
            return logits
        return logits, self.to_labels(self.head.auxiliary(maps[2]), images)


class _Head(nn.Module):
    """All parameters beside the backbone's, under one name as every head's."""

    def __init__(self, width: int, classes: int, auxiliary: bool) -> None:
        super().__init__()
        channels = min(CHANNELS, width)
        self.decoder = Decoder(width, channels, classes)
        self.auxiliary = _fully_convolutional(width, channels, classes) if auxiliary else None


class Decoder(nn.Module):
    """Four maps of a backbone, rescaled to strides p/4, p/2, p and 2p (Bao et al. 2022, 'BEiT'), to logits at p/4."""

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.rescale = nn.ModuleList(
            [
                nn.Sequential(_doubled(width, bias=False), ChannelNorm(width), nn.GELU(), _doubled(width)),
                _doubled(width),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        self.pooled = nn.ModuleList(_convolution(width, channels, 1) for _ in POOLED_SIDES)
        self.bottleneck = _convolution(width + len(POOLED_SIDES) * channels, channels, 3)
        self.laterals = nn.ModuleList(_convolution(width, channels, 1) for _ in range(LEVELS - 1))
        self.smooth = nn.ModuleList(_convolution(channels, channels, 3) for _ in range(LEVELS - 1))
        self.fuse = _convolution(LEVELS * channels, channels, 3)
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Float[Tensor, "B D h w"]]) -> Float[Tensor, "B K h4 w4"]:
        """Pyramid pooling of the coarsest map, a path from coarse to fine, and all levels fused at the finest."""
        *finer, coarsest = [rescale(each) for rescale, each in zip(self.rescale, maps, strict=True)]
        levels = [lateral(each) for lateral, each in zip(self.laterals, finer, strict=True)]
        levels.append(self._pyramid_pooling(coarsest))
        for level in reversed(range(LEVELS - 1)):
            levels[level] = levels[level] + _like(levels[level + 1], levels[level])
        levels[:-1] = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)]
        return self.classify(self.fuse(torch.cat([_like(level, levels[0]) for level in levels], dim=1)))

    def _pyramid_pooling(self, coarsest: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:
        """Means over 1, 2, 3 and 6 parts of each side, beside the map itself; maps may be smaller than that."""
        pooled = [
            _like(convolve(F.adaptive_avg_pool2d(coarsest, side)), coarsest)
            for side, convolve in zip(POOLED_SIDES, self.pooled, strict=True)
        ]
        return self.bottleneck(torch.cat([coarsest, *pooled], dim=1))


def _doubled(width: int, bias: bool = True) -> nn.ConvTranspose2d:
    """Twice the sides."""
    return nn.ConvTranspose2d(width, width, 2, stride=2, bias=bias)


def _convolution(inputs: int, outputs: int, side: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    return nn.Sequential(convolution, ChannelNorm(outputs), nn.ReLU())


def _fully_convolutional(width: int, channels: int, classes: int) -> nn.Sequential:
    """FCN's head (Long et al. 2015)."""
    return nn.Sequential(_convolution(width, channels, 3), nn.Conv2d(channels, classes, 1))


def _like(maps: Float[Tensor, "B C h w"], other: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C H W"]:
    return resized(maps, sides_of(other))
