"""Training, evaluating and measuring one cell. Needs torch (the extra 'train').

Names are resolved on first use, so that a process that measures does not wait for what only training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.training.cells import provenance, run_cell
    from scaling.training.fallback import run_what_fits

_HOMES = {
    "provenance": "scaling.training.cells",
    "run_cell": "scaling.training.cells",
    "run_what_fits": "scaling.training.fallback",
}

__all__ = ["provenance", "run_cell", "run_what_fits"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'scaling.training' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
