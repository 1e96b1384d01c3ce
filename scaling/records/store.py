"""The run directory: every file has one writer; records are written whole and renamed into place.

study.toml                        the specification, with every default written out
cells/<cell id>/cell.json         what the cell is
cells/<cell id>/metrics.jsonl     training loss, written as it goes
cells/<cell id>/log.txt           what libraries printed
cells/<cell id>/checkpoint/       the trained weights
cells/<cell id>/record.json       exists once the cell is finished, and never changes then
cells/<cell id>/failure.json      why the last try failed; the next run tries again
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaling.design import Cell, Study, load_study, study_to_toml
from scaling.errors import ScalingError
from scaling.records.schema import SCHEMA_VERSION, Record, Status


class RecordError(ScalingError):
    """Records that cannot be read, or a place where they cannot be written."""


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader or a crash never meets half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)  # makes the new name survive a power cut too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
            write_whole(self.study_file, study_to_toml(study))
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
        for section in ("data", "recipe"):
            old, new = (getattr(study, section).model_dump(exclude={"micro_batch_size"}) for study in (there, here))
            changed = [key for key in new if old.get(key) != new[key]]
            if changed:
                key = changed[0]
                raise RecordError(
                    f"{self.path} was made with {section}.{key} = {old.get(key)}, the study now says {new[key]}; "
                    "choose another --out"
                )

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
        if not (folder / "record.json").exists():
            write_whole(folder / "record.json", record.model_dump_json(indent=2) + "\n")
        (folder / "failure.json").unlink(missing_ok=True)

    def fail(self, record: Record, details: str) -> None:
        """Note why a try failed; `details` may be a traceback."""
        failure = {"record": record.model_dump(mode="json"), "details": details}
        write_whole(self.cell_folder(record.cell) / "failure.json", json.dumps(failure, indent=2) + "\n")

    def record(self, cell_id: str) -> Record | None:
        """The record of a finished cell, or None.

        Raises:
            RecordError: if the file is cut off or of another version.
        """
        path = self.cell_folder(cell_id) / "record.json"
        return _read_record(path) if path.exists() else None

    def learning_curve(self, cell_id: str) -> list[tuple[int, float]]:
        """Images seen and training losses that a cell has logged; a line that is being written is left out."""
        path = self.cell_folder(cell_id) / "metrics.jsonl"
        if not path.exists():
            return []
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        try:
            rows = [json.loads(line) for line in whole.splitlines()]
            return [(int(row["images"]), float(row["loss"])) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}: is not a learning curve: {error}") from None

    def status(self, cell_id: str) -> Status:
        """What became of a cell so far; raises RecordError as `record` does."""
        record = self.record(cell_id) or self.failure(cell_id)
        return record.status if record else Status.PLANNED

    def failure(self, cell_id: str) -> Record | None:
        """The record of a cell's last try, if that failed."""
        path = self.cell_folder(cell_id) / "failure.json"
        return _read_record(path, within="record") if path.exists() else None

    def records(self) -> Iterator[Record]:
        """The finished and the failed cells of the study, in its order.

        Cells in the folder that the study no longer has are left out.
        """
        for cell in self.study().cells():
            record = self.record(cell.id) or self.failure(cell.id)
            if record is not None:
                yield record


def _read_record(path: Path, within: str | None = None) -> Record:
    redo = f"move {path.parent} away and run the study again to redo this cell"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values = values[within] if within else values
        version = values["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
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
