"""Jobs on a Ray cluster: each a task of Ray Core, which runs its command as a process of its own."""

import inspect
import os
import signal
import socket
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import ScalingError, UsageError
from scaling.grid.engines import on_node, supervisor
from scaling.grid.engines.on_node import Order, Outcome, Part, Surroundings
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request

CONNECT_SECONDS = 5.0
RETRIES = 3  # of a task whose node or worker is lost
LOSS_SECONDS = 60.0  # until Ray has missed a node whose loss made the others of a job fail
SPARE_SECONDS = 5.0  # to end, for a command that took all the time it has to save
# Ray reads them when it is imported and connects. By its own it would try a wrong token for 20 s, and a task that is
# killed for memory for ever.
SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "3", "RAY_task_oom_retries": "0"}


@dataclass(slots=True)
class _Open:
    """A job that had not ended when we last looked."""

    tasks: list[Any]
    """References to the outcomes, one per node."""
    group: Any = None
    """The placement group of a job of several nodes."""
    stop_at: float = float("inf")
    """By time.monotonic(); after a node of several failed."""
    stopped: bool = False


class RayScheduler:
    """A `Scheduler` on Ray.

    Ray ends the tasks of a driver that is gone, so jobs of an earlier one have ended. Tasks do not tell when they
    begin: a job is QUEUED until it has ended, and the leases in the run directory say what runs.

    Args:
        address: host:port of the cluster's head, or 'auto' for RAY_ADDRESS or the cluster that runs on this machine.
        grace_seconds: that a command has to save when it is asked to stop.

    Raises:
        UsageError: for an address that is none.
        ScalingError: where no cluster answers, or it refuses us.
    """

    def __init__(self, address: str = "auto", grace_seconds: float = 25.0) -> None:
        self._address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, JobState] = {}
        ray = self._ray = _connect(self._address)
        ray.cloudpickle.register_pickle_by_value(on_node)
        # Stored once, not in each of thousands of tasks.
        text, path, patience = (
            inspect.getsource(supervisor),
            os.environ.get("PYTHONPATH"),
            grace_seconds + SPARE_SECONDS,
        )
        self._around = ray.put(Surroundings(text, str(Path.cwd()), path, patience))
        self._command = ray.remote(max_retries=RETRIES)(on_node.run_command)
        self._part = ray.remote(max_retries=0)(on_node.run_part)
        self._meeting = ray.remote(max_retries=0, num_cpus=0)(on_node.find_meeting)

    @property
    def has_gpus(self) -> bool:
        """Whether a node has GPUs that Ray knows of."""
        return any(node.get("GPU", 0) > 0 for node in self._nodes())

    @property
    def longest_seconds(self) -> None:
        """Ray limits no job's time."""
        return

    def check(self, needs: Collection[Needs]) -> None:
        """Raise ScalingError where too few living nodes have what a job needs."""
        nodes = self._nodes()
        for need in needs:
            if (lack := what_lacks(need, nodes)) is not None:
                raise ScalingError(f"Ray at {self._address}: {lack}")

    def submit(self, requests: Sequence[Request]) -> list[str]:
        """Submit jobs; the names are Ray's ids of their first tasks."""
        names = []
        for request in requests:
            job = self._submit_gang(request) if request.needs.nodes > 1 else self._submit_one(request)
            names.append(job.tasks[0].task_id().hex())
            self._open[names[-1]] = job
        return names

    def look(self, jobs: Collection[str]) -> dict[str, JobState]:
        """What became of these jobs; asks nothing of the cluster and does not wait."""
        tasks = [task for name in jobs if name in self._open for task in self._open[name].tasks]
        ready = set(self._ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)[0]) if tasks else set()
        for name in jobs:
            if (job := self._open.get(name)) is not None:
                self._judge(name, job, [self._state(task) for task in job.tasks if task in ready])
        gone = JobState(Phase.ENDED, lack=Lack.NODE, error="its driver is gone, and its task with it")
        return {name: JobState(Phase.QUEUED) if name in self._open else self._ended.get(name, gone) for name in jobs}

    def unnoted(self, noted: Collection[str]) -> dict[str, Request]:
        """None: tasks end with the driver that submitted them."""
        return {}

    def cancel(self, jobs: Collection[str]) -> None:
        """Take queued jobs away, and ask running ones to save and stop."""
        for name in jobs:
            if name in self._open:
                self._stop(self._open[name])

    def close(self) -> None:
        """Leave; Ray kills what still runs."""
        self._open.clear()
        self._ray.shutdown()

    def _submit_one(self, request: Request) -> _Open:
        return _Open([self._command.options(**_options(request)).remote(self._around, _order(request))])

    def _submit_gang(self, request: Request) -> _Open:
        """One task per node; they begin when the first node has said where they meet."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs, options, order = request.needs, _options(request), _order(request)
        each = {kind: count for kind, count in _resources(needs).items() if count}
        group = placement_group([each] * needs.nodes, strategy="STRICT_SPREAD")
        places = [PlacementGroupSchedulingStrategy(group, rank) for rank in range(needs.nodes)]
        meeting = self._meeting.options(scheduling_strategy=places[0]).remote()
        tasks = []
        for rank, place in enumerate(places):
            part = Part(rank, needs.nodes, needs.processes, group.id.hex())
            task = self._part.options(**options, scheduling_strategy=place)
            tasks.append(task.remote(self._around, order, part, meeting))
        return _Open(tasks, group)

    def _judge(self, name: str, job: _Open, states: list[JobState]) -> None:
        """Note the end of a job; where one node of several failed, give the others time to tell why, and stop them."""
        if len(states) == len(job.tasks):
            self._ended[name] = min(states, key=_harm)
            self._open.pop(name)
            if job.group is not None:
                from ray.util.placement_group import remove_placement_group

                remove_placement_group(job.group)
        elif any(state.exit_code != 0 for state in states):
            job.stop_at = min(job.stop_at, time.monotonic() + LOSS_SECONDS)
            if any(state.lack for state in states) or time.monotonic() > job.stop_at:
                self._stop(job)

    def _state(self, task: Any) -> JobState:
        """How a task that is over has ended."""
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(task)
        except errors.TaskCancelledError:
            return JobState(Phase.ENDED, error="cancelled before it began")
        except errors.OutOfMemoryError as error:
            return JobState(Phase.ENDED, lack=Lack.MEMORY, error=_first_line(error))
        except errors.RayTaskError as error:  # our own part failed there
            return JobState(Phase.ENDED, error=_first_line(error.cause or error))
        except errors.RayError as error:
            return JobState(Phase.ENDED, lack=Lack.NODE, error=_first_line(error))
        if outcome.out_of_time and outcome.exit_code >= 128:
            return JobState(Phase.ENDED, lack=Lack.TIME, node=outcome.node)
        error = outcome.last_line if outcome.exit_code else None
        return JobState(Phase.ENDED, outcome.exit_code, error=error, node=outcome.node)

    def _stop(self, job: _Open) -> None:
        if not job.stopped:
            job.stopped = True
            for task in job.tasks:
                self._ray.cancel(task, force=False)

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


def _resources(needs: Needs) -> dict[str, float]:
    """Of each node, by Ray's names."""
    return {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_bytes or 0}


