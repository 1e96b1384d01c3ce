"""Jobs on a real Slurm of two nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaling.errors import ScalingError
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request
from scaling.grid.engines.slurm import SlurmScheduler
from tests.engines.slurm_server import ACCOUNT, CPUS, GPUS, NODES, install, lose_node, missing, slurm_server

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
PATIENCE_SECONDS = 240.0
SMALL = Needs(1)
COUNT = """
import os, signal, sys, time
from pathlib import Path
file, steps = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
done = int(file.read_text()) if file.exists() else 0
with open(f"{file}.lives", "a") as lives:
    print(done, os.getpid(), file=lives)
while done < steps:
    time.sleep(0.5)
    done += 1
    Path(f"{file}.new").write_text(str(done))
    os.replace(f"{file}.new", file)
"""
"""Counts in a file, and goes on from there; asked to stop, it ends as a runner does."""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Path]:
    if reason := install():
        pytest.skip(reason)
    with slurm_server() as folder:
        yield folder


@pytest.fixture
def scheduler(tmp_path: Path) -> SlurmScheduler:
    return SlurmScheduler(tmp_path / "jobs", "test", grace_seconds=5)


def request(*arguments: str, needs: Needs = SMALL, after: str | None = None) -> Request:
    return Request("test", arguments, needs, after)


def exits(code: int, after: str | None = None) -> Request:
    return request("-c", f"raise SystemExit({code})", after=after)


def counts(file: Path, steps: int, needs: Needs = SMALL) -> Request:
    return request("-c", COUNT, str(file), str(steps), needs=needs)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def ends(scheduler: SlurmScheduler, jobs: list[str]) -> list[JobState]:
    """How jobs end, in order."""
    states: list[JobState] = []

    def ended() -> bool:
        states[:] = scheduler.look(jobs).values()
        return all(state.phase is Phase.ENDED for state in states)

    wait_until(ended)
    return states


def lives(file: Path) -> list[int]:
    """Where each life of a counting job began."""
    return [int(line.split()[0]) for line in Path(f"{file}.lives").read_text().splitlines()]


def child(file: Path) -> int:
    """The process that counts."""
    return int(Path(f"{file}.lives").read_text().split()[-1])


def counted(file: Path) -> int:
    return int(file.read_text()) if file.exists() else 0


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def lives_on(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_an_array_gives_exit_codes_in_order(scheduler: SlurmScheduler) -> None:
    codes = [0, 1, 2, 130, 0]
    scheduler.check([Needs(1)])
    jobs = scheduler.submit([exits(code) for code in codes])
    assert len({job.split("_")[0] for job in jobs}) == 1, "one array"
    states = ends(scheduler, jobs)
    assert [state.exit_code for state in states] == codes
    assert all(state.node in NODES and state.lack is None and state.error is None for state in states)


def test_jobs_of_other_needs_are_arrays_of_their_own(
    scheduler: SlurmScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALING_TEST", "from the driver")
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # as in a job of its own
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "999999999")
    names = ("SCALING_TEST", "SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_NODE", "RANK")
    code = f"import os, sys; open(sys.argv[1], 'w').write(repr([os.environ.get(name) for name in {names}]))"
    needs = [Needs(1), Needs(2, gpus=1, memory_bytes=2**30), Needs(1)]
    assert scheduler.has_gpus
    scheduler.check(needs)
    jobs = scheduler.submit([request("-c", code, str(tmp_path / str(n)), needs=need) for n, need in enumerate(needs)])
    assert [state.exit_code for state in ends(scheduler, jobs)] == [0, 0, 0]
    assert jobs[0].split("_")[0] == jobs[2].split("_")[0] != jobs[1]
    told = [eval((tmp_path / str(number)).read_text()) for number in range(3)]
    assert told[0] == told[2] == ["from the driver", "1", None, None, None]
    assert told[1] == ["from the driver", "2", "1", "1024", None]


def test_a_job_longer_than_its_time_goes_on_in_further_lives(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    jobs = scheduler.submit([counts(file, 170, needs=Needs(1, seconds=60))])
    assert [state.exit_code for state in ends(scheduler, jobs)] == [0]
    begun = lives(file)
    assert len(begun) >= 3
    assert begun == sorted(set(begun)), "each life goes on from the last"
    assert counted(file) == 170


def test_a_job_that_cannot_save_in_time_has_too_little_of_it(scheduler: SlurmScheduler) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    (state,) = ends(scheduler, scheduler.submit([request("-c", code, needs=Needs(1, seconds=60))]))
    assert state.lack is Lack.TIME
    assert state.exit_code is None
    assert state.error == "Slurm: TIMEOUT (TimeLimit)"


def test_a_killed_job_is_seen_and_leaves_no_child(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    jobs = scheduler.submit([counts(file, 1000)])
    wait_until(lambda: counted(file) > 0)
    counting = child(file)
    os.kill(parent_of(counting), signal.SIGKILL)
    (state,) = ends(scheduler, jobs)
    assert state.lack is Lack.NODE
    assert state.exit_code is None
    assert "left no exit code; see " in (state.error or "")
    wait_until(lambda: not lives_on(counting))


def test_a_killed_command_is_told_from_one_that_failed(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    jobs = scheduler.submit([counts(file, 1000)])
    wait_until(lambda: counted(file) > 0)
    os.kill(child(file), signal.SIGKILL)
    assert ends(scheduler, jobs) == [JobState(Phase.ENDED, exit_code=137, error="killed by signal 9", node=NODES[0])]


def test_what_is_cancelled_saves_or_never_begins(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(2 * CPUS + 2)]
    jobs = scheduler.submit([counts(file, 1000, needs=Needs(1, memory_bytes=2**20)) for file in files])
    begun = range(2 * CPUS)
    wait_until(lambda: all(counted(files[number]) for number in begun))
    last = tmp_path / "last"
    another = scheduler.submit([counts(last, 1), counts(last, 1)])
    scheduler.cancel(another[1:])
    states = list(scheduler.look(jobs).values())
    assert [state.phase for state in states[-2:]] == [Phase.QUEUED, Phase.QUEUED]
    assert {state.error for state in states[-2:]} <= {"Resources", "Priority"}
    scheduler.cancel(jobs)
    states = ends(scheduler, jobs)
    assert [state.exit_code for state in states] == [*(130 for _ in begun), None, None]
    gone = "it left Slurm's queue before it began (cancelled?)"
    assert {state.error for state in states[-2:]} <= {"Slurm: CANCELLED", gone}
    assert all(len(lives(files[number])) == 1 for number in begun), "none was requeued"
    assert not files[-1].exists()
    assert [state.exit_code for state in ends(scheduler, another)] == [0, None]
    assert lives(last) == [0], "only the second of the waiting array was taken away"
    assert not slurm("squeue", "-h")


def test_what_somebody_cancels_is_not_begun_again(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    (job,) = scheduler.submit([counts(file, 1000)])
    wait_until(lambda: counted(file) > 0)
    slurm("scancel", job)
    assert ends(scheduler, [job])[0].error == "Slurm: CANCELLED"
    wait_until(lambda: not slurm("squeue", "-h"))
    assert len(lives(file)) == 1


def test_a_preempted_job_goes_on_when_there_is_room(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    jobs = scheduler.submit([counts(file, 60)])
    wait_until(lambda: counted(file) > 3)
    slurm("sbatch", "-p", "urgent", "-N2", "-c", str(CPUS), "-o", "/dev/null", "--wrap", "sleep 1")
    assert [state.exit_code for state in ends(scheduler, jobs)] == [0]
    assert len(lives(file)) == 2
    assert lives(file)[1] > 3
    assert counted(file) == 60


def test_jobs_after_others_begin_when_those_ended_well(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    file = tmp_path / "count"
    (good,) = scheduler.submit([counts(file, 3)])
    (bad,) = scheduler.submit([exits(1)])
    code = "import sys; assert open(sys.argv[1]).read() == '3'"
    (follows,) = scheduler.submit([request("-c", code, str(file), after=good)])
    (chain,) = scheduler.submit([exits(0, after=follows)])
    (never,) = scheduler.submit([exits(0, after=bad)])
    states = ends(scheduler, [good, bad, follows, chain, never])
    assert [state.exit_code for state in states] == [0, 1, 0, 0, None]
    assert states[-1].error == "Slurm: CANCELLED (DependencyNeverSatisfied)"


def test_another_process_sees_how_jobs_ended(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    running = scheduler.submit([counts(tmp_path / "count", 1000)])
    ended = scheduler.submit([exits(0), exits(3)])
    ends(scheduler, ended)
    code = f"""
