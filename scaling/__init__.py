"""Scaling studies of plain vision backbones: designs, costs, studies, records, laws, decisions and figures.

Public names are resolved on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.cost import Execution, estimate
    from scaling.decisions import compare
    from scaling.decisions.planning import Question, plan
    from scaling.design import Design, Study, load_study
    from scaling.errors import ScalingError
    from scaling.figures import figure
    from scaling.grid import run_grid
    from scaling.laws import fit, fit_groups
    from scaling.records import load_records

_HOMES = {
    "Design": "scaling.design",
    "Execution": "scaling.cost",
    "Question": "scaling.decisions.planning",
    "ScalingError": "scaling.errors",
    "Study": "scaling.design",
    "compare": "scaling.decisions",
    "estimate": "scaling.cost",
    "figure": "scaling.figures",
    "fit": "scaling.laws",
    "fit_groups": "scaling.laws",
    "load_records": "scaling.records",
    "load_study": "scaling.design",
    "plan": "scaling.decisions.planning",
    "run_grid": "scaling.grid",
}

__all__ = [
    "Design",
    "Execution",
    "Question",
    "ScalingError",
    "Study",
    "compare",
    "estimate",
    "figure",
    "fit",
    "fit_groups",
    "load_records",
    "load_study",
    "plan",
    "run_grid",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'scaling' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
