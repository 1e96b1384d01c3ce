"""Task heads. Shapes: B images, T tokens, L patches, D width, K classes, S and R pixels per side."""

import torch.nn.functional as F
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class LinearSegmenter(nn.Module):
    """A linear layer on the patch tokens, brought to the label map's size bilinearly.

    The paper's decoder-free segmentation (Section 4.2, Table 2: decoder 'None').
    """

    def __init__(self, backbone: VisionTransformer, classes: int, label_side: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dim, classes)
        self.label_side = label_side

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K R R"]:
        """Logits of images; R, the side of the label map, may differ from the input's side S."""
        tokens_BTD = self.backbone.forward_features(images)
        patches_BLD = tokens_BTD[:, self.backbone.num_prefix_tokens :]
        logits_BKL = self.head(patches_BLD).transpose(1, 2)
        logits = logits_BKL.unflatten(2, self.backbone.patch_embed.grid_size)
        size = (self.label_side, self.label_side)
        return logits if logits.shape[2:] == size else F.interpolate(logits, size=size, mode="bilinear")

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are never decayed."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}
