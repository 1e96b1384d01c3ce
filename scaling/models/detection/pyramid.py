"""The simple feature pyramid: maps of several strides from one map of patch tokens (Li et al. 2022, ViTDet).

Shapes: B images, D width of the backbone, C channels of the pyramid, h and w sides in patches or cells.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scaling.models.upernet import ChannelNorm


class SimplePyramid(nn.ModuleList):
    """A map of every stride in pixels, whatever the patch size; levels share nothing.

    Patch tokens are brought to a stride by transposed convolutions of 2 where it is smaller than the patch, by average
    pooling where it is larger, and by interpolation where the patch size is no power of 2. Two convolutions follow, of
    1 and of 3. A level has ceil(side / stride) cells per side, so that it covers the image.

    Args:
        width: channels D of the backbone.
        channels: C of every level.
        patch_size: pixels per side.
        strides: pixels between cells, powers of 2.
    """

    def __init__(self, width: int, channels: int, patch_size: int, strides: tuple[int, ...]) -> None:
        super().__init__(_level(width, channels, patch_size, stride) for stride in strides)

    def forward(self, tokens: Float[Tensor, "B D h w"]) -> list[Float[Tensor, "B C _ _"]]:
        """Maps from the finest to the coarsest."""
        return [level(tokens) for level in self]


class Interpolation(nn.Module):
    """Bilinear, from cells of one side in pixels to cells of another; anti-aliased where these are larger."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, cells: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D _ _"]:
        """As many cells as cover the same pixels."""
        height, width = (-(-side * self.before // self.after) for side in cells.shape[2:])
        beyond = -(-self.after // self.before)  # so that the last, partly covered cell exists
        resized = F.interpolate(
            F.pad(cells, (0, beyond, 0, beyond), mode="replicate"),
            scale_factor=self.before / self.after,
            mode="bilinear",
            antialias=self.after > self.before,
        )
        return resized[:, :, :height, :width]


def _level(width: int, channels: int, patch_size: int, stride: int) -> nn.Sequential:
    """From patch tokens to one level."""
    rescaling, width = _rescaling(width, channels, patch_size, stride)
    return nn.Sequential(
        *rescaling,
        nn.Conv2d(width, channels, 1, bias=False),
        ChannelNorm(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        ChannelNorm(channels),
    )


def _rescaling(width: int, channels: int, patch_size: int, stride: int) -> tuple[list[nn.Module], int]:
    """Layers from cells of a patch to cells of a stride, and how many channels come out.

    Each transposed convolution halves the channels, but never below those of the pyramid.
    """
    if patch_size & (patch_size - 1):
        return [Interpolation(patch_size, stride)], width
    if stride > patch_size:
        return [nn.AvgPool2d(stride // patch_size, ceil_mode=True)], width
    layers: list[nn.Module] = []
    while patch_size > stride:
        if layers:
            layers += [ChannelNorm(width), nn.GELU()]
        narrower = max(channels, width // 2)
        layers.append(nn.ConvTranspose2d(width, narrower, 2, stride=2))
        width, patch_size = narrower, patch_size // 2
    return layers, width
