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
    CommunicationBytes,
    ElementwiseFlops,
    Flops,
    Parameters,
    SavedBytes,
    StateBytes,
)
from scaling.cost.budget import Budget, StageBudget, budget
from scaling.cost.cells import CellCost, StageCost, cell_speed, cost_of_cell, head_for, head_of
from scaling.cost.cost import Cost, cost_of, cost_of_shape, scan_flops_by_convention
from scaling.cost.estimates import (
    DEFAULT_BATCH,
    DEFAULT_CLASSES,
    DEFAULT_HARDWARE,
    IMAGENET_IMAGES,
    CostEstimate,
    estimate,
)
from scaling.cost.hardware import find_hardware, hardware_names, hardware_of_device
from scaling.cost.memory import SAFETY_MARGIN, Layout, Placement, place, usable_bytes
from scaling.cost.requests import Request, Row
from scaling.cost.roofline import GENERIC, Constants, Interval, StepSeconds, constants_of, interval_fields, step_seconds
from scaling.cost.shapes import Execution, Head, Scan, Shape
from scaling.cost.stages import Stage, StageRow, recipe_names, stage_rows, stages_of

if TYPE_CHECKING:
    from scaling.cost.arrays import ArrayEstimate, estimate_arrays, shape_arrays
    from scaling.cost.calibration import Measurement, calibrate, efficiency_toml
    from scaling.cost.measurements import read_measurements, recorded_head

_LATE = {
    "ArrayEstimate": "scaling.cost.arrays",
    "Measurement": "scaling.cost.calibration",
    "calibrate": "scaling.cost.calibration",
    "estimate_arrays": "scaling.cost.arrays",
    "efficiency_toml": "scaling.cost.calibration",
    "read_measurements": "scaling.cost.measurements",
    "recorded_head": "scaling.cost.measurements",
    "shape_arrays": "scaling.cost.arrays",
}

__all__ = [
    "DEFAULT_BATCH",
    "DEFAULT_CLASSES",
    "DEFAULT_HARDWARE",
    "GENERIC",
    "IMAGENET_IMAGES",
    "SAFETY_MARGIN",
    "ArrayEstimate",
    "Backbone",
    "BlockParameters",
    "BlockSaved",
    "Breakdown",
    "Budget",
    "CellCost",
    "Constants",
    "Cost",
    "CommunicationBytes",
    "CostEstimate",
    "ElementwiseFlops",
    "Execution",
    "Flops",
    "Head",
    "Interval",
    "Measurement",
    "Layout",
    "Parameters",
    "Placement",
    "Request",
    "Row",
    "SavedBytes",
    "Scan",
    "Shape",
    "Stage",
    "StageBudget",
    "StageCost",
    "StageRow",
    "StateBytes",
    "StepSeconds",
    "budget",
    "calibrate",
    "cell_speed",
    "constants_of",
    "cost_of",
    "cost_of_cell",
    "cost_of_shape",
    "estimate",
    "efficiency_toml",
    "estimate_arrays",
    "find_backbone",
    "find_hardware",
    "hardware_names",
    "hardware_of_device",
    "interval_fields",
    "head_for",
    "head_of",
    "place",
    "read_measurements",
    "recorded_head",
    "recipe_names",
    "register_architecture",
    "scan_flops_by_convention",
    "shape_arrays",
    "stage_rows",
    "stages_of",
    "step_seconds",
    "usable_bytes",
]


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'scaling.cost' has no attribute '{name}'")
    return getattr(import_module(_LATE[name]), name)
