"""What a candidate study would tell, before anything of it is trained.

Shapes: R draws, K contenders, C designs of the study.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.conditioning import Beliefs, beliefs, tamed
from scaling.decisions.planning.costs import Costs, cost_space
from scaling.decisions.planning.doubts import Doubt, contenders, doubt, luck, worlds
from scaling.decisions.planning.limits import WORDS
from scaling.decisions.planning.outlook import beyond_data, places_of
from scaling.decisions.planning.space import Model, Space
from scaling.design import Design, Study, load_study
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence
    from scaling.decisions.planning.plan import Plan

SHOWN = 5  # contenders
TAIL = 0.025
CandidateStudy: TypeAlias = str | Path | Study | Sequence[str]
"""A study, what `load_study` takes, or short names of designs, each as often as it is to be run."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one quantity, now and after the study, by 95 % intervals."""

    name: str
    """A design, or the symbol of a scale."""
    estimate: float
    now: tuple[float, float]
    after: tuple[float, float]
    """In a typical world, around the same estimate."""

    @property
    def widths(self) -> tuple[float, float]:
        """Of both intervals."""
        return self.now[1] - self.now[0], self.after[1] - self.after[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "estimate": self.estimate, "now": list(self.now), "after": list(self.after)}


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the cells of a study would tell a plan."""

    study: str
    designs: int
    cells: int
    gpu_hours: float
    flops: float
    days: float
    """Of the longest cell, all of them at once."""
    now: Doubt
    after: Doubt
    contenders: tuple[Told, ...]
    """Expected outcomes, without the luck of one run: the plan's choice, then the likeliest others."""
    exponents: tuple[Told, ...]
    unit: str
    """Of regret: 'points' or 'loss'."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{name: getattr(self, name) for name in ("study", "designs", "cells", "gpu_hours", "flops", "days")},
            "now": self.now.to_json(),
            "after": self.after.to_json(),
            "regret_unit": self.unit,
            "contenders": [each.to_json() for each in self.contenders],
            "exponents": [each.to_json() for each in self.exponents],
            "notes": list(self.notes),
        }


def simulate_grid(plan: "Plan", study: CandidateStudy) -> Simulation:
    """What the results of a study would tell, in the worlds that the records allow.

    Args:
        plan: whose choice is at stake.
        study: see `CandidateStudy`.

    Raises:
        UsageError: for a design of a kind without records, with an input that is not square or an extended length,
            that the plan's training says nothing of, or that fits no GPU; for a plan with a target.
        StudyError: for a study that is none.
    """
    name, data, seeds = _cells(study)
    evidence, outcome, state = plan.evidence, plan.evidence.outcome, plan.state
    space = _space(list(seeds), evidence)
    costs = _costs(space, plan)
    places = places_of(space, evidence, plan.training.images)
    repeats = np.array(list(seeds.values()), float)
    before = evidence.seeds_of(str(design) for design in seeds)
    targets, exponents = contenders(plan), evidence.surface.exponents()
    size = len(targets)
    drawn = np.column_stack([worlds(evidence, state.places.chosen(targets)), *map(_column, exponents.values())])
    now = beliefs(drawn, worlds(evidence, places), luck(evidence, before, repeats))
    after = _after_all(now, plan.question.seed)
    shown = _shown(plan, targets)
    return Simulation(
        study=name,
        designs=len(seeds),
        cells=int(repeats.sum()),
        gpu_hours=float(costs.gpu_hours @ repeats),
        flops=float(costs.flops @ repeats),
        days=float(costs.days.max()),
        now=doubt(drawn[:, :size], now.means[:, :size], outcome),
        after=doubt(drawn[:, :size], after.means[:, :size], outcome),
        contenders=tuple(_told(str(state.space.design(int(targets[k]))), k, after, outcome) for k in shown),
        exponents=tuple(_told(symbol, size + k, after, None) for k, symbol in enumerate(exponents)),
        unit="loss" if outcome.is_loss else "points",
        notes=tuple(_notes(plan, data, int((before > 0).sum()), beyond_data(places, evidence), space)),
    )


def _cells(study: CandidateStudy) -> tuple[str, str | None, dict[Design, int]]:
    """Name of a study, its data set if it has one, and how often each design is run."""
    if isinstance(study, str | Path):
        study = load_study(study)
    if isinstance(study, Study):
        return study.name, study.data.name, dict(Counter(cell.design for cell in study.cells()))
    if not study:
        raise UsageError("--simulate: no design to simulate; name one, such as deit-base/16@224")
    return f"{len(study)} runs", None, dict(Counter(map(Design.parse, study)))


def _space(designs: list[Design], evidence: "Evidence") -> Space:
    for design in designs:
        if evidence.kind(design.architecture, design.head) is None:
            kinds = ", ".join(architecture + (f"+{head}" if head else "") for architecture, head in evidence.kinds)
            raise UsageError(
                f"--simulate: of {design} the records have nothing of its kind; they have {kinds}; "
                "leave it out, or plan from records of it"
            )
        if not isinstance(design.input_size, int) or design.extended_length is not None:
            raise UsageError(f"--simulate: {design}: surfaces are over square inputs without extension; leave it out")
    models = [Model(each.architecture, each.size, each.shape, each.head) for each in designs]
    sides, patches = ([getattr(each, name) for each in designs] for name in ("input_size", "patch_size"))
    return Space(tuple(models), np.arange(len(models)), np.array(sides, float), np.array(patches, float))


def _costs(space: Space, plan: "Plan") -> Costs:
    costs = cost_space(space, plan.training, plan.setting)
    for possible, why in ((costs.trainable, "recipe"), (costs.fits, "memory")):
        if not possible.all():
            design = space.design(int(np.argmin(possible)))
            raise UsageError(f"{design}: its cost is not known: {WORDS[why]} ({plan.training.words}); leave it out")
    return costs


def _column(values: Array) -> Array:
    return tamed(values[:, None])


def _after_all(now: Beliefs, seed: int) -> Beliefs:
    lucks = np.random.default_rng(seed).standard_normal((len(now.noise), len(now.targets)))
    held = now
    for place in np.flatnonzero(np.isfinite(now.noise)):
        held = held.after(int(place), lucks[place])
    return held


def _shown(plan: "Plan", targets: Array) -> list[int]:
    """The plan's choice and the likeliest contenders, places among the targets."""
    chosen = plan.state.contestants[np.argmin(plan.state.contest.median)]
    first = int(np.flatnonzero(targets == chosen)[0])
    return [first, *(place for place in range(len(targets)) if place != first)][:SHOWN]


