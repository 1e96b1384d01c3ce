"""Pilots as a study file that `scaling run-grid` takes."""

from itertools import count
from typing import TYPE_CHECKING

from scaling.design import Grid, Study, build_study, load_study, run_directory_of, study_to_toml
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.pilots import Pilots
    from scaling.decisions.planning.plan import Plan

SAME_LENGTH = 1.05  # factor between trainings that count as equally long


def pilot_study(pilots: "Pilots", plan: "Plan", name: str) -> str:
    """TOML of a study of the pilots, with the data, recipe and measure of the run directory that a plan is from.

    All pilots have one seed, the first with which none of them was run.

    Raises:
        UsageError: for no pilots, records that are not of a run directory, or pilots whose training is not that of
            the run directory.
        StudyError: for a name that cannot name a study, or a design that the study cannot train.
    """
    designs = [pilot.design for pilot in pilots.pilots]
    if not designs:
        raise UsageError(f"no study {name}: no run is worth its cost within {pilots.budget}")
    study = _study_of(plan, designs[0])
    _check_length(study, plan)
    tried = {(str(cell.design), cell.seed) for cell in study.cells()}
    seed = next(seed for seed in count() if not tried & {(design, seed) for design in designs})
    values = study.model_dump(mode="json", exclude_none=True)
    values |= {
        "name": name,
        "description": f"Pilots for {plan.question.study}: what would most improve the choice of a plan.",
        "grid": Grid(designs=tuple(designs), heads=study.grid.heads, seeds=(seed,)).model_dump(mode="json"),
        "exclude": [],
    }
    return study_to_toml(build_study(values, origin=name))


def _study_of(plan: "Plan", example: str) -> Study:
    run = run_directory_of(plan.question.study)
    if run is not None:
        return load_study(run)
    raise UsageError(
        f"{plan.question.study} is no run directory, whose data and recipe a study of pilots would take\n"
        f"train the listed pilots yourself, such as {example}, and plan from a table with their results"
    )


def _check_length(study: Study, plan: "Plan") -> None:
    """Pilots are costed as long as the plan trains; the study trains as long as its recipe."""
    images = study.recipe.training_steps(study.data.epoch_images) * study.recipe.batch_size
    planned = plan.training.images
    if planned is None or not 1 / SAME_LENGTH < planned / images < SAME_LENGTH:
        raise UsageError(
            f"the pilots are costed for {plan.training.words}, but the recipe of {plan.question.study} trains on "
            f"{images:,} images; plan without --epochs and --recipe, or without a study"
        )
