"""Models that label every pixel, and the head without a decoder.

Shapes: B images, D width, K classes, S and W, R and C sides in pixels, h and w in patches.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scaling.models.dense import Backbone, DenseModel


class Segmenter(DenseModel):
    """A model that labels every pixel.

    Args:
        backbone: reads the images.
        label_sides: height and width of the label maps of images of the design's input size; they may differ from
            it. Images of other sides are labelled pixel by pixel.
    """

    def __init__(self, backbone: Backbone, label_sides: tuple[int, int]) -> None:
        super().__init__(backbone)
        self.label_sides = label_sides

    def to_labels(self, logits: Float[Tensor, "B K h w"], images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B K R C"]:
        """Logits brought bilinearly to the sides of the images' label maps."""
        sides = sides_of(images)
        return resized(logits, self.label_sides if sides == self.backbone.patch_embed.img_size else sides)


class LinearSegmenter(Segmenter):
    """A linear layer on the patch tokens, brought to the label map's size bilinearly.

    The paper's decoder-free segmentation (Section 4.2, Table 2: decoder 'None').
    """

    def __init__(self, backbone: Backbone, classes: int, label_sides: tuple[int, int]) -> None:
        super().__init__(backbone, label_sides)
        self.head = nn.Linear(backbone.embed_dim, classes)

    def forward(self, images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B K R C"]:
        """Logits of images of any sides that patches tile."""
        (last,) = self.backbone.maps_after(images, [self.backbone.depth - 1])
        logits_BKL = self.head(last.flatten(2).transpose(1, 2)).transpose(1, 2)
        return self.to_labels(logits_BKL.unflatten(2, last.shape[2:]), images)


def sides_of(maps: Float[Tensor, "B K h w"]) -> tuple[int, int]:
    """Height and width, as numbers also where a tracer has tensors."""
    return int(maps.shape[2]), int(maps.shape[3])


def resized(maps: Float[Tensor, "B K h w"], sides: tuple[int, int]) -> Float[Tensor, "B K R C"]:
    """Maps brought to other sides bilinearly."""
    return maps if sides_of(maps) == sides else F.interpolate(maps, size=sides, mode="bilinear")
