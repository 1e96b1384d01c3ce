"""Which weights are meant, and the cell whose data, input and precision they are tested with."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.design import Cell, Design, DigitsData, Recipe, Study, build_study, load_study
from scaling.errors import UsageError, nearest
from scaling.records import Record, RecordError, RunDirectory, SourceError, read_cell

WEIGHTS = Path("checkpoint") / "model.safetensors"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Weights, the cell they are tested as, and what the record says of the cell they come from, if there is one."""

    weights: Path
    cell: Cell
    record: Record | None


def find_saved(
    source: Path,
    *,
    design: str | None = None,
    seed: int | None = None,
    stage: str | None = None,
    study: str | None = None,
    data: dict[str, Any] | None = None,
    input_size: int | None = None,
    crop_ratio: str | None = None,
) -> SavedModel:
    """Find weights and what to test them with.

    Args:
        source: a cell's folder, a checkpoint, or a run directory.
        design: of a run directory's cell, or of a checkpoint that does not say.
        seed: of a run directory's cell.
        stage: name of the pretraining that a run directory's cell is of; the study's own training by default.
        study: whose data are used in place of the cell's own; needed for a checkpoint outside a cell's folder.
        data: values that replace those of the data.
        input_size: pixels per side in place of the design's.
        crop_ratio: of test images, a number or 'paper', in place of the recipe's.

    Raises:
        UsageError: for a design, a seed, data or an input that cannot be, or where several cells are meant.
        SourceError: where there is nothing.
        RecordError: if a cell's description is broken.
    """
    folder = _cell_folder(source, design, seed, stage)
    for option, value in (("--seed", seed), ("--stage", stage)):
        if value is not None and not (source / "study.toml").is_file():
            raise UsageError(f"{option} {value}: {source} is one cell's; leave it out")
    other = load_study(study) if study is not None else None
    if folder is not None:
        weights = source if source.is_file() else folder / WEIGHTS
        cell = read_cell(folder, None if other else data)
        record = RunDirectory(folder.parent.parent).record(folder.name)
        if not weights.is_file():
            raise RecordError(
                f"{weights}: there is no such file; the cell is not trained yet, or its weights were not kept"
            )
    elif source.is_file():
        weights, record = source, None
        if other is None:
            raise UsageError(f"{source}: is in no cell's folder; give --study, which says the data")
        cell = other.cells()[0]
    else:
        raise SourceError(f"{source}: there is no such checkpoint, cell's folder or run directory")
    cell = replace(cell, design=_design(weights, cell.design if folder else None, design))
    if other is not None:
        cell = replace(cell, data=_study_data(other, data))
    if input_size is not None:
        cell = replace(cell, design=replace(cell.design, input_size=input_size))
    if crop_ratio is not None:
        cell = replace(cell, recipe=_cropped(cell, crop_ratio))
    return SavedModel(weights, cell, record)


def data_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Values of 'key=value' texts, as a study's TOML would say them; bare words are text."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--data {text}: write KEY=VALUE, such as test_images=4096")
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


def _cropped(cell: Cell, crop_ratio: str) -> Recipe:
    """The recipe with another crop of test images."""
    if isinstance(cell.data, DigitsData):
        raise UsageError("--crop-ratio: scenes of digits are not cropped; leave it out")
    if cell.data.task != "classification":
        raise UsageError(f"--crop-ratio: images of {cell.data.task} are not cropped; leave it out")
    try:
        value = crop_ratio if crop_ratio == "paper" else float(crop_ratio)
        return Recipe.model_validate(cell.recipe.model_dump() | {"test_crop_ratio": value})
    except ValueError:
        raise UsageError(f"--crop-ratio {crop_ratio}: give a number above 0 and at most 1, or 'paper'") from None


def _cell_folder(source: Path, design: str | None, seed: int | None, stage: str | None) -> Path | None:
    if (source / "cell.json").is_file():
        return source
    if source.is_file() and (source.parent.parent / "cell.json").is_file():
        return source.parent.parent
    if not (source / "study.toml").is_file():
        return None
    run = RunDirectory(source)
    cells = [cell for cell in run.study().all_cells() if cell.stage == stage]
    if not cells:
        stages = [pretraining.name for pretraining in run.study().pretraining]
        raise UsageError(f"--stage {stage}: {source} has no such pretraining; {nearest(stage or '', stages)}")
    chosen = [cell for cell in cells if design is None or str(cell.design) == design.strip()]
    if not chosen:
        raise UsageError(f"--design {design}: {source} has no such cell; {nearest(design or '', _names(cells))}")
    chosen = [cell for cell in chosen if seed is None or cell.seed == seed]
    if len(chosen) != 1:
        if not chosen:
            raise UsageError(f"--seed {seed}: {source} has no cell of this seed")
        option = "--seed" if len(set(_names(chosen))) == 1 else "--design"
        raise UsageError(f"{source}: has {len(chosen)} such cells; choose one by {option}")
    return run.cell_folder(chosen[0].id)


def _names(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(str(cell.design) for cell in cells))


def _design(weights: Path, of_cell: Design | None, asked: str | None) -> Design:
    """The design of weights: what the file or its cell says, which must be what was asked for."""
    from scaling.models import CheckpointError, design_of_checkpoint

    told = design_of_checkpoint(weights)
    wanted = Design.parse(asked) if asked is not None else of_cell or told
    if wanted is None:
        raise UsageError(f"{weights}: does not say of which design it is; give --design")
    for known in (told, of_cell):
        if known is not None and replace(known, input_size=wanted.input_size) != wanted:
            raise CheckpointError(f"{weights}: is of {known}, not of {wanted}")
    return wanted


def _study_data(study: Study, data: dict[str, Any] | None) -> Any:
    if not data:
        return study.data
    values = study.model_dump(mode="json", exclude_none=True)
    return build_study(values | {"data": values["data"] | data}, origin="--data").data
