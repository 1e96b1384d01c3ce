"""Training, evaluating and measuring one cell. Needs torch (the extra 'train')."""

from scaling.training.cells import provenance, run_cell

__all__ = ["provenance", "run_cell"]
