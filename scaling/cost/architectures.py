"""Which architectures have closed forms, and how to add one."""

from scaling.cost.adventurer import Adventurer
from scaling.cost.backbone import Backbone
from scaling.cost.deit import DeiT
from scaling.design import Architecture, add_architecture, find_architecture
from scaling.errors import UsageError

_BACKBONES: dict[str, Backbone] = {"deit": DeiT(), "adventurer": Adventurer()}


def register_architecture(name: str, architecture: Architecture, backbone: Backbone) -> None:
    """Make designs of another architecture known, with the costs of its blocks.

    A package can do this on demand, also for the command line, with an entry point of the group
    `scaling.architectures` whose name is the architecture's and whose value is a function that
    calls this one.

    Args:
        name: as in short names, lower-case letters and digits.
        architecture: its sizes, and the rule for free widths and depths.
        backbone: what one block costs.

    Raises:
        DesignError: if the name cannot stand in a short name.
        UsageError: if the backbone is not one.
    """
    if not isinstance(backbone, Backbone):
        raise UsageError(f"{name}: {type(backbone).__name__} is not a Backbone; subclass scaling.cost.Backbone")
    add_architecture(name, architecture)
    _BACKBONES[name] = backbone


def find_backbone(architecture: str) -> Backbone:
    """Closed forms of an architecture.

    Raises:
        DesignError: if there is no such architecture.
        UsageError: if it was added without closed forms.
    """
    find_architecture(architecture)
    if architecture not in _BACKBONES:
        raise UsageError(f"architecture '{architecture}' has no closed forms; use register_architecture")
    return _BACKBONES[architecture]
