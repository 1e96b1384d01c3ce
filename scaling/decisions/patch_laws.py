"""The loss of each patch size against training FLOPs, from learning curves: what a patch schedule is planned from.

Shapes: R draws, N places.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.design import Design, Study
from scaling.errors import ScalingError, UsageError, nearest
from scaling.laws import FitError, Fitted, Options, fit_points, gather
from scaling.laws.law import Array
from scaling.records import RunDirectory, load_learning_curves

if TYPE_CHECKING:
    import pandas as pd

LAW = "shifted"
DRAWS = 500
BLOCKS = 10  # per curve: neighbouring losses err together, so whole blocks of a curve are drawn
LARGEST_MISS = 0.15  # root mean square of log residuals; curves of one recipe are missed by 0.01 to 0.09


class ScheduleError(ScalingError):
    """Records that no patch schedule can be planned from, with what is missing."""


@dataclass(frozen=True, slots=True)
class PatchLaw:
    """loss(C) = E + A (C + c)^b of one patch size, for C training FLOPs from the start of the training."""

    design: str
    patch_size: int
    training_flops_per_image: int
    E: float
    A: float
    c: float
    b: float
    first_flops: float
    """FLOPs at the first loss used; the warm-up of the learning rate is left out."""
    final_flops: float
    """FLOPs of the whole training in the study; the law is not used beyond."""
    points: int
    miss: float
    """Root mean square of the log residuals."""
    draws: Array
    """(R, 4), of E, A, b and c."""

    @property
    def values(self) -> Array:
        """(1, 4), of E, A, b and c."""
        return np.array([[self.E, self.A, self.b, self.c]])

    @property
    def final_loss(self) -> float:
        """By the law, at the end of the training in the study."""
        return float(losses_at(self.values, np.array([self.final_flops]))[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the draws."""
        names = ("design", "patch_size", "training_flops_per_image", "E", "A", "c", "b")
        rest = ("first_flops", "final_flops", "final_loss", "points", "miss")
        return {name: getattr(self, name) for name in (*names, *rest)}


def losses_at(values: Array, flops: Array) -> Array:
    """Losses after so many FLOPs (N,), of parameters (1, 4); or (R,) of (R, 4) each at its own."""
    E, A, b, c = values.T
    with np.errstate(divide="ignore", over="ignore"):
        return E + A * (flops + c) ** b


def flops_to(values: Array, losses: Array) -> Array:
    """FLOPs from the start until a loss is reached: 0 where a law starts below it, infinite where it never gets there.

    Shapes as in `losses_at`.
    """
    E, A, b, c = values.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.where(losses > E, ((losses - E) / A) ** (1 / b) - c, np.inf)
    return np.where(b < 0, np.maximum(found, 0.0), np.inf)


def patch_laws(source: str | Path, design: str, seed: int = 0) -> tuple[list[PatchLaw], list[str]]:
    """The laws of a design and of those with larger patches in the same run, and notes on what was left out.

    Args:
        source: run directory of a study that was trained at constant patches.
        design: short name; its head may be left out.
        seed: of the draws.

    Raises:
        UsageError: for a design that the study does not have.
        ScheduleError: if there are no learning curves, of one patch size only, or some cannot be fitted.
    """
    if not (Path(source) / "study.toml").is_file():
        raise ScheduleError(
            f"{source}: has no learning curves; a schedule needs those of a run directory, from 'scaling run-grid'"
        )
    study = RunDirectory(source).study()
    if study.recipe.stages:
        raise ScheduleError(f"{source}: was trained with a patch schedule itself; plan from a run at constant patches")
    if study.pretraining:
        raise ScheduleError(f"{source}: starts from pretrainings; plan from a run that was trained from scratch")
    final = _find(study, design)
    curves, left_out = _complete_curves(source, study, _patches_down_to(study, final))
    names = list(dict.fromkeys(curves["design"]))
    if str(final) not in names:
        raise ScheduleError(f"{source}: {final} has no complete learning curve; 'scaling run-grid {source}' trains it")
    if len(names) < 2:
        raise ScheduleError(
            f"{source}: no larger patch beside {final} has a complete learning curve; "
            "add patch sizes of the same architecture, size and input to the study"
        )
    return [_law_of(name, curves[curves["design"] == name], seed) for name in names], left_out


