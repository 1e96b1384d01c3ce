"""A function whose process dies by what it is called with; a module of its own, which imports next to nothing."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    process: int
    peak_bytes: int


def dying_above(limit: int) -> Callable[[int, int], Answer]:
    """A trial whose process is killed by more images than the limit, and fails at exactly 4."""

    def run(size: int, steps: int) -> Answer:
        if size > limit:
            os.kill(os.getpid(), signal.SIGKILL)
        if size == 4:
            raise ValueError("four\nof all")
        return Answer(os.getpid(), 10 * size)

    return run
