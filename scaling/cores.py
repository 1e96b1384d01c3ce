"""The cores that this process may use, and how many of them load images."""

import os
from pathlib import Path

CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
MOST_LOADERS = 8


def usable_cores() -> int:
    """Cores this process may use: its affinity (on Linux) and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = CGROUP_CPU.read_text().split() if CGROUP_CPU.is_file() else ("max", "1")
    return max(1, min(cores, int(quota) // int(period))) if quota.isdigit() else cores


def loaders_of_each(processes: int, cores: int | None = None) -> int:
    """Loader processes of each of so many training processes of this machine, where nobody says how many.

    One for each core of its share, at least 1 and at most 8.

    Args:
        processes: that train at once.
        cores: that they share; all that this process may use by default.
    """
    return max(1, min(MOST_LOADERS, (cores or usable_cores()) // processes))
