"""Being asked to stop: Ctrl-C, and the signals of schedulers."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from scaling.errors import ScalingError
from scaling.processes import SCHEDULER_SIGNALS


class StoppedError(ScalingError):
    """Asked to stop before any cell had begun."""

    exit_code = 130


class Stopping:
    """Whether this process was asked to stop, since `listen` was called.

    The first Ctrl-C asks, the second insists. Signals of schedulers may come several times and only ask. Outside of the
    main thread, where Python takes no signals, nothing is listened to.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        """Name of the signal."""
        self.insisted = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self.listen(*SCHEDULER_SIGNALS, signal.SIGINT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None stands for one that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def listen(self, *signals: int) -> None:
        """Take these signals, also where they were blocked before."""
        for number in signals:
            self._before[number] = signal.signal(number, self._take)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that inherited this, such as a loader of data
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.insisted = self.insisted or (number == signal.SIGINT and self.asked == "SIGINT")
        self.asked = signal.Signals(number).name
