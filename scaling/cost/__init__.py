"""What a design needs, in closed form, before anything is run. Needs no torch.

What needs numpy or scipy is resolved on first use, so that one estimate costs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from scaling.cost.architectures import find_backbone, register_architecture
from scaling.cost.backbone import Backbone
from scaling.cost.breakdowns import (
    BlockParameters,
    BlockSaved,
    Breakdown,
    Flops,
    Parameters,
    SavedBytes,
    StateBytes,
)
from scaling.cost.cost import Cost, cost_of, cost_of_shape, scan_flops_by_convention
from scaling.cost.estimates import DEFAULT_BATCH, DEFAULT_HARDWARE, IMAGENET_IMAGES, CostEstimate, estimate
from scaling.cost.hardware import find_hardware, hardware_names, hardware_of_device
from scaling.cost.memory import SAFETY_MARGIN, Placement, place, usable_bytes
from scaling.cost.roofline import GENERIC, Constants, Interval, StepSeconds, constants_of, step_seconds
from scaling.cost.shapes import Execution, Head, Shape

if TYPE_CHECKING:
    from scaling.cost.arrays import ArrayEstimate, estimate_arrays, shape_arrays
    from scaling.cost.calibration import Measurement, calibrate, read_measurements

_LATE = {
    "ArrayEstimate": "scaling.cost.arrays",
    "Measurement": "scaling.cost.calibration",
    "calibrate": "scaling.cost.calibration",
    "estimate_arrays": "scaling.cost.arrays",
    "read_measurements": "scaling.cost.calibration",
    "shape_arrays": "scaling.cost.arrays",
}

__all__ = [
    "ArrayEstimate",
    "Measurement",
    "calibrate",
    "estimate_arrays",
    "read_measurements",
    "shape_arrays",
    "DEFAULT_BATCH",
    "DEFAULT_HARDWARE",
    "GENERIC",
    "IMAGENET_IMAGES",
    "SAFETY_MARGIN",
    "Backbone",
    "BlockParameters",
    "BlockSaved",
    "Breakdown",
    "Constants",
    "Cost",
    "CostEstimate",
    "Execution",
    "Flops",
    "Head",
    "Interval",
    "Parameters",
    "Placement",
    "SavedBytes",
    "Shape",
    "StateBytes",
    "StepSeconds",
    "constants_of",
    "cost_of",
    "cost_of_shape",
    "estimate",
    "find_backbone",
    "find_hardware",
    "hardware_names",
    "hardware_of_device",
    "place",
    "register_architecture",
    "scan_flops_by_convention",
    "step_seconds",
    "usable_bytes",
]


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'scaling.cost' has no attribute '{name}'")
    return getattr(import_module(_LATE[name]), name)
