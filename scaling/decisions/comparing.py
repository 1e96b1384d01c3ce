"""Set the axes against each other: gains per cost, differences at equal cost, the frontier, and a verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.decisions.axes import AXES, Path, default_base, paths_from
from scaling.decisions.candidates import COSTS, Candidate, Field, gather_candidates, of_task
from scaling.decisions.confounders import confounders
from scaling.decisions.draws import Curve, Draws, Spread, curve_of, draw_outcomes
from scaling.decisions.elasticity import Elasticity, elasticity_of
from scaling.decisions.outcomes import CompareError, find_outcome, seed_noise
from scaling.errors import UsageError
from scaling.records import check_results, is_published, load_records, notes_on

if TYPE_CHECKING:
    import pandas as pd

SURE = 0.975  # chance from which a gain is called one: its two-sided 95 % interval lies above zero
RATIOS = (2.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
MAIN_AXES = 3  # patch, parameters and input, which any study can add
NEAR_END = 1.25  # a ratio this near to where both paths end is shown at the end instead
FEWEST_RATIO = 1.25  # of costs, below which a gain per doubling would be an extrapolation of noise


@dataclass(frozen=True, slots=True)
class Step:
    """One design of a path, against the base and against the design before it."""

    candidate: Candidate
    ratios: dict[str, float]
    """Of each cost, to the base's."""
    gain: Spread
    """Over the base: points of a rate, or what is taken off a loss."""
    over_previous: Spread
    over_best: Spread
    """Over the last design before it that surely paid."""
    per_doubling: dict[str, float]
    """Gain over the base for each doubling of a cost."""


@dataclass(frozen=True, slots=True)
class AxisResult:
    """What following one axis brings."""

    path: Path
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """Of the axis."""
        return self.path.axis.name

    @property
    def pays_until(self) -> Candidate:
        """The last design that is surely better than the last one before it that paid; the base if none is."""
        paid = [step.candidate for step in self.steps if step.over_best.chance >= SURE]
        return paid[-1] if paid else self.path.base


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one axis does than another for the same cost; both reach it."""

    first: str
    second: str
    cost: str
    ratio: float
    at_end: bool
    """Whether the shorter of the two paths ends here."""
    gain: Spread


@dataclass(frozen=True, slots=True)
class Ranking:
    """All axes at one cost that each of them reaches."""

    cost: str
    ratio: float
    gains: dict[str, Spread]
    """By axis, the best first."""
    best: dict[str, float]
    """By axis: the chance that it is the best."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All axes from one base."""

    field: Field
    base: Candidate
    axes: tuple[AxisResult, ...]
    values: dict[str, Spread]
    """By design: the outcome as it was observed, with what other seeds may give; the chance means nothing."""
    rankings: tuple[Ranking, ...]
    """One for each cost over which two axes or more can be followed."""
    differences: tuple[Difference, ...]
    frontier: dict[str, tuple[str, ...]]
    """By cost: the designs that no cheaper one equals."""
    noise: str
    confounders: tuple[str, ...]
    gaps: tuple[str, ...]
    """Comparisons that could not be made, and what would make them."""
    notes: tuple[str, ...]
    """What the publisher of records says of the designs used."""

    def elasticities(self) -> dict[str, Elasticity]:
        """By axis: how the reducible loss falls with the first known cost, fitted to all designs on the axis."""
        fits = {
            axis.name: elasticity_of(axis.path.line, cost, self.field.outcome)
            for cost in list(self.field.cost_words)[:1]
            for axis in self.axes
        }
        return {name: found for name, found in fits.items() if found}


