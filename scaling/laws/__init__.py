"""Scaling laws: forms, fitting, intervals. Needs no torch."""

from scaling.laws.curves import CurveFit, default_groups, fit, usable
from scaling.laws.fitting import LAW_CHOICES, FitError, FitResult, FitStatus, fit_curve
from scaling.laws.forms import LAWS, PowerLaw, SaturatingPowerLaw

__all__ = [
    "LAWS",
    "LAW_CHOICES",
    "CurveFit",
    "FitError",
    "FitResult",
    "FitStatus",
    "PowerLaw",
    "SaturatingPowerLaw",
    "default_groups",
    "fit",
    "fit_curve",
    "usable",
]
