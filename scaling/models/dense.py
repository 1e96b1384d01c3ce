"""What every model of a dense task is: a backbone, and a head on its patch tokens.

Shapes: B images, D width, S and W, h and w sides in pixels and in patches.
"""

from typing import Any, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scaling.models.deit import DeiT
from scaling.models.plain import PlainBackbone

Backbone: TypeAlias = DeiT | PlainBackbone
"""DeiT has its class token first, all others last."""


class DenseModel(nn.Module):
    """A backbone with a head of a dense task; heads are subclasses."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        backbone.patch_embed.strict_img_size = False  # of any sides that patches tile

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names from the input to the output: the backbone's, and then the head."""
        own: dict[str, Any] = self.backbone.group_matcher(coarse)
        return {"stem": _inside(own["stem"]), "blocks": [(_inside(part), order) for part, order in own["blocks"]]}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are never decayed."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}


def backbone_of(model: nn.Module) -> Backbone:
    """The backbone in a dense model, or a classifier itself."""
    backbone = model.backbone if isinstance(model, DenseModel) else model
    assert isinstance(backbone, Backbone)
    return backbone


def pad_to_patches(images: Float[Tensor, "B 3 S W"], patch_size: int) -> Float[Tensor, "B 3 R C"]:
    """Images with zeros below and on the right, to whole patches."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % patch_size, 0, -height % patch_size))


def _inside(pattern: str) -> str:
    """A pattern of the backbone's names, for the same names in a dense model."""
    return rf"^backbone\.(?:{pattern.removeprefix('^')})"
