"""What Slurm's words mean, and what a job does with signals; without a server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.errors import ScalingError
from scaling.grid.engines import slurm
from scaling.grid.engines.scheduler import JobState, Lack, Needs, Phase, Request
from scaling.grid.engines.slurm import SlurmScheduler, arrays
from scaling.grid.engines.slurm_state import (
    GONE,
    NEVER,
    Seen,
    elements,
    find,
    judge,
    read_accounts,
    read_nodes,
    read_queue,
    read_time,
    show_time,
)

ENDED = Phase.ENDED
PATIENCE_SECONDS = 60.0


@pytest.mark.parametrize(
    ("seen", "left", "state"),
    [
        (Seen("PENDING", "Resources"), None, JobState(Phase.QUEUED, error="Resources")),
        (Seen("PENDING", NEVER), None, JobState(ENDED, lack=Lack.START, error=f"Slurm: PENDING ({NEVER})")),
        (Seen("CANCELLED", NEVER), None, JobState(ENDED, lack=Lack.START, error=f"Slurm: CANCELLED ({NEVER})")),
        (Seen("RUNNING", None, "n1"), None, JobState(Phase.RUNNING, node="n1")),
        (Seen("COMPLETING", None, "n1"), 0, JobState(Phase.RUNNING, node="n1")),
        (Seen("COMPLETED", None, "n1"), None, JobState(ENDED, 0, node="n1")),
        (Seen("FAILED", "NonZeroExitCode", "n1"), 2, JobState(ENDED, 2, node="n1")),
        (Seen("FAILED"), -9, JobState(ENDED, exit_code=137, error="killed by signal 9")),
        (Seen("FAILED"), "ImportError: scaling", JobState(ENDED, error="ImportError: scaling")),
        (Seen("TIMEOUT", "TimeLimit"), None, JobState(ENDED, lack=Lack.TIME, error="Slurm: TIMEOUT (TimeLimit)")),
        (Seen("TIMEOUT", "TimeLimit"), 0, JobState(ENDED, 0)),
        (Seen("OUT_OF_MEMORY"), -9, JobState(ENDED, lack=Lack.MEMORY, error="Slurm: OUT_OF_MEMORY")),
        (Seen("OUT_OF_MEMORY"), None, JobState(ENDED, lack=Lack.MEMORY, error="Slurm: OUT_OF_MEMORY")),
        (Seen("NODE_FAIL"), None, JobState(ENDED, lack=Lack.NODE, error="Slurm: NODE_FAIL")),
        (Seen("PREEMPTED"), None, JobState(ENDED, lack=Lack.NODE, error="Slurm: PREEMPTED")),
        (Seen("CANCELLED", "Priority"), 130, JobState(ENDED, error="Slurm: CANCELLED")),
        (GONE, 130, JobState(ENDED, 130)),
    ],
)
def test_what_becomes_of_a_job(seen: Seen, left: int | str | None, state: JobState) -> None:
    judged = judge(seen, left)
    assert (judged.phase, judged.exit_code, judged.lack, judged.node) == (
        state.phase,
        state.exit_code,
        state.lack,
        state.node,
    )
    assert (judged.error or "").startswith(state.error or "none") or judged.error is state.error


def test_jobs_are_read_one_by_one() -> None:
    queue = read_queue(
        "7_0|RUNNING|None|n1\n7_[2-3,5%2]|PENDING|Resources|\n8|CANCELLED|Priority|\n9|FAILED|X|n[1-2]\n"
    )
    assert queue == {
        "7_0": Seen("RUNNING", None, "n1"),
        **dict.fromkeys(("7_2", "7_3", "7_5"), Seen("PENDING", "Resources")),
        "8": Seen("CANCELLED", "Priority"),
        "9": Seen("FAILED", "X", "n[1-2]"),
    }
    accounts = read_accounts(
        "7_0|CANCELLED by 0|None assigned\n7_1|TIMEOUT|n2\n8_1|COMPLETED|n1\n10|RUNNING|n1\n11|COMPLETED|n1\n"
    )
    assert accounts["7_0"] == Seen("CANCELLED")
    assert find("7_3", queue, accounts) == Seen("PENDING", "Resources")
    assert find("7_0", queue, accounts) == Seen("RUNNING", None, "n1"), "begun again"
    assert find("7_1", queue, accounts) == Seen("TIMEOUT", None, "n2")
    assert find("8_1", queue, accounts) == Seen("COMPLETED", None, "n1")
    assert find("8_4", queue, accounts) == Seen("CANCELLED", "Priority"), "an array that was taken away whole"
    assert find("10", queue, accounts) is GONE, "lost by the controller"
    assert find("11_1", queue, accounts) is GONE, "another job of its array ended well"
    assert elements("12") == ["12"]


def test_nodes_and_times_are_read() -> None:
    a, b, c = read_nodes(
        "ci*|4|4000|gpu:2|infinite\nbig|8+|9000+|gpu:a100:4(S:0-1),gpu:t4:1|1-02:03:04\nc|1|1|(null)|30:00\n"
    )
    assert (a.partition, a.is_default, a.cpus, a.memory_bytes, a.gpus, a.longest_seconds) == (
        *("ci", True, 4, 4000 * 2**20, 2),
        None,
    )
    assert (b.partition, b.is_default, b.cpus, b.gpus, b.longest_seconds) == ("big", False, 8, 5, 93784)
    assert (c.gpus, c.longest_seconds) == (0, 1800)
    for text in ("0:00:30", "2:00:00", "1-02:03:04"):
        seconds = read_time(text)
        assert seconds is not None
        assert show_time(seconds) == text


def test_jobs_of_equal_needs_go_together() -> None:
    small, large = Needs(1), Needs(2)
    kinds = [(small, None), (large, None), (small, None), (small, "7"), (small, None), (large, None)]
    requests = [Request(str(number), (), needs, after) for number, (needs, after) in enumerate(kinds)]
    assert arrays(requests, 1000) == [[0, 2, 4], [1, 5], [3]]
    assert arrays(requests, 2) == [[0, 2], [4], [1, 5], [3]]
    assert arrays([], 2) == []


def test_a_dry_run_shows_what_sbatch_would_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # without Slurm
    scheduler = SlurmScheduler(
        tmp_path / "jobs", "study", partition="gpu", extra={"exclusive": "", "gres_flags": "enforce-binding"}
    )
    needs = Needs(8, gpus=4, nodes=2, processes=4, memory_bytes=3 * 2**30 + 1, seconds=3601)
    requests = [Request("a", ("-m", "scaling", "x y"), needs), Request("b", ("-c", "1"), needs)]
    chain = [Request("c", ("-c", "2"), Needs(1), after="b"), Request("d", ("-c", "3"), Needs(1), after="c")]
    script = scheduler.dry_run([*requests, *chain])
    first, second, third = script.split("#!/bin/bash\n")[1:]
    options = {line.removeprefix("#SBATCH --") for line in first.splitlines() if line.startswith("#SBATCH")}
    wanted = "array=0-1%2 partition=gpu nodes=2 ntasks-per-node=1 cpus-per-task=8 gpus-per-node=4 mem=3073M time=61"
    assert options >= {*wanted.split(), "signal=USR1@30", "requeue", "exclusive", "gres-flags=enforce-binding"}
    assert "# JOB1_0: python -m scaling 'x y'\n# JOB1_1: python -c 1\n" in first
    assert "#SBATCH --dependency=afterok:JOB1_1\n" in second
    assert "# JOB2: python -c 2\n" in second
    assert "#SBATCH --dependency=afterok:JOB2\n" in third
    assert "--array" not in second
    assert "--time" not in second
    assert not list(tmp_path.iterdir())


def say(folder: Path, program: str, *lines: str) -> None:
    """A program of Slurm that says what is written here."""
    path = folder / program
    path.write_text("\n".join(["#!/bin/sh", f'echo {program} "$@" >> {folder}/asked', *lines]))
    path.chmod(0o755)


@pytest.mark.parametrize("answer", ["Unable to contact slurm controller (connect failure)", "Socket timed out on send"])
def test_jobs_are_submitted_again_when_the_controller_is_back(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(slurm, "SAY_AGAIN_SECONDS", 0.1)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    failed = f"echo sbatch: error: Batch job submission failed: '{answer}' >&2; exit 1"
    say(tmp_path, "scontrol", "echo MaxArraySize = 1001")
    say(tmp_path, "srun")
    say(tmp_path, "scancel")
    # What sbatch could not tell of has been queued all the same.
    say(tmp_path, "squeue", f'case "$*" in *%o) echo "6|{tmp_path}/jobs/one.sh";; *) echo "6|PENDING||";; esac')
    say(tmp_path, "sbatch", f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; {failed}; }}", "echo batch job 7")
    jobs = SlurmScheduler(tmp_path / "jobs", "test").submit([Request("a", ("-c", ""), Needs(1))])
    assert jobs == ["7"]
    assert "scancel 6" in (tmp_path / "asked").read_text()
    (tmp_path / "asked").unlink()
    say(tmp_path, "sbatch", failed.replace(answer, "Invalid account"))
    with pytest.raises(ScalingError, match=r"^sbatch: error: .*: Invalid account"):
        SlurmScheduler(tmp_path / "jobs", "test").submit([Request("a", ("-c", ""), Needs(1))])
    assert (tmp_path / "asked").read_text().count("sbatch") == 1


SUPERVISOR = """
import sys
from scaling.grid.engines.slurm_job import run_child
print(*run_child([sys.executable, "-c", sys.argv[1], *sys.argv[2:]]), sep="|")
"""
CHILD = """
import os, signal, sys, time
from pathlib import Path
log = Path(sys.argv[1])
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append("TERM"))
log.write_text(str(os.getpid()))
while not got:
    time.sleep(0.01)