def compare(
    source: "pd.DataFrame | str | FilePath",
    base: str | None = None,
    y: str | None = None,
    noise: float | None = None,
    task: str | None = None,
) -> Comparison:
    """Compare the axes along which a design can grow.

    Args:
        source: a table of records, or what `load_records` takes.
        base: short name of the design to start from; by default the one with most axes and designs.
        y: outcome, such as 'accuracy' or 'test_loss'; by default the first metric that the records have.
        noise: standard deviation between seeds: of a loss, relative; of a rate, in points. By default it is
            estimated from repeats, or assumed where there are none.
        task: of the records, such as 'detection'; by default that of the base, or the one with most results.

    Raises:
        CompareError: if nothing can be compared, with what to run.
        UsageError: for a base, an outcome or a task that the records do not have.
    """
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise UsageError(f"--seed-noise {noise} is no standard deviation")
    table = source if not isinstance(source, str | FilePath) else load_records(source)
    check_results(table)
    table = of_task(table, task)
    outcome = find_outcome(table, y)
    field = gather_candidates(table, outcome, base)
    start = field.find(base) if base is not None else default_base(field)
    if start is None:
        names = ", ".join(each.design for each in field.candidates[:3])
        raise CompareError(f"no two of the designs ({names}, ...) differ along one axis alone; nothing to compare")
    paths = [path for path in paths_from(field, start) if len(path.onward) > 1 or path.unfinished]
    if not any(len(path.onward) > 1 for path in paths):
        raise CompareError(f"no axis from {start.design} has another result; {'; '.join(untried(start, []))}")
    known = seed_noise({each.design: each.results for each in field.candidates}, outcome, noise)
    draws = draw_outcomes(field, known)
    axes = tuple(_follow(path, field, draws) for path in paths)
    return Comparison(
        field=field,
        base=start,
        axes=axes,
        values={design: draws.value(design) for design in draws.observed},
        rankings=tuple(found for cost in field.cost_words if (found := _ranking(axes, cost, draws))),
        differences=tuple(_differences(axes, draws)),
        frontier={cost: _frontier(field, cost) for cost in field.cost_words},
        noise=known.words,
        confounders=tuple(confounders(start, axes_designs(axes), known)),
        gaps=tuple(gaps(axes, field)) + (() if is_published(table) else tuple(untried(start, axes))),
        notes=tuple(
            notes_on(
                table[table[outcome.column].notna()], [start.design, *(each.design for each in axes_designs(axes))]
            )
        ),
    )


def axes_designs(axes: tuple[AxisResult, ...]) -> list[Candidate]:
    """All designs with a result that a comparison uses beside its base; elasticities use the cheaper ones too."""
    line = [each for axis in axes for each in axis.path.line if each is not axis.path.base]
    return list({each.design: each for each in line if each.value is not None}.values())


def gaps(axes: tuple[AxisResult, ...], field: Field) -> Iterator[str]:
    """Axes that cannot be followed over a cost."""
    for axis in axes:
        for cost in field.cost_words:
            if axis.steps and curve_of(axis.path.onward, cost) is None:
                yield f"{axis.name} has no place over {cost}: not known of all its designs, or not growing with each"


def untried(base: Candidate, axes: Sequence[AxisResult]) -> Iterator[str]:
    """Main axes without a design beyond the base, and the designs that would be on them."""
    tried = {axis.name for axis in axes}
    for axis in AXES[:MAIN_AXES]:
        if axis.name not in tried:
            head = f"+{base.fields['head']}" if base.fields["head"] else ""
            pattern = axis.only.format(**base.fields) + head
            yield f"{axis.phrase} was not tried: add to the study's grid, and scaling run-grid STUDY --only '{pattern}'"


def _follow(path: Path, field: Field, draws: Draws) -> AxisResult:
    steps, base, previous, best = [], path.base, path.base, path.base
    for candidate in path.onward[1:]:
        ratios = {
            cost: candidate.costs[cost] / base.costs[cost]
            for cost in COSTS
            if cost in candidate.costs and cost in base.costs
        }
        gain = draws.gain(candidate, base)
        doublings = {cost: float(np.log2(ratio)) for cost, ratio in ratios.items() if ratio >= FEWEST_RATIO}
        per_doubling = {cost: gain.estimate / count for cost, count in doublings.items()}
        over_best = draws.gain(candidate, best)
        steps.append(Step(candidate, ratios, gain, draws.gain(candidate, previous), over_best, per_doubling))
        previous, best = candidate, candidate if over_best.chance >= SURE else best
    return AxisResult(path, tuple(steps))


