"""Jobs on a Ray cluster of two nodes, and what becomes of them when workers, nodes or the driver are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from scaling.errors import ScalingError
from scaling.grid.engines.ray import RayScheduler
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request
from tests.engines.ray_cluster import RayCluster, ray_cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours to mend
]
PATIENCE_SECONDS = 180
SAVING = """
import signal, sys, time
from pathlib import Path
def save(*_):
    time.sleep(1)
    Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[2]).write_text("began")
time.sleep(600)
"""
SLEEPING_WITH_CHILD = """
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
tries = sorted(Path(sys.argv[1]).iterdir())
if len(tries) == int(sys.argv[2]):
    child.kill()
    sys.exit(0)
mark = os.environ.get("SCALING_TEST_NODE", "")
(Path(sys.argv[1]) / f"{len(tries)}.part").write_text(f"{os.getpid()} {child.pid} {mark}")
(Path(sys.argv[1]) / f"{len(tries)}.part").rename(Path(sys.argv[1]) / f"{len(tries)}")
time.sleep(600)
"""
SUM_OF_RANKS = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
def main():
    dist.init_process_group("gloo")
    total = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(total)
    (Path(sys.argv[1]) / str(dist.get_rank())).write_text(f"{dist.get_world_size()} {total.item()}")
    dist.destroy_process_group()
main()
"""
SUMS_FOR_EVER = """
import os, sys
from pathlib import Path
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
file = Path(sys.argv[1]) / str(dist.get_rank())
while True:
    dist.all_reduce(torch.ones(1))
    if not file.exists():
        file.with_suffix(".part").write_text(f"{os.getpid()} {os.environ['SCALING_TEST_NODE']}")
        file.with_suffix(".part").rename(file)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(nodes=2) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def scheduler(cluster: RayCluster) -> Iterator[RayScheduler]:
    scheduler = RayScheduler(cluster.address, grace_seconds=20)
    yield scheduler
    scheduler.close()


def python(code: str, *arguments: object, **needs: int) -> Request:
    return Request("a job", ("-c", code, *map(str, arguments)), Needs(**{"cpus": 1} | needs))


def until(condition: Callable[[], object]) -> None:
    patience = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.1)


def end(scheduler: RayScheduler, jobs: list[str]) -> list[JobState]:
    until(lambda: all(state.phase is Phase.ENDED for state in scheduler.look(jobs).values()))
    states = scheduler.look(jobs)
    return [states[job] for job in jobs]


def started(folder: Path, count: int) -> list[str]:
    """Process ids of the latest try of a sleeper and of its child, and its node."""
    until(lambda: (folder / str(count - 1)).exists())
    return (folder / str(count - 1)).read_text().split()


def fits(scheduler: RayScheduler, needs: Needs) -> bool:
    try:
        scheduler.check([needs])
    except ScalingError:
        return False
    return True


def are_gone(*processes: str) -> bool:
    return not any(psutil.pid_exists(int(process)) for process in processes)


def test_jobs_end_with_the_exit_codes_of_their_commands(scheduler: RayScheduler) -> None:
    codes = [0, 1, 130, 7]
    jobs = scheduler.submit([python(f"import sys; sys.exit({code})") for code in codes])
    assert len(set(jobs)) == len(codes)
    assert [state.exit_code for state in end(scheduler, jobs)] == codes
    killed, broken = end(
        scheduler,
        scheduler.submit([python("import os; os.kill(os.getpid(), 9)"), python("raise ValueError('no such thing')")]),
    )
    assert (killed.exit_code, killed.error) == (137, "killed by SIGKILL")
    assert (broken.exit_code, broken.error) == (1, "ValueError: no such thing")


def test_a_command_has_the_threads_folder_and_path_of_its_request(scheduler: RayScheduler, tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
Path(sys.argv[1]).write_text("|".join([os.environ["OMP_NUM_THREADS"], os.getcwd(), os.environ.get("PYTHONPATH", "-")]))
"""
    end(scheduler, scheduler.submit([python(code, tmp_path / "seen")]))
    assert (tmp_path / "seen").read_text() == f"1|{Path.cwd()}|{os.environ.get('PYTHONPATH', '-')}"