time.sleep(0.5)
log.write_text(" ".join(got))
sys.exit(130)
"""


def supervise(log: Path) -> tuple["subprocess.Popen[str]", int]:
    command = [sys.executable, "-c", SUPERVISOR, CHILD, str(log)]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + PATIENCE_SECONDS
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return supervisor, int(log.read_text())


def test_a_job_asks_its_command_once_whatever_signals_the_job_gets(tmp_path: Path) -> None:
    supervisor, _child = supervise(tmp_path / "log")
    os.killpg(supervisor.pid, signal.SIGUSR1)  # every process of the job, as Slurm does
    os.killpg(supervisor.pid, signal.SIGUSR2)
    out, _ = supervisor.communicate(timeout=PATIENCE_SECONDS)
    assert (tmp_path / "log").read_text() == "TERM"
    code, signals = out.strip().split("|")
    assert code == "130"
    assert sorted(signals) == sorted(str([int(signal.SIGUSR1), int(signal.SIGUSR2)]))


def test_a_command_is_asked_to_stop_when_its_job_is_killed(tmp_path: Path) -> None:
    supervisor, child = supervise(tmp_path / "log")
    supervisor.kill()
    supervisor.communicate(timeout=PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    while (tmp_path / "log").read_text() != "TERM":
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):  # noqa: PT012
        while time.monotonic() < end:
            os.kill(child, 0)
            time.sleep(0.05)
