"""Copies of the files of the user's own architectures in a run directory: they say what its cells were trained with.

A copy is compared and never run: code of a run directory that came from elsewhere is not the user's.
"""

from collections.abc import Iterable
from pathlib import Path

from scaling.design.plugins import FOLDER, file_of, is_same_code
from scaling.records.store import RecordError, RunDirectory, write_whole


def check_files(run: RunDirectory, architectures: Iterable[str]) -> None:
    """Raise RecordError where an architecture differs from the one that cells of a run directory were trained with.

    Comments and spaces may differ, and anything as long as nothing was trained with it.
    """
    for name in architectures:
        if is_changed(run.path, name) and _is_trained(run, name):
            raise RecordError(
                f"{FOLDER / name}.py is not the code that cells were trained with, {_copy(run.path, name)};\n"
                "put that back, or choose another --out"
            )


def keep_files(run: RunDirectory, architectures: Iterable[str]) -> None:
    """Copy the files of architectures that have one."""
    for name in architectures:
        known, copy = file_of(name), _copy(run.path, name)
        if known is not None and (not copy.exists() or is_changed(run.path, name)):
            copy.parent.mkdir(exist_ok=True)
            write_whole(copy, known[1])


def check_unchanged(run: Path, architecture: str) -> None:
    """Raise RecordError where an architecture was changed after its run directory got a copy."""
    if is_changed(run, architecture):
        raise RecordError(f"{FOLDER / architecture}.py was changed while {run} was running; run the same command again")


def is_changed(run: Path, architecture: str) -> bool:
    """Whether an architecture's file says something else than its copy."""
    known, copy = file_of(architecture), _copy(run, architecture)
    return known is not None and copy.is_file() and not is_same_code(known[1], copy.read_text(encoding="utf-8"))


def _copy(run: Path, architecture: str) -> Path:
    return run / FOLDER / f"{architecture}.py"


def _is_trained(run: RunDirectory, architecture: str) -> bool:
    """Whether a cell of the architecture is finished, or begun and saved."""
    cells = [cell.id for cell in run.study().all_cells() if cell.design.architecture == architecture]
    return any(run.record(cell) is not None or run.resume_folder(cell).exists() for cell in cells)
