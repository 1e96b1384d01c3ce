"""Fit one law to the points of one curve: estimates, intervals, and what the data cannot tell."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from scaling.errors import UsageError, nearest
from scaling.laws.bootstrap import Bootstrap, fit_many, resample
from scaling.laws.catalogue import find_law
from scaling.laws.law import Array, Law
from scaling.laws.points import FitError, Points
from scaling.laws.problem import SQUARES, Loss, Problem, Residual
from scaling.laws.profile import Noise, Reported, curvature
from scaling.laws.repeats import PureError, pure_error
from scaling.laws.solver import Solutions, minimise, rough_minima

Bounds: TypeAlias = Mapping[str, tuple[float, float]]
IntervalKind: TypeAlias = Literal["auto", "profile", "residual", "pairs", "group", "none"]
NoiseSource: TypeAlias = Literal["residuals", "repeats", "pooled"]
INTERVAL_KINDS: tuple[IntervalKind, ...] = ("auto", "profile", "residual", "pairs", "group", "none")
FEWEST_RESAMPLES = 100
FEWEST_CLUSTERS = 5
# Rounding alone leaves residuals of this size, so that exact data keep an interval.
ROUNDING = 64 * float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True)
class Options:
    """How a law is fitted; part of every result.

    Attributes:
        residual: 'log', or 'linear' for data that may be negative or whose errors are absolute.
        loss: squares, Huber or Cauchy.
        tail_weight: see `points.gather`.
        bounds: of parameters by name, in the units of the data; equal ends fix one. `{"E": (0, 0)}` is no floor.
        intervals: 'profile' (the default for squares), a bootstrap ('residual'; 'pairs', the default for
            other losses and for tail weights; 'group'), or 'none'.
        noise: estimated from all residuals, from repeats at the same x alone, or from the repeats of all
            curves of a table together.
        level: of the intervals.
        resamples: of a bootstrap.
        seed: of a bootstrap.
        pooled: the scatter of repeats over all curves, for pooled noise; `fit_groups` finds it.
    """

    residual: Residual = "log"
    loss: Loss = SQUARES
    tail_weight: float = 0.0
    bounds: Bounds | None = None
    intervals: IntervalKind = "auto"
    noise: NoiseSource = "residuals"
    level: float = 0.95
    resamples: int = 1000
    seed: int = 0
    pooled: PureError | None = None

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UsageError(f"level {self.level} is not between 0 and 1; 0.95 is usual")
        if self.residual not in ("log", "linear"):
            raise UsageError(f"unknown residual '{self.residual}': use log or linear")
        if self.intervals not in INTERVAL_KINDS:
            raise UsageError(f"unknown intervals '{self.intervals}': {nearest(self.intervals, INTERVAL_KINDS)}")
        if self.noise not in get_args(NoiseSource):
            raise UsageError(f"unknown noise '{self.noise}': use residuals, repeats or pooled")
        if self.noise == "pooled" and (self.residual != "log" or self.tail_weight > 0):
            raise UsageError(
                "noise 'pooled' is of logarithmic residuals of equal weight: take no other residual or tail"
            )
        if self.noise != "residuals" and self.method in get_args(Bootstrap):
            raise UsageError(
                f"noise '{self.noise}' with intervals '{self.method}': a bootstrap takes the noise from the points; "
                "say --intervals profile, or leave out --noise"
            )
        if self.resamples < FEWEST_RESAMPLES:
            raise UsageError(f"{self.resamples} resamples are too few for an interval; at least {FEWEST_RESAMPLES}")
        if not (np.isfinite(self.tail_weight) and self.tail_weight >= 0):
            raise UsageError(f"tail weight {self.tail_weight} is negative or not finite")

    @property
    def method(self) -> IntervalKind:
        """How intervals are made, with 'auto' decided."""
        if self.intervals != "auto":
            return self.intervals
        return "profile" if self.loss.name == "squares" and self.tail_weight == 0 else "pairs"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law at the minimum of one curve's objective, in the units of the fit; `FitResult` reports it.

    Shapes: P parameters, S scales, R resamples.
    """

    law: Law
    points: Points
    problem: Problem
    values: Array
    """(P,)."""
    objective: float
    converged: bool
    units: Array
    """(S,), what the scales were divided by."""
    unit: float
    """What y was divided by."""
    noise: Noise
    repeats: PureError | None
    resamples: Array | None
    """(R, P), of a bootstrap."""
    options: Options

    @property
    def fixed(self) -> Array:
        """Which parameters the options fix, (P,)."""
        return ~self.problem.free

    @property
    def free_parameters(self) -> int:
        """Parameters that were fitted."""
        return int(self.problem.free.sum())

    @property
    def degrees_of_freedom(self) -> int:
        """Points less fitted parameters."""
        return len(self.points.y) - self.free_parameters

    @property
    def estimates(self) -> Array:
        """Reported parameters, (P,)."""
        with np.errstate(over="ignore", under="ignore"):
            return self.law.reported(self.values[None], self.units, self.unit)[0]

    @cached_property
    def other_minima(self) -> Array | None:
        """Places (M, P) to search profiles from too, with any floor and with none, for laws with several minima."""
        law, problem = self.law, self.problem
        if len(law.shape) < 2 or len(law.shape) == len(law.symbols) == 2:
            return None
        found = rough_minima(problem)
        if "E" not in law.names or self.fixed[law.names.index("E")]:
            return found
        upper, place = problem.upper.copy(), law.names.index("E")
        upper[place] = max(problem.lower[place], 0.0)
        return np.concatenate([found, rough_minima(replace(problem, upper=upper))])

    def predict(self, scales: Array, values: Array | None = None) -> Array:
        """What the law says at scales (S, Q), in the units of the data and before the link: (Q,), or (R, Q)."""
        given = self.values[None] if values is None else values
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            losses = self.law.predict(scales / self.units[:, None], given) * self.unit
        return losses[0] if values is None else losses