def test_a_job_is_stopped_when_its_time_is_up(scheduler: RayScheduler, tmp_path: Path) -> None:
    (state,) = end(scheduler, scheduler.submit([python(SAVING, tmp_path / "saved", tmp_path / "began", seconds=5)]))
    assert (state.lack, state.exit_code) == (Lack.TIME, None)
    assert (tmp_path / "saved").read_text() == "saved"


def test_running_jobs_save_when_cancelled_and_queued_ones_never_begin(scheduler: RayScheduler, tmp_path: Path) -> None:
    saved, began = (
        [tmp_path / f"saved{index}" for index in range(3)],
        [tmp_path / f"began{index}" for index in range(3)],
    )
    jobs = scheduler.submit([python(SAVING, *places) for places in zip(saved, began, strict=True)])
    until(lambda: sum(file.exists() for file in began) == 2)
    scheduler.cancel(jobs)
    states = end(scheduler, jobs)
    assert sorted(str(state.exit_code) for state in states) == ["130", "130", "None"]
    assert sum(file.exists() for file in saved) == sum(file.exists() for file in began) == 2


def test_commands_end_when_their_driver_leaves(cluster: RayCluster, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    scheduler = RayScheduler(cluster.address)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    scheduler.submit([python(SLEEPING_WITH_CHILD, tmp_path, 1)])
    process, child, _ = started(tmp_path, 1)
    scheduler.close()
    until(lambda: are_gone(process, child))


def test_a_command_ends_with_its_worker_and_is_tried_again(scheduler: RayScheduler, tmp_path: Path) -> None:
    jobs = scheduler.submit([python(SLEEPING_WITH_CHILD, tmp_path, 1)])
    process, child, _ = started(tmp_path, 1)
    worker = psutil.Process(int(process)).parents()[2]
    assert "ray::" in worker.name()
    worker.kill()
    assert [state.exit_code for state in end(scheduler, jobs)] == [0]
    until(lambda: are_gone(process, child))


@pytest.mark.parametrize("level", [0, 1])
def test_a_command_ends_with_its_supervisor(scheduler: RayScheduler, tmp_path: Path, level: int) -> None:
    jobs = scheduler.submit([python(SLEEPING_WITH_CHILD, tmp_path, 1)])
    process, child, _ = started(tmp_path, 1)
    psutil.Process(int(process)).parents()[level].kill()
    assert [state.exit_code for state in end(scheduler, jobs)] == [137]
    until(lambda: are_gone(process, child))


def test_jobs_of_a_lost_node_run_again_on_another(cluster: RayCluster, scheduler: RayScheduler, tmp_path: Path) -> None:
    jobs = scheduler.submit([python(SLEEPING_WITH_CHILD, tmp_path, 1)])
    node = started(tmp_path, 1)[2]
    cluster.kill_node(node)
    assert [state.exit_code for state in end(scheduler, jobs)] == [0]
    cluster.add_node()


def test_commands_end_with_the_driver(cluster: RayCluster, scheduler: RayScheduler, tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPING_WITH_CHILD)
    (tmp_path / "tries").mkdir()
    code = """
import sys, time
from scaling.grid.engines.ray import RayScheduler
from scaling.grid.engines.scheduler import Needs, Request
(job,) = RayScheduler(sys.argv[1]).submit([Request("a job", tuple(sys.argv[2:]), Needs(1))])
print(job, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, cluster.address, str(tmp_path / "sleeper.py"), str(tmp_path / "tries"), "9"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    job = driver.stdout.readline().strip()
    process, child, _ = started(tmp_path / "tries", 1)
    driver.kill()
    assert driver.communicate()[0] == ""
    until(lambda: are_gone(process, child))
    state = scheduler.look([job])[job]
    assert (state.phase, state.lack) == (Phase.ENDED, Lack.NODE)


def test_each_job_sees_its_own_gpus(cluster: RayCluster, scheduler: RayScheduler, tmp_path: Path) -> None:
    assert not scheduler.has_gpus
    node = cluster.add_node(cpus=4, gpus=3)
    until(lambda: scheduler.has_gpus)
    code = """
import os, sys
from pathlib import Path
Path(sys.argv[1]).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "-"))
"""
    counts = [2, 1, 0, 0]
    files = [tmp_path / str(index) for index in range(len(counts))]
    end(
        scheduler, scheduler.submit([python(code, file, gpus=count) for file, count in zip(files, counts, strict=True)])
    )
    seen = [file.read_text().split(",") for file in files]
    assert [len(devices) for devices in seen[:2]] == [2, 1]
    assert {device for devices in seen[2:] for device in devices} <= {"", "-"}
    cluster.kill_node(node)
    until(lambda: not scheduler.has_gpus)


def test_a_job_that_fills_its_node_lacks_memory(cluster: RayCluster, scheduler: RayScheduler) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + (1 << 30)) / memory.total
    settings = {"RAY_memory_usage_threshold": f"{limit:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    node = cluster.add_node(cpus=4, environment=settings)
    code = """
