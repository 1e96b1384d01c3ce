"""Checkpoints of a cell that is being trained: written whole or not at all, read only if undamaged.

resume/step-00000120/model.safetensors   weights
resume/step-00000120/state.pt            optimiser, schedule, scaler, averaged weights, random states
resume/step-00000120/about.json          the cell, how far it has come, and a hash of the other two files
"""

import hashlib
import json
import pickle
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaling.errors import ScalingError
from scaling.records import flush
from scaling.training.fresh import is_out_of_memory

FORMAT = 1
KEPT = 2  # the last one, and the one before for the case that the last is damaged
WEIGHTS, STATE, ABOUT = "model.safetensors", "state.pt", "about.json"
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
DAMAGED = (ValueError, KeyError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, *MISSING)


@dataclass(slots=True)
class Position:
    """How far a training has come, and at what expense; the plain part of a checkpoint."""

    step: int = 0
    """Optimiser steps done."""
    skipped_steps: int = 0
    """Steps of the stream whose images were left out by a rollback."""
    rolled_back_steps: int | None = None
    loss_sum: float = 0.0
    """Over the images of all processes since the last logged loss; another micro-batch may go on with it."""
    loss_count: int = 0
    """Images of the sum."""
    curve_bytes: int = 0
    """Length of metrics.jsonl."""
    seconds: float = 0.0
    """Spent on training steps, over all tries."""
    data_seconds: float = 0.0
    earlier_seconds: float = 0.0
    """Of earlier tries, from when each was handed out to its last checkpoint."""
    data_fingerprint: str | None = None
    """Of the images it was trained on."""
    started_from: dict[str, str] | None = None
    resume_note: str | None = None

    def become(self, other: "Position") -> None:
        """Take every value of another."""
        for field in fields(self):
            setattr(self, field.name, getattr(other, field.name))


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read: position, weights by name, and the rest."""

    position: Position
    weights: dict[str, Tensor]
    state: dict[str, Any]


class ResumeFolder:
    """The checkpoints of one cell that is being trained."""

    def __init__(self, path: Path, cell_id: str) -> None:
        self.path, self.cell_id = path, cell_id

    def save(self, saved: Saved) -> None:
        """Write a checkpoint and flush it to disk, then remove all but the last two.

        Raises:
            ScalingError: if it cannot be written, such as on a full disk; earlier ones stay.
        """
        final = self._folder(saved.position.step)
        part = final.with_name(f".{final.name}.part")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            save_file(saved.weights, part / WEIGHTS)
            torch.save(saved.state, part / STATE)
            about = {"format": FORMAT, "cell": self.cell_id, "position": asdict(saved.position)}
            about |= {"sha256": {name: _sha256(part / name) for name in (WEIGHTS, STATE)}}
            (part / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            for name in (WEIGHTS, STATE, ABOUT, "."):
                flush(part / name)
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            flush(self.path)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise ScalingError(
                f"{final}: the checkpoint cannot be written ({reason}); free some space and run the study again, "
                f"which continues from {self._last_name()}"
            ) from error
        for old in self._folders()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, curve: Path, remove: bool = True) -> tuple[Saved | None, str | None]:
        """The last good checkpoint if there is one, and why others were not taken.

        Args:
            curve: the cell's metrics.jsonl, which must still hold what was logged before.
            remove: those that are not taken.

        Raises:
            OSError: where the storage fails; nothing is removed then.
        """
        notes = []
        for folder in self._folders():
            try:
                return self._read(folder, curve), "; ".join(notes) or None
            except DAMAGED as error:
                if is_out_of_memory(error):
                    raise
                notes.append(f"{folder.name} was not continued from: {_reason(error)}")
                if remove:
                    _remove(folder)
        return None, "; ".join(notes) or None

    def _read(self, folder: Path, curve: Path) -> Saved:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
        if about["cell"] != self.cell_id:
            raise ValueError(f"it is of cell {about['cell']}")
        for name, digest in about["sha256"].items():
            if _sha256(folder / name) != digest:
                raise ValueError(f"{name} is damaged")
        position = Position(**about["position"])
        if not curve.is_file() or curve.stat().st_size < position.curve_bytes:
            raise ValueError(f"{curve.name} lacks what was logged before it")
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        return Saved(position, load_file(folder / WEIGHTS), state)

    def _folder(self, step: int) -> Path:
        return self.path / f"step-{step:08d}"

    def _folders(self) -> list[Path]:
        """Checkpoints from the last to the first."""
        return sorted(self.path.glob("step-*"), reverse=True)

    def _last_name(self) -> str:
        return next((folder.name for folder in self._folders()), "the start")


def _remove(path: Path) -> None:
    """Remove a folder, or what stands in its place."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