def _ranking(axes: tuple[AxisResult, ...], cost: str, draws: Draws) -> Ranking | None:
    curves = {axis.name: curve_of(axis.path.onward, cost) for axis in axes}
    known = {name: curve for name, curve in curves.items() if curve and curve.end >= FEWEST_RATIO}
    if len(known) < 2:
        return None
    ratio = min(curve.end for curve in known.values())
    gains = {name: draws.gain_along(curve, ratio) for name, curve in known.items()}
    order = sorted(gains, key=lambda name: gains[name].estimate, reverse=True)
    return Ranking(cost, ratio, {name: gains[name] for name in order}, draws.chances_best(known, ratio))


def _differences(axes: tuple[AxisResult, ...], draws: Draws) -> list[Difference]:
    found = []
    for one, other in combinations(axes, 2):
        for cost in COSTS:
            first, second = curve_of(one.path.onward, cost), curve_of(other.path.onward, cost)
            if first is None or second is None:
                continue
            for ratio, at_end in _ratios(first, second):
                gain = draws.difference(first, second, ratio)
                found.append(Difference(one.name, other.name, cost, ratio, at_end, gain))
    return found


def _ratios(first: Curve, second: Curve) -> list[tuple[float, bool]]:
    """Cost ratios at which two paths are compared: round ones, and where the shorter ends."""
    end = min(first.end, second.end)
    if end < FEWEST_RATIO:
        return []
    return [(ratio, False) for ratio in RATIOS if ratio * NEAR_END <= end] + [(end, True)]


def _frontier(field: Field, cost: str) -> tuple[str, ...]:
    known = [each for each in field.candidates if each.value is not None and cost in each.costs]
    best, frontier = np.inf, []
    for candidate in sorted(known, key=lambda each: (each.costs[cost], _inner(field, each))):
        if _inner(field, candidate) < best:
            best = _inner(field, candidate)
            frontier.append(candidate.design)
    return tuple(frontier)


def _inner(field: Field, candidate: Candidate) -> float:
    return float(field.outcome.inner(candidate.results).mean())


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain values."""
    field, base = comparison.field, comparison.base
    return {
        "base": _candidate_json(base),
        "outcome": field.outcome.column,
        "gain_unit": "loss" if field.outcome.is_loss else "points",
        "task": field.task,
        "dataset": field.dataset,
        "costs": field.cost_words,
        "noise": comparison.noise,
        "axes": [_axis_json(axis) for axis in comparison.axes],
        "elasticities": {name: found.to_json() for name, found in comparison.elasticities().items()},
        "rankings": [
            {
                "cost": each.cost,
                "ratio": each.ratio,
                "axes": {name: gain.to_json() | {"best": each.best[name]} for name, gain in each.gains.items()},
            }
            for each in comparison.rankings
        ],
        "differences": [
            {
                "first": each.first,
                "second": each.second,
                "cost": each.cost,
                "ratio": each.ratio,
                "at_end_of_shorter_path": each.at_end,
                **each.gain.to_json(),
            }
            for each in comparison.differences
        ],
        "frontier": {cost: list(designs) for cost, designs in comparison.frontier.items()},
        "confounders": list(comparison.confounders),
        "gaps": list(comparison.gaps),
        "notes": list(comparison.notes),
    }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "design": candidate.design,
        "value": candidate.value,
        "seeds": len(candidate.results),
        "status": candidate.status,
        "parameters": candidate.parameters,
        **candidate.costs,
    }


def _axis_json(axis: AxisResult) -> dict[str, Any]:
    return {
        "axis": axis.name,
        "steps": [
            _candidate_json(step.candidate)
            | {
                "ratios": step.ratios,
                "gain": step.gain.to_json(),
                "gain_over_previous": step.over_previous.to_json(),
                "gain_over_last_that_paid": step.over_best.to_json(),
                "gain_per_doubling": step.per_doubling,
            }
            for step in axis.steps
        ],
        "pays_until": axis.pays_until.design,
        "unfinished": {each.design: each.status for each in axis.path.unfinished},
    }
