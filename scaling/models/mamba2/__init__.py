"""The Mamba-2 mixer and its state-space scan, in plain torch or on mamba-ssm's kernels."""

from scaling.models.mamba2.kernels import Kernels, kernels_on
from scaling.models.mamba2.mixer import Mamba2Mixer
from scaling.models.mamba2.ssd import ssd, ssd_recurrence

__all__ = ["Kernels", "Mamba2Mixer", "kernels_on", "ssd", "ssd_recurrence"]
