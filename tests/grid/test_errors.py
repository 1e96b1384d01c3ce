"""Kinds of errors of input and output, from the operating system itself where it gives them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from scaling.grid.errors import is_full_disk, is_transient


def caught(call: Callable[..., object], *arguments: object) -> Exception:
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError(f"{call} raised nothing")


def a_shard_behind_a_stale_handle() -> None:
    try:
        raise OSError(errno.ESTALE, "Stale file handle")
    except OSError as reason:
        raise ValueError("shard 7 cannot be read") from reason


def test_a_full_device_is_told_from_an_error_that_passes(tmp_path: Path) -> None:
    full = caught(Path("/dev/full").write_text, "text")
    assert is_full_disk(full, tmp_path)
    assert not is_transient(full, tmp_path)
    for code in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
        error = OSError(code, os.strerror(code))
        assert is_transient(error, tmp_path)
        assert not is_full_disk(error, tmp_path)
    assert is_transient(ConnectionResetError("by peer"), tmp_path)


def test_what_trying_again_does_not_mend_is_not_tried_again(tmp_path: Path) -> None:
    for error in (caught((tmp_path / "none").read_text), caught(tmp_path.mkdir), ValueError("no"), MemoryError()):
        assert not is_transient(error, tmp_path)
        assert not is_full_disk(error, tmp_path)


def test_the_reason_behind_a_library_s_own_error_counts(tmp_path: Path) -> None:
    assert is_transient(caught(a_shard_behind_a_stale_handle), tmp_path)
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert is_full_disk(RuntimeError(words), tmp_path)
    assert not is_full_disk(RuntimeError("writing failed"), tmp_path)  # there is room here
