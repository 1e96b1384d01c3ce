"""The run directory: every file has one writer; records are written whole and renamed into place.

study.toml                        the specification, with every default written out
architectures/NAME.py             the code of the user's own architectures, as cells were trained with it; never run
cells/<cell id>/cell.json         what the cell is
cells/<cell id>/metrics.jsonl     training loss, written as it goes
cells/<cell id>/log.txt           what libraries printed
cells/<cell id>/checkpoint/       the trained weights
cells/<cell id>/resume/           what an unfinished cell continues from; gone once it is finished
cells/<cell id>/record.json       exists once the cell is finished, and never changes then
cells/<cell id>/failure.json      why the last try did not finish; the next run tries again
cells/<cell id>/NAME-run.txt      which run of a tracker it is (wandb, mlflow)
cells/<cell id>/lease-N.json      who runs the cell, see scaling/grid/leases.py
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaling.design import NOT_IDENTITY, Cell, Study, build_study, load_study, study_to_toml
from scaling.design.sections import Section
from scaling.errors import ScalingError
from scaling.records.schema import SCHEMA_VERSION, Record, Status

FITTING = ("start_from", "resize_patches", "new_head")
"""Keys of a recipe on the checkpoint that a training starts from."""
RESUME = "resume"
"""Folder of a cell with what an unfinished training continues from."""


class RecordError(ScalingError):
    """Records that cannot be read, or a place where they cannot be written."""


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader or a crash never meets half of it."""
    part = _part(path, text)
    part.replace(path)
    flush(path.parent)


def write_once(path: Path, text: str) -> None:
    """Write a file whole; where one of this name is there, or comes first from another machine, it stays as it is."""
    if path.exists():
        return
    part = _part(path, text)
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    flush(path.parent)


def _part(path: Path, text: str) -> Path:
    """A file beside `path` with the text safely on the disk."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunDirectory:
    """A study's folder: its specification and the record of every finished cell."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def study_file(self) -> Path:
        """The specification."""
        return self.path / "study.toml"

    def study(self) -> Study:
        """The study this directory belongs to."""
        return load_study(self.study_file)

    def cell_folder(self, cell_id: str) -> Path:
        """Folder of one cell; it need not exist."""
        return self.path / "cells" / cell_id

    def resume_folder(self, cell_id: str) -> Path:
        """What an unfinished cell continues from; it need not exist."""
        return self.cell_folder(cell_id) / RESUME

    def begun(self) -> set[str]:
        """Ids of the cells that have a folder, by one look at the directory."""
        try:
            with os.scandir(self.path / "cells") as entries:
                return {entry.name for entry in entries if entry.is_dir()}
        except FileNotFoundError:
            return set()

    def checkpoint(self, cell_id: str) -> Path:
        """The trained weights of a cell; they need not exist."""
        return self.cell_folder(cell_id) / "checkpoint" / "model.safetensors"

    def prepare(self, study: Study) -> None:
        """Create the directory for a study, or check that it already belongs to it.

        The grid may grow or shrink; another name, data set or recipe is refused, since records
        of two experiments in one table would be fitted as one.

        Raises:
            RecordError: if the folder belongs to another study or cannot be written.
        """
        self.check(study)
        self.create()
        try:
            (self.path / "cells").mkdir(exist_ok=True)
            text = study_to_toml(study)
            if not self.study_file.exists() or self.study_file.read_text(encoding="utf-8") != text:
                write_whole(self.study_file, text)
        except OSError as error:
            raise self._unwritable(error) from None

    def create(self) -> None:
        """Make the folder itself; raises RecordError where that is impossible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RecordError:
        return RecordError(f"{self.path}: cannot be written ({error.strerror}); choose another --out")

    def check(self, study: Study) -> None:
        """Raise RecordError if the directory belongs to another study, data set or recipe."""
        if self.study_file.exists():
            self._check_same(self.study(), study)

    def _check_same(self, there: Study, here: Study) -> None:
        if there.name != here.name:
            raise RecordError(f"{self.path} belongs to study '{there.name}', not '{here.name}'; choose another --out")
        kept = sorted(_sizes(there) & _sizes(here)) or [""]  # settings by size are free for those that are new
        old, new = _settings(there, kept), _settings(here, kept)
        for key in {**new, **old}:
            for size in kept:
                before, now = (settings.get(key, {}).get(size) for settings in (old, new))
                if before != now:
                    of = f" for size {size}" if here.recipe.by_size or there.recipe.by_size else ""
                    raise RecordError(
                        f"{self.path} was made with {key} = {before}{of}, the study now says {now}; "
                        "choose another --out" + self._if_nothing_is_done()
                    )

    def _if_nothing_is_done(self) -> str:
        done = any((folder / "record.json").exists() for folder in self.path.glob("cells/*"))
        return "" if done else f", or remove {self.path}, in which no cell is finished"

    def begin(self, cell: Cell) -> Path:
        """Create a cell's folder and describe the cell in it; returns the folder."""
        folder = self.cell_folder(cell.id)
        folder.mkdir(parents=True, exist_ok=True)
        about = {"cell": cell.id, "study": cell.study, "design": str(cell.design), "seed": cell.seed}
        about |= {"data": cell.data.model_dump(mode="json"), "recipe": cell.recipe.model_dump(mode="json")}
        write_whole(folder / "cell.json", json.dumps(about, indent=2) + "\n")
        return folder

    def finish(self, record: Record) -> None:
        """Write a cell's record, once; a record that exists is never touched."""
        folder = self.cell_folder(record.cell)
        write_once(folder / "record.json", record.model_dump_json(indent=2) + "\n")
        (folder / "failure.json").unlink(missing_ok=True)
        shutil.rmtree(self.resume_folder(record.cell), ignore_errors=True)

    def fail(self, record: Record, details: str) -> None:
        """Note why a try did not finish; `details` may be a traceback."""
        failure = {"record": record.model_dump(mode="json"), "details": details}
        write_whole(self.cell_folder(record.cell) / "failure.json", json.dumps(failure, indent=2) + "\n")

    def record(self, cell_id: str) -> Record | None:
        """The record of a finished cell, or None.

        Raises:
            RecordError: if the file is cut off or of another version.
        """
        return _read_record(self.cell_folder(cell_id) / "record.json")

    def learning_curve(self, cell_id: str) -> list[tuple[int, float]]:
        """Images seen and training losses that a cell has logged; a line that is being written is left out."""
        path = self.cell_folder(cell_id) / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
            rows = [json.loads(line) for line in whole.splitlines()]
            return [(int(row["images"]), float(row["loss"])) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}: is not a learning curve: {error}") from None

    def status(self, cell_id: str) -> Status:
        """What became of a cell so far; raises RecordError as `record` does."""
        record = self.record(cell_id) or self.failure(cell_id)
        return record.status if record else Status.PLANNED

    def failure(self, cell_id: str) -> Record | None:
        """The record of a cell's last try, if that failed, was preempted or stopped."""
        return _read_record(self.cell_folder(cell_id) / "failure.json", within="record")

    def earlier_costs(self, cell: Cell) -> dict[str, Any]:
        """Fields of a cell's record on the stages before it; none for a cell that starts from no other."""
        before = self.record(cell.after.id) if cell.after else None
        return before.costs_until_its_end() if before else {}

    def records(self) -> Iterator[Record]:
        """The finished, failed, preempted and stopped cells of the study, pretrainings first, in its order.

        Cells in the folder that the study no longer has are left out.
        """
        begun = self.begun()
        for cell in self.study().all_cells():
            record = (self.record(cell.id) or self.failure(cell.id)) if cell.id in begun else None
            if record is not None:
                yield record