def fit_patch_law(
    design: str,
    patch_size: int,
    training_flops_per_image: int,
    flops: Array,
    losses: Array,
    curves: Array,
    seed: int = 0,
) -> PatchLaw:
    """Fit the law of one patch size to the learning curves of its seeds, with a block bootstrap.

    Args:
        design: short name.
        patch_size: of the design.
        training_flops_per_image: of the design.
        flops: (N,), training FLOPs at which losses were logged.
        losses: (N,).
        curves: (N,), which curve each point is of, such as its seed.
        seed: of the draws.

    Raises:
        ScheduleError: if there are too few points, the loss does not fall, or the law misses the curves.
    """
    order = np.lexsort((losses, flops))
    flops, losses, curves = flops[order], losses[order], curves[order]
    blocks = np.minimum((BLOCKS * flops / flops.max()).astype(int), BLOCKS - 1) if len(flops) else flops
    labels = [f"{curve} {block}" for curve, block in zip(curves, blocks, strict=True)]
    options = Options(intervals="group", resamples=DRAWS, seed=seed)
    try:
        fitted = fit_points(gather(flops, losses), LAW, options, clusters=np.array(labels))
    except FitError as error:
        raise ScheduleError(f"{design}: its learning curve cannot be fitted: {error}") from None
    E, A, b, c = map(float, fitted.estimates)
    miss = float(np.sqrt(np.mean(np.log(fitted.predict(fitted.points.scales) / fitted.points.y) ** 2)))
    if not (A > 0 and b < 0):
        raise ScheduleError(f"{design}: its training loss does not fall with compute; train it longer")
    if miss > LARGEST_MISS:
        raise ScheduleError(
            f"{design}: its learning curves are missed by {miss:.0%} (E + A (C + c)^b); look at them:\n"
            "scaling plot RUN --figure learning-curves"
        )
    ends = float(flops.min()), float(flops.max())
    return PatchLaw(design, patch_size, training_flops_per_image, E, A, c, b, *ends, len(flops), miss, _draws(fitted))


def _draws(fitted: Fitted) -> Array:
    """Parameters (R, 4) of the resampled curves, in the units of the data."""
    assert fitted.resamples is not None
    return fitted.law.reported(fitted.resamples, fitted.units, fitted.unit)


def _law_of(name: str, rows: "pd.DataFrame", seed: int) -> PatchLaw:
    flops, images = rows["training_flops"].to_numpy(float), rows["images_seen"].to_numpy(float)
    losses, seeds = rows["training_loss"].to_numpy(float), rows["seed"].to_numpy()
    return fit_patch_law(name, Design.parse(name).patch_size, round(flops[-1] / images[-1]), flops, losses, seeds, seed)


def _find(study: Study, name: str) -> Design:
    """The study's design of this name, with or without the head."""
    designs = {str(cell.design): cell.design for cell in study.cells() if cell.design.extended_length is None}
    found = [design for known, design in designs.items() if name in (known, known.split("+")[0])]
    if not found:
        raise UsageError(f"'{name}' is no design of study '{study.name}': {nearest(name, designs)}")
    return found[0]


def _patches_down_to(study: Study, final: Design) -> set[str]:
    """Names of the study's designs that differ from one in a larger patch alone, and of that one."""

    def fixed(design: Design) -> tuple[object, ...]:
        return design.architecture, design.size, design.input_size, design.head, design.extended_length

    designs = {cell.design for cell in study.cells()}
    return {str(each) for each in designs if fixed(each) == fixed(final) and each.patch_size >= final.patch_size}


def _complete_curves(source: str | Path, study: Study, designs: set[str]) -> "tuple[pd.DataFrame, list[str]]":
    """Logged losses after the warm-up of cells that were trained to their end, and a note on those that were not."""
    curves = load_learning_curves(source)
    curves = curves[curves["design"].isin(designs)]
    ends = curves.groupby("cell", sort=False)["images_seen"].transform("max")
    complete = ends >= curves["final_images"]
    open_cells = list(dict.fromkeys(curves["cell"][~complete]))
    warmup = study.recipe.warmup(study.data.epoch_images) * study.recipe.batch_size
    notes = [f"left out, not trained to the end: {', '.join(open_cells)}"] if open_cells else []
    return curves[complete & (curves["images_seen"] > warmup) & (curves["training_loss"] > 0)], notes
