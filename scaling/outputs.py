"""Files that a user asked for: tried before long work, then written whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.errors import ScalingError


class OutputError(ScalingError):
    """A file that cannot be written."""


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before long work; nothing is made.

    Raises:
        OutputError: for a folder in its place, a file among its folders, or what does not let us write.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():  # a device or a pipe is written itself, not replaced
        if not os.access(path, os.W_OK):
            raise OutputError(f"{path}: cannot be written (no permission); choose another place")
        return
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise OutputError(f"{path}: cannot be written ({folder} is no folder); choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written (no permission to write in {folder}); choose another place")


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """The file to write to, which takes the place of `path` once it is complete; missing folders are made.

    Raises:
        OutputError: if it cannot be written; what was there before then stays.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()
        part = target.with_name(f".{uuid.uuid4().hex[:12]}.part{target.suffix}")
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None


def write_output(path: Path, text: str) -> None:
    """Write a text to a file as `output_file` does; raises its OutputError."""
    with output_file(path) as part:
        part.write_text(text, encoding="utf-8")
