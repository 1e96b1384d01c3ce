"""Patch schedules planned from a run: when to shrink the patch so that a loss is reached with the fewest FLOPs.

After Anagnostidis et al. 2024, 'Navigating Scaling Laws: Compute Optimality in Adaptive Model Training': every patch
size has a law of loss against training FLOPs, and at each loss the patch whose law descends most steeply is trained.
Shapes: K patch sizes from the largest to the smallest, N loss levels, R draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.decisions.draws import Spread
from scaling.decisions.patch_laws import PatchLaw, ScheduleError, flops_to, losses_at, patch_laws
from scaling.laws.law import Array
from scaling.records import RunDirectory

LEVELS = 4000
"""Steps of loss between the start of the curves and the target."""
ASSUMED = (
    "assumed: the loss carries over when the patch shrinks, and each patch size descends from there as in its own run; "
    "on the digits the loss rose at the switch and the saving did not come true (docs/schedules.md)",
    "indicative: each run decays its learning rate to its own end, so its losses on the way are above those of a run "
    "that ends there; train the schedule to know",
)


@dataclass(frozen=True, slots=True)
class ScheduledStage:
    """A part of a schedule at one patch size."""

    design: str
    patch_size: int
    training_flops: float
    training_images: float
    share: float
    """Of the schedule's images."""
    from_loss: float | None
    """Loss at which the patch size takes over; None at the start."""
    to_loss: float
    at_end_of_curve: bool
    """Whether it ends because its own run did: beyond that nothing is known of the patch size."""


