"""What a fit says: a frozen result with words, numbers and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.errors import UsageError
from scaling.laws.choosing import Choice
from scaling.laws.extrapolation import Extrapolation
from scaling.laws.fitting import Fitted, standard_errors
from scaling.laws.intervals import Estimate, parameter_intervals
from scaling.laws.law import Array
from scaling.laws.points import FitError
from scaling.laws.predictions import Prediction, band, predict_at
from scaling.laws.repeats import PureError, lack_of_fit

if TYPE_CHECKING:
    import pandas as pd

LACK_OF_FIT = 0.01
FAR = 1e6  # how far beyond the data an inverse is sought, as a factor


class FitStatus(StrEnum):
    """How a fit ended; the value is the sentence shown."""

    CONVERGED = "converged"
    AT_BOUND = "a parameter of the shape is at its bound: the curve does not have this law's form on this axis"
    DEGENERATE = "degenerate: other parameters fit these data as well"
    FLAT = "no trend: the best law is a constant"
    NOT_CONVERGED = "stopped before the minimum was reached to the last digit"


@dataclass(frozen=True, eq=False)
class FitResult:
    """One curve's fitted law.

    Intervals hold at `options.level` for independent errors of one size, relative for logarithmic
    residuals; see docs/fitting.md for how they are made.
    """

    fitted: Fitted
    x: tuple[str, ...]
    """Columns of the scales."""
    y: str
    """Column that was fitted."""
    group: dict[str, Any]
    """What the curve's rows share."""
    left_out: tuple[str, ...]
    """Rows that were not used, each with the reason."""
    choice: Choice | None = None
    """How the law was chosen, where it was."""
    extrapolation: Extrapolation | None = None
    """How held-out rows were predicted."""

    @property
    def law(self) -> str:
        """Name of the law."""
        return self.fitted.law.name

    @property
    def label(self) -> str:
        """The group in words, such as 'segmentation deit nano 24 linear'."""
        return " ".join(str(value) for value in self.group.values()) or "all records"

    @cached_property
    def parameters(self) -> dict[str, Estimate]:
        """Estimates and intervals by name, in the units of the data."""
        return parameter_intervals(self.fitted)

    @cached_property
    def standard_errors(self) -> dict[str, float]:
        """By the curvature at the minimum; intervals are better with few points."""
        return dict(zip(self.fitted.law.names, map(float, standard_errors(self.fitted)), strict=True))

    @property
    def points_used(self) -> int:
        """Rows used."""
        return len(self.fitted.points.y)

    @property
    def degrees_of_freedom(self) -> int:
        """Rows used less fitted parameters."""
        return self.fitted.degrees_of_freedom

    @property
    def objective(self) -> float:
        """The weighted sum of losses at the minimum; r^2 / 2 for squares, in the unit of y for linear residuals."""
        return self.fitted.objective * self._residual_unit**2

    @property
    def residual_deviation(self) -> float:
        """Standard deviation of the residuals: relative for logarithmic ones."""
        return float(np.sqrt(2 * self.fitted.objective / self.degrees_of_freedom)) * self._residual_unit

    @property
    def _residual_unit(self) -> float:
        return self.fitted.unit if self.fitted.options.residual == "linear" else 1.0

    @cached_property
    def status(self) -> FitStatus:
        """How the fit ended."""
        fitted, count = self.fitted, len(self.fitted.law.linear)
        amplitudes = [part.amplitude for part in fitted.law.linear]
        points = fitted.points
        if np.ptp(points.y) == 0 or (any(amplitudes) and not np.any(fitted.values[:count][amplitudes] != 0)):
            return FitStatus.FLAT
        shape, lower, upper = (each[count:] for each in (fitted.values, fitted.problem.lower, fitted.problem.upper))
        searched = (lower < upper) & np.isfinite(upper)
        if np.any(searched & ((shape >= upper - 1e-9) | ((shape <= lower + 1e-9) & (lower < 0)))):
            return FitStatus.AT_BOUND
        if not fitted.converged:
            return FitStatus.NOT_CONVERGED
        if np.any(np.isinf([end for found in self.parameters.values() for end in (found.low, found.high)])):
            return FitStatus.DEGENERATE
        return FitStatus.CONVERGED

    def predict(self, x: ArrayLike) -> Array:
        """What the law says at x: (Q,) for one scale, (S, Q) for several; in the unit of y."""
        return self.fitted.points.from_link(self.fitted.predict(self._scales(x)))

    def band(self, x: ArrayLike, new_run: bool = False) -> tuple[Array, Array]:
        """Lower and upper ends of the interval of the law at each x, or of one new run there."""
        return band(self.fitted, self._scales(x), new_run)

    def predictions(self, x: ArrayLike) -> tuple[Prediction, ...]:
        """All that is known at each x, (Q,) for one scale or (S, Q): the law, its intervals and its reach."""
        return predict_at(self.fitted, self.choice, self._scales(x))

    def inverse(self, y: float, **others: float) -> float:
        """The x at which the law reaches y; for laws of several scales, `others` says all but one by symbol.

        Raises:
            FitError: if the law reaches y nowhere within a factor of a million of the data.
            UsageError: unless exactly one symbol is left, or for a y that is not finite.
        """
        symbols = self.fitted.law.symbols
        open_ = [symbol for symbol in symbols if symbol not in others]
        if len(open_) != 1 or set(others) - set(symbols):
            raise UsageError(f"the inverse of the {self.law} law needs all but one of {', '.join(symbols)}")
        if not np.isfinite(y):
            raise UsageError(f"{y} is no value of {self.y}")
        data = self.fitted.points.scales[symbols.index(open_[0])]
        x = np.geomspace(data.min() / FAR, data.max() * FAR, 20_001)
        scales = np.stack([x if symbol == open_[0] else np.full_like(x, others[symbol]) for symbol in symbols])
        distance = self.fitted.predict(scales) - float(self.fitted.points.to_link(y))
        crossings = np.flatnonzero(np.diff(np.sign(distance)) != 0)
        if not len(crossings):
            raise FitError(f"the {self.law} law reaches {self.y} = {y:g} nowhere near these data")
        middle = np.log(data).mean()
        left = crossings[np.argmin(np.abs(np.log(x[crossings]) - middle))]
        share = distance[left] / (distance[left] - distance[left + 1])
        return float(np.exp(np.log(x[left]) + share * np.log(x[left + 1] / x[left])))

    def _scales(self, x: ArrayLike) -> Array:
        scales, symbols = np.asarray(x, dtype=float), self.fitted.law.symbols
        scales = np.atleast_1d(scales)[None] if len(symbols) == 1 and scales.ndim < 2 else scales
        if scales.ndim != 2 or len(scales) != len(symbols):
            raise UsageError(f"the {self.law} law is asked for rows of {', '.join(symbols)}, shape ({len(symbols)}, Q)")
        if not np.all((scales > 0) & np.isfinite(scales)):
            raise UsageError("a law is asked for finite, positive x")
        return scales

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know before quoting the fit."""
        return tuple(_notes(self))

    @property
    def text(self) -> str:
        """The law with numbers."""
        names, estimates = self.fitted.law.names, self.fitted.estimates
        return self.fitted.law.text(dict(zip(names, map(float, estimates), strict=True)))

    def latex(self, x: str | Sequence[str] | None = None, y: str = "L") -> str:
        """The law with numbers as LaTeX mathematics, without the dollar signs; `x` are the scales' symbols."""
        values = dict(zip(self.fitted.law.names, map(float, self.fitted.estimates), strict=True))
        return self.fitted.law.to_latex(values, [x] if isinstance(x, str) else x, y)

    def summary(self) -> str:
        """A few lines for people."""
        found = [
            f"{name} = {part.estimate:.4g} [{part.low:.4g}, {part.high:.4g}]" for name, part in self.parameters.items()
        ]
        head = f"{self.label}: {self.y} against {', '.join(self.x)}, {self.fitted.law.formula}"
        lines = [head, f"  {', '.join(found)} ({self.fitted.options.level:.0%} intervals)"]
        lines.append(f"  {self.points_used} points, residuals {self.residual_deviation:.3g}, {self.status}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def to_frame(self) -> "pd.DataFrame":
        """One row per parameter."""
        import pandas as pd

        errors = self.standard_errors
        return pd.DataFrame(
            [
                self.group
                | {"law": self.law, "parameter": name, "estimate": part.estimate, "low": part.low, "high": part.high}
                | {"standard_error": errors[name]}
                for name, part in self.parameters.items()
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        fitted, options = self.fitted, self.fitted.options
        ranges = zip(self.x, fitted.points.scales, strict=True)
        return {
            "group": self.group,
            "x": list(self.x),
            "y": self.y,
            "law": self.law,
            "formula": fitted.law.formula,
            "source": fitted.law.source,
            "parameters": {name: part.to_json() for name, part in self.parameters.items()},
            "objective": self.objective,
            "residual_deviation": self.residual_deviation,
            "status": self.status.name.lower(),
            "status_words": str(self.status),
            "points_used": self.points_used,
            "points_left_out": list(self.left_out),
            "degrees_of_freedom": self.degrees_of_freedom,
            "x_range": {name: [float(scale.min()), float(scale.max())] for name, scale in ranges},
            "choice": self.choice.to_json() if self.choice else None,
            "extrapolation": self.extrapolation.to_json() if self.extrapolation else None,
            "notes": list(self.notes),
            "options": {
                "residual": options.residual,
                "loss": str(options.loss),
                "link": fitted.points.link,
                "tail_weight": options.tail_weight,
                "bounds": {name: [_plain(end) for end in ends] for name, ends in (options.bounds or {}).items()},
                "intervals": options.method,
                "noise": options.noise,
                "noise_deviation": float(np.sqrt(fitted.noise.variance)) * self._residual_unit,
                "noise_degrees_of_freedom": fitted.noise.degrees_of_freedom,
                "level": options.level,
                "resamples": options.resamples,
                "seed": options.seed,
            },
            "version": metadata.version("patch-scaling"),
        }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _notes(result: FitResult) -> list[str]:
    fitted = result.fitted
    parameters, notes = fitted.free_parameters, []
    if result.choice:
        notes += result.choice.reasons
    if result.status is not FitStatus.CONVERGED:
        notes.append(str(result.status))
    if fitted.points.link != "none":
        notes.append(f"fitted to the odds of an error, not to {result.y} itself")
    for place, part in enumerate(fitted.law.linear):
        if len(fitted.law.symbols) > 1 and part.amplitude and fitted.values[place] == 0:
            notes.append(f"{part.name} = 0: these data show nothing of that scale; its exponent means nothing")
    exponent = result.parameters.get("b") if result.law in ("power", "saturating") else None
    if exponent and exponent.low <= 0 <= exponent.high:
        notes.append("no trend: a constant fits these data too")
    floor = result.parameters.get("E")
    if floor and not fitted.fixed[fitted.law.names.index("E")] and floor.low <= 0:
        notes.append(f"floor not identified by these data: any E from 0 to {floor.high:.3g} fits")
    own = fitted.repeats or PureError(0.0, 0, fitted.points.different)
    chance = lack_of_fit(2 * fitted.objective, own, parameters, fitted.options.pooled or fitted.repeats)
    if fitted.options.loss.name == "squares" and chance is not None and chance < LACK_OF_FIT:
        notes.append(
            f"the law misses its points by more than repeats differ (lack of fit, p = {chance:.1g}): do not extrapolate"
        )
    if result.points_used < 2 * parameters:
        notes.append(f"{result.points_used} points for {parameters} parameters: intervals are wide; add seeds")
    different = fitted.points.different
    if different <= parameters:
        notes.append(
            f"{different} different x for {parameters} parameters: "
            "that the law passes through them is no evidence for it"
        )
    return notes