def fit_points(points: Points, law: str | Law, options: Options | None = None, clusters: Array | None = None) -> Fitted:
    """The global minimum of a law's objective on one curve.

    Args:
        points: of the curve.
        law: its name, or a law of your own.
        options: how to fit it.
        clusters: (N,) labels of points for the group bootstrap, in the order of the points.

    Raises:
        FitError: for fewer points than parameters + 1, or fewer different x than parameters.
        UsageError: for an unknown law, bounds that do not exist, or clusters without their bootstrap.
    """
    law, options = find_law(law) if isinstance(law, str) else law, options or Options()
    _check_clusters(clusters, options.method)
    if len(points.scales) != len(law.symbols):
        raise UsageError(f"the {law.name} law takes {len(law.symbols)} columns for x: {', '.join(law.symbols)}")
    problem, units, unit = _problem(points, law, options)
    parameters = int(problem.free.sum())
    if len(points.y) <= parameters or points.different < parameters:
        raise FitError(
            f"{len(points.y)} points at {points.different} different x; "
            f"the {law.name} law needs at least {parameters + 1} points at {parameters} different x"
        )
    found = minimise(problem)
    values, objective = found.values[0], float(found.objective[0])
    repeats = pure_error(problem)
    noise = _noise(problem, objective, len(points.y) - parameters, repeats, options)
    drawn = _resampled(problem, values, options, clusters)
    result = Fitted(
        law, points, problem, values, objective, bool(found.converged[0]), units, unit, noise, repeats, drawn, options
    )
    vanished = (result.estimates == 0) & (values != 0) & [parameter.amplitude for parameter in law.parameters]
    unit_overflows = options.residual == "linear" and not np.isfinite(unit * unit)
    if np.any(vanished) or unit_overflows or not np.all(np.isfinite(result.estimates)):
        raise FitError(f"parameters of the {law.name} law overflow in these units; rescale x or y, or take another law")
    return result


def _problem(points: Points, law: Law, options: Options) -> tuple[Problem, Array, float]:
    units = law.units(points.scales)
    magnitude = np.abs(points.y[points.y != 0])
    unit = float(np.exp(np.mean(np.log(magnitude)))) if len(magnitude) else 1.0
    lower, upper = _bounds(law, options.bounds or {}, units, unit)
    scales, y = points.scales / units[:, None], (points.y / unit)[None]
    loss = options.loss
    if options.residual == "linear":
        loss = replace(loss, scale=loss.scale / unit)
    return Problem(law, scales, y, points.weights[None], lower, upper, options.residual, loss), units, unit


