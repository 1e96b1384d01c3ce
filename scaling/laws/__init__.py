"""Scaling laws: forms, fitting, intervals, choice, extrapolation. Needs no torch."""

from scaling.laws.catalogue import LAWS, find_law
from scaling.laws.checklist import Answer, checklist
from scaling.laws.choosing import Candidate, Choice
from scaling.laws.columns import default_groups, default_x
from scaling.laws.extrapolation import Extrapolation, forecast
from scaling.laws.fitting import Bounds, Fitted, Options, fit_points
from scaling.laws.intervals import Estimate
from scaling.laws.law import Law, Parameter
from scaling.laws.learning import LossForecast, forecast_loss, forecast_losses
from scaling.laws.points import FitError, Link, Points, gather
from scaling.laws.predictions import Prediction
from scaling.laws.problem import Loss
from scaling.laws.results import FitResult, FitStatus
from scaling.laws.tables import Unfitted, fit, fit_groups, parse_share, rows_where, stating, usable
from scaling.laws.windows import Window, check_windows, expanding_windows

__all__ = [
    "LAWS",
    "Answer",
    "Bounds",
    "Candidate",
    "Choice",
    "Estimate",
    "Extrapolation",
    "FitError",
    "FitResult",
    "FitStatus",
    "Fitted",
    "Law",
    "Link",
    "Loss",
    "LossForecast",
    "Options",
    "Parameter",
    "Points",
    "Prediction",
    "Unfitted",
    "Window",
    "check_windows",
    "checklist",
    "default_groups",
    "default_x",
    "expanding_windows",
    "find_law",
    "fit",
    "fit_groups",
    "fit_points",
    "forecast",
    "forecast_loss",
    "forecast_losses",
    "gather",
    "parse_share",
    "rows_where",
    "stating",
    "usable",
]