def _sizes(study: Study) -> set[str]:
    return {cell.design.size for cell in study.cells()}


def _settings(study: Study, sizes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What may not change in a run directory, by dotted key and model size; how a batch is split may."""
    found: dict[str, dict[str, Any]] = {}
    changeable = dict.fromkeys(("micro_batch_size", "recipe", *NOT_IDENTITY), True) | {"data": set(NOT_IDENTITY)}
    stages = {f"pretraining[{index}]": stage for index, stage in enumerate(study.pretraining)}
    recipes = {"recipe": study.recipe} | {f"{place}.recipe": stage.recipe for place, stage in stages.items()}
    for size in sizes:
        sections: dict[str, Section] = {"data": study.data, **stages}
        sections |= {place: recipe.of_size(size) for place, recipe in recipes.items()}
        for place, section in sections.items():
            for key, value in section.model_dump(
                exclude={"micro_batch_size": True, "recipe": True, "data": set(NOT_IDENTITY)} | changeable
            ).items():
                found.setdefault(f"{place}.{key}", {})[size] = value
    return found


def read_cell(folder: Path, changes: dict[str, Any] | None = None) -> Cell:
    """The cell that a cell's folder is of; `changes` replace parts of its data.

    Raises:
        RecordError: if its cell.json is missing or broken.
        StudyError: if the changed data cannot be.
    """
    path = folder / "cell.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values = {
            "name": about["study"],
            "grid": {"designs": [about["design"]], "seeds": [about["seed"]]},
            "data": about["data"] | (changes or {}),
            # What fits a checkpoint is of no use without one; a stage's is that of the cell before.
            "recipe": {key: value for key, value in about["recipe"].items() if key not in FITTING},
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: cut off or not the description of a cell ({error})") from None
    (cell,) = build_study(values, origin=str(path)).cells()
    return cell


def _read_record(path: Path, within: str | None = None) -> Record | None:
    """The record in a file, or in a part of it; None where there is no such file."""
    redo = f"move {path.parent} away and run the study again to redo this cell"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values = values[within] if within else values
        version = values["schema_version"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # which says nothing of the record
        raise RecordError(f"{path}: cannot be read ({error.strerror}); see to its file system or its rights") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: cut off or not a record ({error}); {redo}") from None
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: record of schema version {version}, this version of scaling reads {SCHEMA_VERSION}; "
            "install the version that wrote it"
        )
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise RecordError(f"{path}: {key}: {problem['msg'].lower()}; {redo}") from None
