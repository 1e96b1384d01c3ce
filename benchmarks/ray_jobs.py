"""Jobs that do nothing, on a Ray cluster of this machine: what each costs, and the driver's memory.

python -m benchmarks.ray_jobs      # minutes; rewrites benchmarks/results/ray_jobs.md
"""

import os
import time
from collections.abc import Iterator

import psutil

from scaling.grid.engines.ray import RayScheduler
from scaling.grid.engines.scheduler import Needs, Phase, Request
from tests.engines.ray_cluster import ray_cluster

NODES, JOBS, QUEUED = 2, 2000, 10_000
PAUSE_SECONDS = 1.0  # between two looks


def memory_bytes() -> int:
    return psutil.Process().memory_info().rss


def ended(scheduler: RayScheduler, jobs: list[str]) -> Iterator[tuple[float, int]]:
    """Wait for jobs; yields the seconds of each look, and the memory after it."""
    while jobs:
        time.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        states = scheduler.look(jobs)
        yield time.perf_counter() - started, memory_bytes()
        assert all(state.exit_code in (None, 0) and state.lack is None for state in states.values())
        jobs = [job for job in jobs if states[job].phase is not Phase.ENDED]


def measure(scheduler: RayScheduler, count: int, cancelled: bool) -> tuple[str, ...]:
    """Submit so many jobs, cancel them or not, and wait for them; returns a row of the page."""
    before, started = memory_bytes(), time.perf_counter()
    jobs = scheduler.submit([Request("nothing", ("-c", "pass"), Needs(1))] * count)
    submitted = time.perf_counter() - started
    if cancelled:
        scheduler.look(jobs)
        scheduler.cancel(jobs)
    looks, memory = zip(*ended(scheduler, jobs), strict=True)
    taken = time.perf_counter() - started
    return (
        f"{count:,}, {'cancelled at once' if cancelled else 'run'}",
        f"{taken:.0f} s",
        f"{1000 * taken / count:.1f} ms",
        f"{1000 * submitted / count:.2f} ms",
        f"{1000 * max(looks):.0f} ms",
        f"{before / 2**20:.0f} MiB",
        f"{max(memory) / 2**20:.0f} MiB",
    )


def main() -> None:
    with ray_cluster(NODES) as cluster:
        os.environ.update(cluster.environment)
        scheduler = RayScheduler(cluster.address)
        measure(scheduler, 4 * NODES, cancelled=False)  # starts workers
        rows = [measure(scheduler, JOBS, cancelled=False), measure(scheduler, QUEUED, cancelled=True)]
        scheduler.close()
    from benchmarks.pages import write_page  # late: it imports torch, which a driver does not need

    columns = ("jobs", "wall", "each", "to submit each", "slowest look", "driver before", "driver at most")
    write_page("ray_jobs", f"Jobs that do nothing, on a Ray cluster of {NODES} nodes of one CPU", [("", columns, rows)])


if __name__ == "__main__":
    main()
