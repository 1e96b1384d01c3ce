"""Training, evaluating and measuring one cell. Needs torch (the extra 'train')."""

from scaling.training.cells import provenance, run_cell
from scaling.training.fallback import run_what_fits

__all__ = ["provenance", "run_cell", "run_what_fits"]
