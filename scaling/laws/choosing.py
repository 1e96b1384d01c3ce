"""Which law the data speak for: information criterion, errors of points left out, and a verdict in words."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.laws.catalogue import LAWS
from scaling.laws.fitting import ROUNDING, Fitted, Options, fit_points, refit
from scaling.laws.intervals import Estimate, parameter_intervals
from scaling.laws.law import Array, Law
from scaling.laws.points import Points, distance_from_end

FOR_ONE_SCALE = ("power", "saturating", "M3", "M4", "broken")
FOR_MODEL_AND_PATCH = ("additive", "multiplicative", "interaction")
PLACES_PER_PARAMETER = 2  # different x that a law needs before it is considered beside the first two
CLEAR_GAP = 2.0  # of AICc, below which the simpler law is as good
ENOUGH = 10  # points, from which the criterion can speak of three parameters
LEFT_OUT_AT_MOST = 40  # different x; with more, points left out say little that the criterion does not


@dataclass(frozen=True, slots=True)
class Candidate:
    """How one law did."""

    law: str
    parameters: int
    aicc: float
    """Akaike's criterion with the correction for few points; infinite where there are too few."""
    weight: float
    """Share of the evidence among the candidates."""
    left_out_error: float | None
    """Root mean square error, relative for logarithmic residuals, of each point predicted from those at another x."""
    end_error: float | None
    """Signed error at the end of the scale with the lower y, predicted from the rest; in the unit of y."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        aicc = self.aicc if np.isfinite(self.aicc) else None
        errors = {"left_out_error": self.left_out_error, "end_error": self.end_error}
        return {"law": self.law, "parameters": self.parameters, "aicc": aicc, "weight": self.weight} | errors


@dataclass(frozen=True, slots=True)
class Choice:
    """The laws that were compared, the one chosen, and why."""

    chosen: str
    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...]
    fits: tuple[Fitted, ...] = field(repr=False)
    """Of the candidates, without intervals."""

    @property
    def verdict(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)

    def average(self, scales: Array) -> Array | None:
        """The candidates' predictions (Q,) at scales (S, Q), averaged by their weights; before a link.

        Geometrically for logarithmic residuals. None where too few points leave the chosen law without a
        criterion: the weights say nothing then.
        """
        criterion = {candidate.law: candidate.aicc for candidate in self.candidates}[self.chosen]
        if not np.isfinite(criterion):
            return None
        pairs = zip(self.candidates, self.fits, strict=True)
        counted = [(candidate.weight, fitted.predict(scales)) for candidate, fitted in pairs if candidate.weight > 0]
        weights, predicted = np.array([weight for weight, _ in counted]), np.array([found for _, found in counted])
        if self.fits[0].problem.residual == "linear":
            return weights @ predicted
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.exp(weights @ np.log(predicted))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"candidates": [candidate.to_json() for candidate in self.candidates], "verdict": self.verdict}


def law_family(scales: tuple[str, ...]) -> tuple[str, ...]:
    """Laws of as many scales as there are columns, the simplest first; with a patch size, those of patches."""
    if len(scales) == 1:
        return FOR_ONE_SCALE
    if len(scales) == 3:
        return ("additive-3",)
    return FOR_MODEL_AND_PATCH if any(scale.startswith("patch") for scale in scales) else ("chinchilla",)


def candidate_laws(scales: tuple[str, ...], points: int, different: int) -> list[str]:
    """Laws that `auto` compares: those of the scales that the points can carry."""
    names, chosen = law_family(scales), []
    for name in names:
        parameters = len(LAWS[name].parameters)
        needed = parameters if name in ("power", "saturating") else PLACES_PER_PARAMETER * parameters
        if different >= needed and points > parameters:
            chosen.append(name)
    return chosen or [names[0]]


def aicc(fitted: Fitted) -> float:
    """Akaike's information criterion corrected for small samples (Hurvich and Tsai 1989); the noise is a parameter."""
    count, parameters = len(fitted.points.y), fitted.free_parameters + 1
    if count <= parameters + 1:
        return float("inf")
    mean_square = max(2 * fitted.objective / count, ROUNDING**2)
    return count * np.log(mean_square) + 2 * parameters * count / (count - parameters - 1)


def fit_or_choose(
    points: Points, law: str | Law, x: tuple[str, ...], options: Options, clusters: Array | None = None
) -> tuple[Fitted, Choice | None]:
    """Fit the law that was asked for or, for 'auto', the one that the data speak for.

    Args:
        points: of one curve.
        law: its name, 'auto', or a law of your own.
        x: columns of the scales, which say what laws there are.
        options: how to fit.
        clusters: (N,) labels for the group bootstrap.

    Raises:
        FitError: if the points cannot carry the law.
        UsageError: as `fit_points` does.
    """
    if law != "auto":
        return fit_points(points, law, options, clusters), None
    names = candidate_laws(x, len(points.y), points.different)
    names = [name for name in names if set(options.bounds or {}) <= set(LAWS[name].names)] or names[-1:]
    quick = replace(options, intervals="none")
    fits = [fit_points(points, name, quick) for name in names]
    choice = choose(fits, _floor(fits, options))
    return fit_points(points, choice.chosen, options, clusters), choice


