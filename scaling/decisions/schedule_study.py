"""A planned patch schedule as a study that can be trained."""

from pathlib import Path

from scaling.decisions.patch_laws import ScheduleError
from scaling.decisions.schedule import PatchSchedule
from scaling.design import Study, StudyError, build_study, study_to_toml, write_new_study
from scaling.records import RunDirectory

SHARE_DIGITS = 4


def schedule_study(schedule: PatchSchedule) -> Study:
    """The study of the schedule's run with the one design and the schedule in its recipe, for `scaling run-grid`.

    Raises:
        ScheduleError: if there is nothing to schedule, or the schedule is too short for the recipe.
        StudyError: if the run's study cannot be read.
    """
    study = RunDirectory(schedule.source).study()
    values = study.model_dump(mode="json", exclude_none=True)
    steps = max(1, round(schedule.training_images / study.recipe.batch_size))
    stages = [
        {"patch_size": stage.patch_size, "share": round(stage.share, SHARE_DIGITS)}
        for stage in schedule.stages[:-1]
        if round(stage.share * steps) >= 1 and round(stage.share, SHARE_DIGITS) > 0
    ]
    if not stages:
        raise ScheduleError(f"{schedule.design}: no larger patch saves a step; there is no schedule to train")
    recipe = {key: value for key, value in values["recipe"].items() if key not in ("steps", "images", "epochs")}
    values |= {
        "name": f"{study.name}-schedule",
        "description": f"Patch schedule of {schedule.design}, planned from the study {study.name}.",
        "grid": {"designs": [schedule.design], "seeds": list(study.grid.seeds)},
        "exclude": [],
        "recipe": recipe | {"steps": steps, "stages": stages},
    }
    try:
        return build_study(values, origin=f"schedule of {schedule.design}")
    except StudyError as error:
        raise ScheduleError(str(error)) from None


def write_schedule(schedule: PatchSchedule, path: Path) -> None:
    """Write the study of a schedule as TOML.

    Raises:
        ScheduleError: as `schedule_study`.
        StudyError: if the file exists.
        OutputError: if it cannot be written.
    """
    write_new_study(path, study_to_toml(schedule_study(schedule)))
