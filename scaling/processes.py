"""Helper processes that leave the signals of a job, and the end of their parent, to those who deal with them."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import wait
from typing import Any

SCHEDULER_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def fork_server(preload: Sequence[str]) -> Any:
    """Processes forked from a server that imported these modules once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # Ctrl-C reaches every process of the terminal, a scheduler's signal every process of the job; helpers inherit the
    # block, and those that listen lift it.
    signals = {signal.SIGINT, *SCHEDULER_SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # again, since starting the tracker lifts some
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def peak_resident_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB on Linux


def die_with_parent() -> None:
    """End this process when its parent is gone, so that a kill leaves nobody behind who writes; for a thread."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