import time
kept = []
for _ in range(100):
    kept.append(b"x" * (100 << 20))
    time.sleep(0.1)
"""
    until(lambda: fits(scheduler, Needs(4)))
    (state,) = end(scheduler, scheduler.submit([python(code, cpus=4)]))
    cluster.kill_node(node)
    until(lambda: not fits(scheduler, Needs(4)))
    assert (state.lack, state.exit_code) == (Lack.MEMORY, None)


def test_a_job_of_two_nodes_meets_under_torchrun(scheduler: RayScheduler, tmp_path: Path) -> None:
    script, ranks = tmp_path / "sum.py", tmp_path / "ranks"
    script.write_text(SUM_OF_RANKS)
    ranks.mkdir()
    request = Request("two nodes", (str(script), str(ranks)), Needs(1, nodes=2))
    scheduler.check([request.needs])
    (state,) = end(scheduler, scheduler.submit([request]))
    assert state.exit_code == 0, state
    assert {rank.name: rank.read_text() for rank in ranks.iterdir()} == {"0": "2 3.0", "1": "2 3.0"}


@pytest.mark.parametrize("lost", [0, 1])
def test_a_job_of_two_nodes_ends_as_one(
    cluster: RayCluster, scheduler: RayScheduler, tmp_path: Path, lost: int
) -> None:
    (tmp_path / "sums.py").write_text(SUMS_FOR_EVER)
    request = Request("two nodes", (str(tmp_path / "sums.py"), str(tmp_path)), Needs(1, nodes=2))
    jobs = scheduler.submit([request])
    until(lambda: all((tmp_path / f"{rank}").exists() for rank in range(2)))
    processes, nodes = zip(*[(tmp_path / f"{rank}").read_text().split() for rank in range(2)], strict=True)
    cluster.kill_node(nodes[lost])
    (state,) = end(scheduler, jobs)
    assert (state.lack, state.exit_code) == (Lack.NODE, None)
    until(lambda: are_gone(*processes))
    cluster.add_node()
    assert [state.exit_code for state in end(scheduler, scheduler.submit([python("pass")] * 2))] == [0, 0]


def test_a_node_that_fails_ends_the_job_of_two(
    scheduler: RayScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.grid.engines.ray.LOSS_SECONDS", 2.0)
    (tmp_path / "fails.py").write_text("import os, sys; sys.exit('no luck' if os.environ['RANK'] == '1' else 0)")
    (state,) = end(scheduler, scheduler.submit([Request("two", (str(tmp_path / "fails.py"),), Needs(1, nodes=2))]))
    assert (state.lack, state.exit_code) == (None, 1)


def test_what_no_node_has_is_refused(scheduler: RayScheduler) -> None:
    scheduler.check([Needs(1), Needs(1, nodes=2)])
    for needs in (Needs(2), Needs(1, gpus=1), Needs(1, memory_bytes=1 << 50), Needs(1, nodes=9)):
        with pytest.raises(ScalingError, match=r"(?s)^Ray at .* largest node has 1 CPU, 0 GPUs"):
            scheduler.check([needs])


def connect(address: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    code = f"""
from scaling.errors import ScalingError
from scaling.grid.engines.ray import RayScheduler
try:
    RayScheduler({address!r})
except ScalingError as error:
    exit(f"{{error}}")
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=PATIENCE_SECONDS,
    )


def test_whom_the_cluster_refuses_is_told_so(cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 64)
    (tmp_path / "token").chmod(0o600)
    for environment in ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, {"RAY_AUTH_MODE": "disabled"}):
        answer = connect(cluster.address, **environment)
        assert "refuses our token" in answer.stderr
        assert (answer.stderr.count("\n"), answer.stdout) == (1, "")