def _told(name: str, place: int, after: Beliefs, outcome: Outcome | None) -> Told:
    """Intervals of one target, in the unit of the outcome if it is one."""
    outer = (lambda inner: inner) if outcome is None else outcome.outer
    truth = after.targets[:, place]
    middle, left = np.median(truth), truth - after.means[:, place]
    ends = [np.quantile(truth, (TAIL, 1 - TAIL)), middle + np.quantile(left - np.median(left), (TAIL, 1 - TAIL))]
    now, then = (tuple(map(float, np.sort(outer(each)))) for each in ends)
    return Told(name, float(outer(middle)), (now[0], now[1]), (then[0], then[1]))


def _notes(plan: "Plan", data: str | None, known: int, beyond: Array, space: Space) -> list[str]:
    found = []
    if data is not None and plan.evidence.dataset and data != plan.evidence.dataset:
        found.append(f"the study is of {data}; its cells are counted as if of {plan.evidence.dataset}, as the records")
    if known:
        found.append(f"{known} of its designs have been run: their cells are counted as further seeds")
    if beyond.max() > plan.question.extrapolation * (1 + 1e-9):
        worst = int(np.argmax(beyond))
        found.append(
            f"{space.design(worst)} lies {beyond[worst]:.3g}x beyond the records, where the surface is a guess"
        )
    return found