def _bounds(law: Law, given: Bounds, units: Array, unit: float) -> tuple[Array, Array]:
    """Bounds of the parameters inside a fit. Those given are in the units of the data."""
    lower = np.array([parameter.lower for parameter in law.parameters])
    upper = np.array([parameter.upper for parameter in law.parameters])
    for name, (low, high) in given.items():
        if name not in law.names:
            raise UsageError(f"the {law.name} law has no parameter '{name}': {nearest(name, law.names)}")
        if not low <= high:
            raise UsageError(f"bounds of {name}: {low} is above {high}")
        place = law.names.index(name)
        ends = np.array([low, high], dtype=float)
        if low == high and not np.isfinite(low):
            raise UsageError(f"bounds of {name}: {low} is no value to fix it at")
        scale = _own_scale(law, place, units, unit)
        if scale is not None:
            lower[place], upper[place] = ends / scale
        elif np.any(np.isfinite(ends) & (ends != 0)) or high <= 0:
            raise UsageError(f"bounds of {name} mix with other parameters; only 0 and infinity can bound it")
        elif place < len(law.linear) and law.parameters[place].amplitude:
            lower[place], upper[place] = ends
    return lower, upper


def _own_scale(law: Law, place: int, units: Array, unit: float) -> float | None:
    """What a parameter inside a fit is multiplied by to report it; None if others enter too."""
    if law.parameters[place].amplitude:
        return None
    trial = np.ones((3, len(law.parameters)))
    trial[1, place], trial[2] = 2.0, 1.7
    trial[2, place] = 1.0
    one, two, other = law.reported(trial, units, unit)[:, place]
    return float(one) if one != 0 and np.isclose(two, 2 * one) and np.isclose(other, one) else None


def _noise(problem: Problem, objective: float, freedom: int, repeats: PureError | None, options: Options) -> Noise:
    from scipy import special  # late: not every use of a law needs it

    variance = 2 * objective / max(freedom, 1)
    if options.noise == "repeats":
        if repeats is None:
            raise FitError("the noise cannot be estimated from repeats: no x has two points")
        variance, freedom = repeats.variance, repeats.degrees_of_freedom
    if options.noise == "pooled":
        if options.pooled is None:
            raise UsageError("noise 'pooled' needs a table of curves: use fit_groups, or say Options(pooled=...)")
        variance, freedom = options.pooled.variance, options.pooled.degrees_of_freedom
    freedom = max(freedom, 1)
    return Noise(max(variance, ROUNDING**2), freedom, float(special.fdtri(1, freedom, options.level)))


def _check_clusters(clusters: Array | None, intervals: IntervalKind) -> None:
    if intervals == "group" and clusters is None:
        raise UsageError("intervals 'group' need the column of the groups (--clusters)")
    if intervals != "group" and clusters is not None:
        raise UsageError(
            f"clusters with intervals '{intervals}' have no effect: say --intervals group, or leave out --clusters"
        )


def _resampled(problem: Problem, values: Array, options: Options, clusters: Array | None) -> Array | None:
    if options.method not in get_args(Bootstrap):
        return None
    if clusters is not None and len(np.unique(clusters)) < FEWEST_CLUSTERS:
        raise FitError(f"{len(np.unique(clusters))} clusters: a bootstrap of groups needs at least {FEWEST_CLUSTERS}")
    given = options.resamples, options.seed, clusters
    drawn = resample(problem, values, options.method, *given)  # pyright: ignore[reportArgumentType]
    return drawn.values[np.isfinite(drawn.objective)]


def standard_errors(fitted: Fitted) -> Array:
    """Standard errors of the reported parameters by the curvature at the minimum, (P,); 0 for those at a bound."""
    inverse, size = curvature(fitted.problem, fitted.values), len(fitted.values)
    reported = Reported(fitted.law, fitted.units, fitted.unit, np.arange(size), np.zeros(size, dtype=bool))
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        _, slopes = reported(np.repeat(fitted.values[None], size, axis=0))
    return np.sqrt(fitted.noise.variance * np.einsum("pi,ij,pj->p", slopes, inverse, slopes))


def refit(fitted: Fitted, weights: Array) -> Solutions:
    """Fits with other weights (R, N) of the same points, such as leaving one out."""
    return fit_many(replace(fitted.problem, weights=fitted.problem.weights * weights), fitted.values)