from pathlib import Path
from scaling.grid.engines.slurm import SlurmScheduler
states = SlurmScheduler(Path({str(tmp_path / "jobs")!r}), "test").look({[*running, *ended]!r})
print([(state.phase.value, state.exit_code) for state in states.values()])
"""
    wait_until(lambda: (tmp_path / "count").exists())
    assert slurm(sys.executable, "-c", code).strip() == "[('running', None), ('ended', 0), ('ended', 3)]"
    scheduler.cancel(running)
    ends(scheduler, running)


def test_jobs_that_nobody_noted_are_found_with_their_commands(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    noted = scheduler.submit([counts(tmp_path / "noted", 1000)])
    wanted = counts(tmp_path / "count", 1000)
    jobs = scheduler.submit([wanted, wanted])
    SlurmScheduler(tmp_path / "other run", "test").submit([exits(0)])
    (half,) = scheduler.submit([counts(tmp_path / "half", 1000)])
    (tmp_path / "jobs" / f"{half}_submitted.pkl").unlink()  # as if killed before sbatch had answered
    again = SlurmScheduler(tmp_path / "jobs", "test")
    found = again.unnoted(noted)
    assert sorted(found) == sorted(jobs)
    assert {(each.arguments, each.needs) for each in found.values()} == {(wanted.arguments, wanted.needs)}
    again.cancel([*noted, *jobs])
    ends(again, [*noted, *jobs, half])
    assert again.unnoted(()) == {}


def test_two_nodes_train_together(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import os, socket, sys
import torch, torch.distributed as dist
def main():
    dist.init_process_group("gloo")
    total = torch.ones(1)
    dist.all_reduce(total)
    with open(f"{sys.argv[1]}.{dist.get_rank()}", "w") as file:
        print(int(total), socket.gethostname(), os.environ["LOCAL_RANK"], file=file)
    dist.destroy_process_group()
main()
""")
    needs = Needs(2, nodes=2, processes=2)
    scheduler.check([needs])
    (state,) = ends(scheduler, scheduler.submit([request(str(script), str(tmp_path / "rank"), needs=needs)]))
    assert state.exit_code == 0, [file.read_text() for file in (tmp_path / "jobs").glob("*.err")]
    ranks = sorted(file.read_text().split() for file in tmp_path.glob("rank.*"))
    assert ranks == sorted(["4", node, local] for node in NODES for local in "01")