@dataclass(frozen=True, slots=True)
class PatchSchedule:
    """The patch schedule that reaches a design's final loss with the fewest training FLOPs."""

    source: str
    """Run directory that it is planned from."""
    design: str
    loss: str
    """Which loss the laws are of."""
    target_loss: float
    """Of the design at the end of its own training, by its law."""
    stages: tuple[ScheduledStage, ...]
    laws: tuple[PatchLaw, ...]
    training_flops: float
    training_images: float
    alone_flops: float
    """FLOPs to the target loss at the design's own patch alone."""
    single_patch_size: int
    """The one patch size that reaches the target loss with the fewest FLOPs by itself."""
    single_flops: float
    saved: Spread
    """Share of the FLOPs at the design's own patch that the schedule saves; the interval is that of the laws' fits."""
    saved_over_single: Spread
    """As `saved`, against the best single patch size."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        spreads = {name: getattr(self, name).to_json() for name in ("saved", "saved_over_single")}
        parts = {"stages": [asdict(stage) for stage in self.stages], "laws": [law.to_json() for law in self.laws]}
        changed = spreads | parts | {"notes": list(self.notes)}
        return {name: changed.get(name, getattr(self, name)) for name in self.__slots__}


def plan_schedule(source: str | Path, design: str, seed: int = 0) -> PatchSchedule:
    """Plan a patch schedule that ends at a design, from the learning curves of a run.

    Larger patches of the same architecture, model and input size take part; seeds are fitted together.

    Args:
        source: run directory of a study that was trained at constant patches.
        design: short name of the design to end at; its head may be left out.
        seed: of the bootstrap.

    Raises:
        UsageError: for a design that the study does not have.
        ScheduleError: if the records have no learning curves, or these cannot carry a schedule.
    """
    laws, notes = patch_laws(source, design, seed)
    study = RunDirectory(source).study()
    what = "training loss" + (" (smoothed labels)" if study.recipe.label_smoothing else "")
    return best_schedule(laws, source=str(source), loss=what, notes=notes)


def best_schedule(
    laws: Sequence[PatchLaw], source: str = "", loss: str = "training loss", notes: Sequence[str] = ()
) -> PatchSchedule:
    """The cheapest schedule through the laws of several patch sizes to the final loss of the smallest.

    Args:
        laws: of at least two patch sizes.
        source: run directory that they come from.
        loss: which loss they are of.
        notes: what else there is to say.

    Raises:
        ScheduleError: if another patch size reaches the target before the smallest could take over.
    """
    laws = sorted(laws, key=lambda law: -law.patch_size)
    last, target = laws[-1], laws[-1].final_loss
    top = max(float(losses_at(law.values, np.array([law.first_flops]))[0]) for law in laws)
    levels = np.linspace(top, target, LEVELS + 1)
    costs = np.stack([_flops_in_run(law, levels) for law in laws])
    path = cheapest_path(costs)
    if path[-1][1] == LEVELS:
        better = laws[path[-2][0]].design
        raise ScheduleError(f"{last.design}: {better} reaches its final loss with fewer FLOPs; plan for that one")
    stages = tuple(_stages([laws[place] for place, _ in path], [start for _, start in path], levels))
    spent = sum(stage.training_flops for stage in stages)
    singles = costs[:, -1]
    best = int(np.argmin(singles))
    alone, single = float(singles[-1]), float(singles[best])
    used = [laws[place] for place, _ in path]
    totals, single_draws = _draw(used, [stage.training_flops for stage in stages], laws)
    ends = (f"at patch {stage.patch_size} more may be saved: its run ends there" for stage in stages[:-1]
            if stage.at_end_of_curve)  # fmt: skip
    return PatchSchedule(
        source=source,
        design=last.design,
        loss=loss,
        target_loss=target,
        stages=stages,
        laws=tuple(laws),
        training_flops=spent,
        training_images=sum(stage.training_images for stage in stages),
        alone_flops=alone,
        single_patch_size=laws[best].patch_size,
        single_flops=single,
        saved=Spread.of(1 - totals / last.final_flops, 1 - spent / alone),
        saved_over_single=Spread.of(1 - totals / single_draws, 1 - spent / single),
        notes=(*ends, *notes, *ASSUMED),
    )


def cheapest_path(costs: Array) -> list[tuple[int, int]]:
    """Which patch sizes to train from which level on, to be at the last level with the last patch size at least cost.

    The exact optimum over all ways to shrink patches; where the slopes of two laws cross once, it switches there, and
    at every level the steepest of them is trained.

    Args:
        costs: (K, N), of each patch size from scratch to each level; infinite where it never gets there. The last
            patch size gets everywhere.

    Returns:
        Places of patch sizes in order, each with the place of the level at which it takes over; 0 for the first.
    """
    totals, entries = np.empty_like(costs), np.zeros(costs.shape, dtype=int)
    totals[0] = costs[0]
    for place in range(1, len(costs)):
        before = np.min(totals[:place], axis=0)
        # What is gained by coming to a level with another patch size, rather than with this one from scratch.
        gained = np.full_like(before, np.inf)
        known = np.isfinite(costs[place])
        gained[known] = before[known] - costs[place][known]
        lowest = np.minimum.accumulate(gained)
        new = np.concatenate([[True], lowest[1:] < lowest[:-1]])
        entries[place] = np.maximum.accumulate(np.where(new, np.arange(len(gained)), 0))
        entries[place][lowest >= 0] = -1  # from scratch
        totals[place] = costs[place] + np.minimum(lowest, 0.0)
    place, level, path = len(costs) - 1, costs.shape[1] - 1, []
    while place > 0 and entries[place, level] >= 0:
        level = int(entries[place, level])
        path.append((place, level))
        place = int(np.argmin(totals[:place, level]))
    found = [(place, 0), *reversed(path)]
    ends = [start for _, start in found[1:]] + [costs.shape[1] - 1]
    # Of patch sizes that only tie, none is trained for no time; the last stays, to be told from one that pays.
    return [each for each, end in zip(found[:-1], ends, strict=False) if each[1] in (0, *range(end))] + found[-1:]


def _flops_in_run(law: PatchLaw, levels: Array) -> Array:
    """FLOPs to each loss level (N,); infinite below the loss that the run ended with."""
    reached = levels >= law.final_loss
    return np.where(reached, np.minimum(flops_to(law.values, levels), law.final_flops), np.inf)


def _stages(used: list[PatchLaw], starts: list[int], levels: Array) -> Iterator[ScheduledStage]:
    flops = [
        float(_flops_in_run(law, levels[[end]])[0] - (_flops_in_run(law, levels[[start]])[0] if index else 0.0))
        for index, (law, start, end) in enumerate(zip(used, starts, [*starts[1:], LEVELS], strict=True))
    ]
    images = [spent / law.training_flops_per_image for law, spent in zip(used, flops, strict=True)]
    for index, (law, start, end) in enumerate(zip(used, starts, [*starts[1:], LEVELS], strict=True)):
        yield ScheduledStage(
            design=law.design,
            patch_size=law.patch_size,
            training_flops=flops[index],
            training_images=images[index],
            share=images[index] / sum(images),
            from_loss=float(levels[start]) if index else None,
            to_loss=float(levels[end]),
            at_end_of_curve=bool(end < LEVELS and levels[end + 1] < law.final_loss),
        )


def _draw(used: list[PatchLaw], flops: list[float], laws: Sequence[PatchLaw]) -> tuple[Array, Array]:
    """If drawn laws were true: FLOPs of the schedule and of the best single patch size to the target, (R,) each.

    The schedule is carried out as planned up to its last stage, which goes on until the design's final loss, that
    of a drawn law at the end of its own training.
    """
    count = min(len(law.draws) for law in laws)
    last = laws[-1]
    target = losses_at(last.draws[:count], np.array(last.final_flops))
    loss = np.full(count, np.inf)
    for law, spent in zip(used[:-1], flops[:-1], strict=True):
        loss = np.minimum(loss, losses_at(law.draws[:count], flops_to(law.draws[:count], loss) + spent))
    done = np.minimum(flops_to(last.draws[:count], loss), last.final_flops)
    singles = [flops_to(law.draws[:count], target) for law in laws[:-1]]
    within = [np.where(each <= law.final_flops, each, np.inf) for law, each in zip(laws[:-1], singles, strict=True)]
    best = np.min([*within, np.full(count, last.final_flops)], axis=0)
    return sum(flops[:-1]) + last.final_flops - done, best
