"""Closed forms of what stands on a backbone."""

from scaling.cost.heads.cascade import CascadeMaskRCNN
from scaling.cost.heads.head_cost import HeadCost
from scaling.cost.heads.linear import Classifier, LinearSegmenter
from scaling.cost.heads.upernet import UperNet
from scaling.cost.shapes import Head

_HEADS: dict[str | None, HeadCost] = {
    None: Classifier(),
    "linear": LinearSegmenter(),
    "upernet": UperNet(),
    "cascade": CascadeMaskRCNN(),
}


def find_head(head: Head) -> HeadCost:
    """Closed forms of a head."""
    return _HEADS[head.kind]