@pytest.mark.parametrize(
    ("options", "needs", "message"),
    [
        ({"partition": "cii"}, Needs(1), "--partition cii: Slurm has no such partition; did you mean 'ci'?"),
        ({"account": "nobody"}, Needs(1), "(--nodes 1 --account nobody): allocation failure: Invalid account"),
        ({"qos": "best"}, Needs(1), "(--nodes 1 --qos best): allocation failure: Invalid qos"),
        ({"constraint": "a100"}, Needs(1), "(--nodes 1 --constraint a100): allocation failure: Invalid feature"),
        ({"extra": {"colour": "red"}}, Needs(1), "sbatch: unrecognized option '--colour=red'"),
        ({"extra": {"signal": "TERM@5"}}, Needs(1), "--sbatch signal: this is set by scaling itself"),
        ({}, Needs(CPUS + 1), f"no node of Slurm's partition ci has {CPUS + 1} CPUs, 0 GPUs\nthey have: {CPUS} CPUs,"),
        ({}, Needs(1, gpus=GPUS + 1), f"ci has 1 CPUs, {GPUS + 1} GPUs\n"),
        ({}, Needs(1, memory_bytes=2**40), "ci has 1 CPUs, 0 GPUs, 1.02e+03 GiB\n"),
        ({}, Needs(1, nodes=3), "(--nodes 3): allocation failure: Requested node configuration is not available"),
        (
            {"partition": "short"},
            Needs(1, seconds=121),
            "--time 0:03:00: Slurm's partition short ends jobs after 0:02:",
        ),
        ({}, Needs(1, seconds=70), "--time 0:02:00 is too short: Slurm asks jobs to save 65 s before it is over"),
    ],
)
def test_what_slurm_cannot_run_is_refused_in_a_line_or_two(
    options: dict[str, Any], needs: Needs, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ScalingError) as caught:
        SlurmScheduler(tmp_path / "jobs", "test", grace_seconds=60, **options).check([needs])
    assert message in str(caught.value)
    assert str(caught.value).count("\n") < 3
    assert not list(tmp_path.iterdir())
    assert not slurm("squeue", "-h")


