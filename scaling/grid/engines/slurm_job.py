"""What a job of Slurm runs: a command as a child process, which is asked to stop and goes on with its job.

Slurm signals every process of a job. So the command is started with these signals ignored, and one SIGTERM from here
asks it to stop, whoever asked:

- SIGUSR1 comes before the time limit. Once the command has saved, the job is requeued, and its next life goes on.
- SIGTERM comes when Slurm preempts, and when somebody cancels. Only a preempted job still counts as running; it is
  requeued too, since Slurm does so only with jobs that it has to kill.
- SIGUSR2 comes from our driver: save, and end.
"""

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from scaling.grid.engines.scheduler import Needs
from scaling.grid.engines.supervisor import PR_SET_PDEATHSIG, libc

if TYPE_CHECKING:
    from submitit import JobEnvironment

BEFORE_THE_LIMIT = signal.SIGUSR1
FOR_GOOD = signal.SIGUSR2


@dataclass(frozen=True, slots=True)
class Command:
    """A request's command; one task of a job for each node. Called by submitit."""

    arguments: tuple[str, ...]
    """What follows `python`."""
    needs: Needs

    def __call__(self) -> int:
        """Run it and return 0, or leave its exit code where submitit looks for results and end with it.

        Submitit lets a job end well whatever its function returns, and the jobs after it would begin.
        """
        from submitit import JobEnvironment
        from submitit.core.utils import cloudpickle_dump, temporary_save_path

        job = JobEnvironment()
        code, asked = run_child(self._line(job))
        if job.global_rank or not code:  # the first node speaks for all
            return code
        if asked and FOR_GOOD not in asked and _requeue(job.job_id):
            sys.exit(code)
        with temporary_save_path(job.paths.result_pickle) as path:
            cloudpickle_dump(("success", code), path)
        sys.exit(code if code > 0 else 128 - code)

    def _line(self, job: "JobEnvironment") -> list[str]:
        if self.needs.nodes == 1:
            return [sys.executable, *self.arguments]
        from submitit.helpers import TorchDistributedEnvironment

        first = TorchDistributedEnvironment()
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first.master_addr}:{first.master_port}"]
        size = ["--nnodes", str(self.needs.nodes), "--nproc-per-node", str(self.needs.processes)]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *size, *meeting, "--rdzv-id", job.job_id]
        return [*torchrun, *self.arguments]


def run_child(line: list[str]) -> tuple[int, list[int]]:
    """Run a command that gets one SIGTERM when this process is asked to stop, and when it dies.

    Returns:
        Its exit code, minus a signal where that ended it, and the signals that came meanwhile.
    """
    child: subprocess.Popen[bytes] | None = None
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if child is not None and len(asked) == 1:
            child.terminate()

    for number in (BEFORE_THE_LIMIT, FOR_GOOD, signal.SIGTERM):
        signal.signal(number, stop)
    control = libc().prctl  # looked up before the fork

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (BEFORE_THE_LIMIT, FOR_GOOD):
            signal.signal(number, signal.SIG_IGN)
        control(PR_SET_PDEATHSIG, signal.SIGTERM)

    child = subprocess.Popen(line, preexec_fn=prepare)
    if asked:
        child.terminate()
    return child.wait(), asked


def _requeue(job: str) -> bool:
    """Whether Slurm begins this job again; not where it ends it just now."""
    if shutil.which("squeue") is None:
        return False
    state = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False)
    return (
        state.stdout.strip() == "RUNNING" and not subprocess.run(["scontrol", "requeue", job], check=False).returncode
    )
