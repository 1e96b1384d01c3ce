"""Kinds of errors of input and output: which pass by themselves, and which stop everything."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scaling.errors import ScalingError

LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Of libraries with errors of their own.
FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")
ROOM_BYTES = 64 << 10  # a file system with less is full, whatever the error says
FIRST_PAUSE_SECONDS = 2.0


def is_full_disk(error: BaseException, folder: Path) -> bool:
    """Whether a file system without room, or a quota, is behind an error."""
    for reason in _reasons(error):
        if isinstance(reason, OSError) and reason.errno in FULL:
            return True
        if any(word in str(reason) for word in FULL_WORDS):
            return True
    # torch's writer says only that writing failed
    return "writ" in str(error).lower() and folder.exists() and shutil.disk_usage(folder).free < ROOM_BYTES


def is_transient(error: BaseException, folder: Path) -> bool:
    """Whether trying again may help: input or output errors, stale handles, lost connections."""
    reasons = [reason for reason in _reasons(error) if isinstance(reason, OSError)]
    return bool(reasons) and not isinstance(reasons[0], LASTING) and not is_full_disk(error, folder)


def plainly(error: OSError, folder: Path) -> ScalingError:
    """An error of input or output in a run directory, for its user."""
    told = error.strerror or str(error)
    return ScalingError(f"{error.filename or folder}: {told}; put that right, and run the same command again")


def pause_before(retry: int, give_up: Callable[[], bool]) -> None:
    """Wait 2 s before the first retry, 4 s before the second, and so on; less when `give_up` says so."""
    end = time.monotonic() + FIRST_PAUSE_SECONDS * 2 ** (retry - 1)
    while time.monotonic() < end and not give_up():
        time.sleep(0.1)


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