def test_places_that_exist_are_used(tmp_path: Path) -> None:
    extra = {"comment": "two words", "exclusive": ""}
    scheduler = SlurmScheduler(tmp_path, "named", partition="short", account=ACCOUNT, qos="normal", extra=extra)
    scheduler.check([Needs(1, seconds=90)])
    assert scheduler.longest_seconds == 120
    (job,) = scheduler.submit([exits(0)])
    assert [state.exit_code for state in ends(scheduler, [job])] == [0]
    told = slurm("scontrol", "show", "job", job)
    for words in ("JobName=named", f"Account={ACCOUNT}", "QOS=normal", "Partition=short", "Comment=two words"):
        assert words in told
    assert "OverSubscribe=NO" in told


def test_jobs_of_a_lost_node_go_on_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "count"
    with slurm_server() as folder:
        scheduler = SlurmScheduler(tmp_path / "jobs", "test")
        jobs = scheduler.submit([counts(file, 40)])
        wait_until(lambda: counted(file) > 3)
        node = scheduler.look(jobs)[jobs[0]].node
        assert node in NODES
        lose_node(folder, node)
        (state,) = ends(scheduler, jobs)
        assert state.exit_code == 0
        assert state.node in {*NODES} - {node}
    assert len(lives(file)) == 2
    assert lives(file)[1] > 3


def test_jobs_are_submitted_when_the_controller_is_back(tmp_path: Path) -> None:
    with slurm_server() as folder:
        scheduler = SlurmScheduler(tmp_path / "jobs", "test")
        ends(scheduler, scheduler.submit([exits(0)]))
        controller = int((folder / "slurmctld.pid").read_text())
        os.kill(controller, signal.SIGTERM)
        wait_until(lambda: subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode != 0)
        command = f"sleep 15; exec slurmctld -D -f {folder}/slurm.conf"
        with subprocess.Popen(["sh", "-c", command]) as again:
            jobs = scheduler.submit([exits(3), exits(4)])
            assert [state.exit_code for state in ends(scheduler, jobs)] == [3, 4]
            again.terminate()


def test_without_accounting_what_jobs_left_tells(tmp_path: Path) -> None:
    file = tmp_path / "count"
    with slurm_server(accounting=False, remember_seconds=2):
        scheduler = SlurmScheduler(tmp_path / "jobs", "test", grace_seconds=5)
        jobs = scheduler.submit([exits(0), exits(3), counts(file, 1000), counts(tmp_path / "waits", 1000)])
        (never,) = scheduler.submit([exits(0, after=jobs[3])])
        wait_until(lambda: counted(file) > 0)
        os.kill(parent_of(child(file)), signal.SIGKILL)
        slurm("scancel", never)
        wait_until(lambda: slurm("squeue", "-h", "-r", "-t", "all", "-o", "%i").split() == [jobs[3]])  # forgotten
        states = ends(scheduler, [*jobs[:3], never])
        assert [state.exit_code for state in states] == [0, 3, None, None]
        assert states[2].lack is Lack.NODE
        assert states[3] == JobState(Phase.ENDED, error="it left Slurm's queue before it began (cancelled?)")
        assert scheduler.look(jobs[3:])[jobs[3]].phase is Phase.RUNNING


def test_of_what_slurm_refuses_nothing_is_left_in_the_queue(scheduler: SlurmScheduler) -> None:
    with pytest.raises(ScalingError, match=r"^sbatch: .*Requested node configuration is not available"):
        scheduler.submit([request("-c", "import time; time.sleep(1000)"), request("-c", "", needs=Needs(CPUS + 1))])
    wait_until(lambda: not slurm("squeue", "-h"))


def test_more_jobs_than_an_array_may_have(scheduler: SlurmScheduler, tmp_path: Path) -> None:
    jobs = scheduler.submit([counts(tmp_path / "never", 1, needs=Needs(1))] * 1002)
    assert len({job.split("_")[0] for job in jobs}) == 2
    assert len(set(jobs)) == 1002
    assert {state.phase for state in scheduler.look(jobs).values()} <= set(Phase)
    slurm("scancel", "-u", "root")
    wait_until(lambda: not slurm("squeue", "-h"))
