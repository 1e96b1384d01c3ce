"""Runs one command so that nothing of it outlives who asked for it: `supervisor.py PARENT GRACE COMMAND...`.

Between a scheduler's worker, which may be killed at any time, and the command. Its text is sent to nodes, so it needs only
the standard library; it needs Linux.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
STOPS = (signal.SIGTERM, signal.SIGUSR1)
ORPHANED = signal.SIGUSR2
SIGNALS = (*STOPS, ORPHANED, signal.SIGCHLD)


def supervise(parent: int, grace_seconds: float, command: Sequence[str]) -> int:
    """Run a command to its end and return its exit code, 128 and the signal if it was killed.

    When asked to stop, it passes SIGTERM on and waits. When the grace is over, or the parent is gone, it kills the
    command and all that descends from it; also what a command that ended by itself left behind.
    """
    libc = ctypes.CDLL(None)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whose parent ends becomes our child, and can be found
    libc.prctl(PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0)
    child, supervisor = os.fork(), os.getpid()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.execv(command[0], command)
    deadline, code = float("inf"), None
    while code is None and os.getppid() == parent and time.monotonic() < deadline:
        left = min(deadline - time.monotonic(), 3600.0)
        received = signal.sigtimedwait(SIGNALS, max(0.0, left))
        if received is not None and received.si_signo in STOPS:
            os.kill(child, signal.SIGTERM)
            deadline = min(deadline, time.monotonic() + grace_seconds)
        code = _collect(child)
    _kill_descendants()
    return 128 + signal.SIGKILL if code is None else code


def _collect(child: int) -> int | None:
    """Take leave of all that ended; the child's exit code, once it has one."""
    code = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if process == 0:
            return code
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                print(f"killed by {signal.Signals(-code).name}", file=sys.stderr)
                code = 128 - code


def _kill_descendants() -> None:
    """Generation by generation, since those whose parent ends become our children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while processes := [int(process) for process in children.read_text().split()]:
        for process in processes:
            os.kill(process, signal.SIGKILL)
        for process in processes:
            os.waitpid(process, 0)


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
