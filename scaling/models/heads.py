"""The head without a decoder. Shapes: B images, L patches, D width, K classes, S and W, R and C pixels."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scaling.models.adventurer import Adventurer
from scaling.models.deit import DeiT
from scaling.models.dense import DenseModel


class LinearSegmenter(DenseModel):
    """A linear layer on the patch tokens, brought to the label map's size bilinearly.

    The paper's decoder-free segmentation (Section 4.2, Table 2: decoder 'None').
    """

    def __init__(self, backbone: DeiT | Adventurer, classes: int, label_sides: tuple[int, int]) -> None:
        super().__init__(backbone)
        self.head = nn.Linear(backbone.embed_dim, classes)
        self.label_sides = label_sides

    def forward(self, images: Float[Tensor, "B 3 S W"]) -> Float[Tensor, "B K R C"]:
        """Logits of images; the label map's sides R and C may differ from the input's sides S and W."""
        logits_BKL = self.head(self.backbone.patch_features(images)).transpose(1, 2)
        logits = logits_BKL.unflatten(2, self.backbone.grid_size)
        if logits.shape[2:] == self.label_sides:
            return logits
        return F.interpolate(logits, size=self.label_sides, mode="bilinear")
