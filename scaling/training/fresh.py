"""Calls in a process of their own, where running out of memory or crashing is an answer and no end."""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from scaling.records import Status

OUT_OF_MEMORY_WORDS = (
    *("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory"),
    "status_alloc_failed",  # of cuBLAS and cuDNN
)
END_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no answer: `oom` where memory ran out, else `failed`, and one line."""

    status: Status
    reason: str


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch's allocator on a CPU raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY_WORDS)


class FreshProcess(AbstractContextManager["FreshProcess"]):
    """A function that lives in another process; after a failure the next call starts a new one.

    Args:
        make: gives the function; called in the new process, so it must be importable there.
    """

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def call(self, *arguments: Any) -> Any:
        """The function's answer, or a Failure."""
        process, pipe = self._started()
        try:
            pipe.send(arguments)
            answer = pipe.recv()
        except (EOFError, OSError):
            answer = _death(process)
        if isinstance(answer, Failure):
            self._end()
        return answer

    def __exit__(self, *_: object) -> None:
        self._end()

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._process is None or self._pipe is None:
            # Not forked: CUDA does not survive a fork, and memory held here is no part of a trial.
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._make, theirs), daemon=True)
            self._process.start()
            theirs.close()
        return self._process, self._pipe

    def _end(self) -> None:
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(END_SECONDS)
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _death(process: BaseProcess) -> Failure:
    process.join()
    code = process.exitcode or 0
    reason = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return Failure(Status.FAILED, reason + " (out of memory?)" * (code == -signal.SIGKILL))


def _serve(make: Callable[[], Callable[..., Any]], pipe: Connection) -> None:
    """Answer calls until one fails or the caller is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the caller, whose end closes the pipe
    function = None
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            function = function or make()
            pipe.send(function(*arguments))
        except Exception as error:
            status = Status.OOM if is_out_of_memory(error) else Status.FAILED
            pipe.send(Failure(status, f"{type(error).__name__}: {error}".splitlines()[0]))
            return