def _options(request: Request) -> dict[str, Any]:
    needs = request.needs
    return {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory_bytes, "name": request.name}


def _order(request: Request) -> Order:
    needs = request.needs
    return Order(request.arguments, max(1, needs.cpus // needs.processes), needs.seconds)


def _harm(state: JobState) -> int:
    """Which node of several speaks for the job: one that lacked something, else one that failed by itself."""
    if state.lack is not None:
        return 0
    if state.exit_code is None or state.exit_code >= 128:  # stopped for another's sake, most likely
        return 2
    return 1 if state.exit_code else 3


def what_lacks(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why a job fits nowhere, or None; `nodes` are the resources of each as Ray states them."""
    asked = _resources(needs)
    fitting = sum(all(node.get(kind, 0) >= count for kind, count in asked.items()) for node in nodes)
    if fitting >= needs.nodes:
        return None
    largest = max(nodes, key=lambda node: [node.get(kind, 0) for kind in ("GPU", "CPU", "memory")], default={})
    has = {kind: largest.get(kind, 0) for kind in asked}
    found = "no node has" if fitting == 0 else f"{needs.nodes} nodes are needed, and {fitting} of {len(nodes)} have"
    return f"{found} {_amounts(asked)};\nits largest node has {_amounts(has)}"


def _amounts(resources: Mapping[str, float]) -> str:
    """In words: '4 CPUs, 1 GPU, 16.0 GiB of memory'."""
    counts = [f"{resources[kind]:g} {kind}{'' if resources[kind] == 1 else 's'}" for kind in ("CPU", "GPU")]
    memory = [f"{resources['memory'] / 2**30:.1f} GiB of memory"] if resources["memory"] else []
    return ", ".join([*counts, *memory])


def _connect(address: str) -> Any:
    """Ray, connected; bounded in time, and quiet."""
    if address != "auto":
        _knock(address)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    said: list[str] = []
    try:
        with _silence(said):
            import ray
            from ray._private import worker

            ray.init(address, log_to_driver=False, configure_logging=False)
    except Exception as error:
        if "Unauthenticated" in said[0]:
            fix = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"
            raise ScalingError(f"Ray at {address} refuses our token; {fix}") from None
        raise ScalingError(f"no Ray cluster at {address}: {_first_line(error)}") from None
    # Of lost nodes and repeated tasks Ray tells on stdout, which is ours; only its debugger's switch stops that.
    worker._worker_logs_enabled = False
    for number, handler in handlers.items():  # Ray has set its own
        signal.signal(number, handler)
    return ray


def _knock(address: str) -> None:
    """Raise ScalingError where nobody listens; Ray itself would wait for more than a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"--address {address}: give host:port of the Ray cluster's head, such as 10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ScalingError(f"no Ray cluster at {address}: {error}; is its head running, and the port right?") from None


@contextmanager
def _silence(said: list[str]) -> Iterator[None]:
    """Keep from the terminal what C++ writes there, and tell it afterwards."""
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