def _floor(fits: list[Fitted], options: Options) -> Estimate | None:
    """The saturating law's floor with its interval, where that law was compared with the power law."""
    if [fitted.law.name for fitted in fits[:2]] != ["power", "saturating"]:
        return None
    return parameter_intervals(replace(fits[1], options=replace(options, intervals="profile")))["E"]


def choose(fits: list[Fitted], floor: Estimate | None) -> Choice:
    """Compare fits of the same points, the simplest first.

    Between a power law and a saturating one, the latter needs a `floor` whose interval excludes zero: a test
    that holds with five points, where the criterion cannot speak. With enough points it must agree. Other
    laws need a criterion that is clearly better than the winner's.
    """
    criteria = np.array([aicc(fitted) for fitted in fits])
    names = [fitted.law.name for fitted in fits]
    place = 0
    if floor is not None and floor.low > 0:
        agrees = len(fits[0].points.y) < ENOUGH or criteria[0] - criteria[1] >= CLEAR_GAP
        place = 1 if agrees else 0
    lowest = int(np.argmin(criteria))
    simple = ("power", "saturating") if floor is not None else names[:1]
    if names[lowest] not in simple and criteria[lowest] <= criteria[place] - CLEAR_GAP:
        place = lowest
    best = names[place]
    weights = _weights(criteria)
    candidates = tuple(
        _candidate(fitted, float(criterion), float(weight))
        for fitted, criterion, weight in zip(fits, criteria, weights, strict=True)
    )
    return Choice(best, candidates, _reasons(best, candidates, fits[0].points, floor), tuple(fits))


def _weights(criteria: Array) -> Array:
    if not np.any(np.isfinite(criteria)):
        return np.full(len(criteria), 1 / len(criteria))
    evidence = np.exp(-(criteria - criteria.min()) / 2)
    return evidence / evidence.sum()


def _candidate(fitted: Fitted, criterion: float, weight: float) -> Candidate:
    _, place = np.unique(fitted.points.scales, axis=1, return_inverse=True)
    place = place.ravel()
    different = int(place.max()) + 1
    left_out_error = end_error = None
    if fitted.free_parameters < different <= LEFT_OUT_AT_MOST:
        weights = (place[None] != np.arange(different)[:, None]).astype(float)
        predicted = fitted.predict(fitted.points.scales, refit(fitted, weights).values)[place, np.arange(len(place))]
        error = _errors(fitted, predicted)
        left_out_error = float(np.sqrt(np.mean(error**2)))
        points = fitted.points
        end_error = float(np.mean((points.from_link(predicted) - points.from_link(points.y))[_at_end(points)]))
    return Candidate(fitted.law.name, fitted.free_parameters, criterion, weight, left_out_error, end_error)


def _errors(fitted: Fitted, predicted: Array) -> Array:
    y = fitted.points.y
    return np.log(predicted / y) if fitted.problem.residual == "log" else predicted - y


def _at_end(points: Points) -> Array:
    """Which points (N,) are at the end of the first scale with the lower y; of places there, at the lowest mean."""
    _, place = np.unique(points.scales, axis=1, return_inverse=True)
    place = place.ravel()
    means = np.bincount(place, points.y) / np.bincount(place)
    return place == place[np.lexsort((means[place], distance_from_end(points)))[0]]


def _reasons(best: str, candidates: tuple[Candidate, ...], points: Points, floor: Estimate | None) -> tuple[str, ...]:
    if len(candidates) == 1:
        few = "a floor cannot be tested: a saturating law needs 4 points at 3 different x"
        return (few,) if best == "power" else ()
    chosen = next(candidate for candidate in candidates if candidate.law == best)
    rivals = [candidate for candidate in candidates if candidate.law != best]
    if floor is not None and best in ("power", "saturating"):
        rivals = [candidate for candidate in rivals if candidate.law in ("power", "saturating")]
    rival = min(rivals, key=lambda other: other.aicc)
    reason = _reason(chosen, rival, floor)
    if rival.end_error is None or chosen.end_error is None or len(points.scales) > 1:
        return (reason,)
    end = points.scales[0, _at_end(points)][0]
    errors = f"{rival.law} misses it by {rival.end_error:+.2g}, {best} by {chosen.end_error:+.2g}"
    return reason, f"fitted without x = {end:g}, {errors}"


def _reason(chosen: Candidate, rival: Candidate, floor: Estimate | None) -> str:
    gap = rival.aicc - chosen.aicc
    criterion = f"ΔAICc {round(gap, 1) + 0.0:.1f}" if np.isfinite(gap) else ""
    if {chosen.law, rival.law} != {"power", "saturating"} or floor is None:
        return f"{chosen.law} beats {rival.law}: {criterion}" if gap > 0 else f"{chosen.law}, the simplest, is as good"
    if chosen.law == "saturating":
        words = f"saturating beats power: the floor's interval starts at {floor.low:.3g}"
    elif floor.low > 0:
        words = f"power kept: with a floor, which would be {floor.low:.3g} to {floor.high:.3g}, it is as good"
    else:
        words = f"power kept: floor not identified by these data, any E from 0 to {floor.high:.3g} fits"
    return f"{words} ({criterion})" if criterion else words
