"""Closed forms of what stands on a backbone."""

from scaling.cost.heads.cascade import CascadeMaskRCNN
from scaling.cost.heads.head_cost import HeadCost
from scaling.cost.heads.linear import Classifier, LinearSegmenter
from scaling.cost.shapes import Head
from scaling.errors import UsageError

_HEADS: dict[str | None, HeadCost] = {None: Classifier(), "linear": LinearSegmenter(), "cascade": CascadeMaskRCNN()}


def find_head(head: Head) -> HeadCost:
    """Closed forms of a head.

    Raises:
        UsageError: if it has none.
    """
    if head.kind not in _HEADS:
        raise UsageError(f"the costs of head {head.kind} are not known yet")
    return _HEADS[head.kind]
