"""Runs one command so that nothing of it outlives who asked for it: `supervisor.py PARENT GRACE COMMAND...`.

It stands between a scheduler's worker, which may be killed at any time, and the command. Its text is sent to nodes, so
it needs only the standard library, and Linux.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
STOPS = (signal.SIGTERM, signal.SIGUSR1)
ORPHANED = signal.SIGUSR2
SIGNALS = (*STOPS, ORPHANED, signal.SIGCHLD)
LONGEST_WAIT_SECONDS = 3600.0
KILLED = 128 + signal.SIGKILL


def main(parent: int, grace_seconds: float, command: list[str]) -> int:
    """Run a command to its end and return its exit code, 128 and the signal if it was killed.

    There are two supervisors, one below the other: Ray kills the children of a worker that it ends, though not theirs.
    If one of them is killed, the other ends the command and what that has started.
    """

    def run_command() -> None:
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.execv(command[0], command)

    outer = os.getpid()
    return supervise(parent, grace_seconds, lambda: os._exit(supervise(outer, grace_seconds, run_command)))


def supervise(parent: int, grace_seconds: float, run: Callable[[], None]) -> int:
    """Run something in a process of its own to its end, and return its exit code.

    When asked to stop, SIGTERM is passed on. When the grace is over, or the parent is gone, it is killed with all that
    descends from it; so is what it has left behind when it ends by itself.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whose parent ends becomes our child, and can be found
    libc().prctl(PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0)
    if (child := os.fork()) == 0:
        run()
    deadline, code = float("inf"), None
    orphaned = os.getppid() != parent  # before we could ask for the signal
    while code is None and not orphaned and time.monotonic() < deadline:
        received = signal.sigtimedwait(SIGNALS, max(0.0, min(deadline - time.monotonic(), LONGEST_WAIT_SECONDS)))
        number = received.si_signo if received else None
        if number in STOPS:
            os.kill(child, signal.SIGTERM)
            deadline = min(deadline, time.monotonic() + grace_seconds)
        orphaned = number == ORPHANED
        code = _collect(child)
    _kill_descendants()
    return KILLED if code is None else code


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
                os.write(2, f"killed by {signal.Signals(-code).name}\n".encode())
                code = 128 - code


def _kill_descendants() -> None:
    """Generation by generation, since those whose parent ends become our children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while processes := [int(process) for process in children.read_text().split()]:
        for process in processes:
            os.kill(process, signal.SIGKILL)
        for process in processes:
            os.waitpid(process, 0)


def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
