"""A job that tells where jobs run: whether they see the run directory, on which device, and by which clock.

`python -m scaling.grid.engines.probe FOLDER DEVICE SECONDS` answers the question that a driver left in FOLDER; it waits
so long until it is seen there.
"""

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from scaling.errors import ScalingError
from scaling.grid.devices import Device, find_device
from scaling.grid.engines.scheduler import JobState, Needs, Phase, Request, Scheduler
from scaling.grid.leases import file_system_time
from scaling.grid.stopping import StoppedError, Stopping
from scaling.records import write_whole

QUESTION, ANSWER = "probe.json", "probe-answer.json"
NOT_VISIBLE = 66  # exit code of a probe that does not find its question
LOOK_SECONDS = 0.5
SILENT_SECONDS = 20.0  # for which a file may take to be seen by other machines


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found."""

    token: str
    """Of the question; it names the cluster too, so that the answer can be used again."""
    host: str
    time: float
    """Of the clock there."""
    file_system_time: float
    version: str
    device: Device


def main() -> None:
    """Answer, in a job."""
    folder, kind, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    question = folder / QUESTION
    end = time.monotonic() + seconds
    while not question.is_file():
        if time.monotonic() > end:
            sys.exit(NOT_VISIBLE)
        time.sleep(LOOK_SECONDS)
    token = json.loads(question.read_text(encoding="utf-8"))["token"]
    now, theirs = time.time(), file_system_time(folder)
    try:
        device = find_device(kind)
    except ScalingError as error:
        sys.exit(str(error))
    answer = Answer(token, socket.gethostname(), now, theirs, version("patch-scaling"), device)
    write_whole(folder / ANSWER, json.dumps(asdict(answer)) + "\n")


def probe(
    scheduler: Scheduler, folder: Path, needs: Needs, kind: str, about: str, tell: Callable[[str], None]
) -> Answer:
    """What a job finds; the one that an earlier driver asked, if that was about the same, else a new one.

    Args:
        scheduler: of the job.
        folder: in the run directory.
        needs: of the job; those of a cell, so that it comes to the same kind of machine.
        kind: of the device that cells run on there, 'cpu' or 'cuda'.
        about: the cluster and how jobs are submitted.
        tell: called with a line whenever the job's state changes, since it may wait in a queue.

    Raises:
        ScalingError: if the run directory is not seen there, or the job fails.
        StoppedError: when this process is asked to stop.
    """
    if (known := last_answer(folder, about, kind)) is not None:
        return known
    token = f"{_topic(about, kind)} {uuid.uuid4().hex}"
    (folder / ANSWER).unlink(missing_ok=True)
    write_whole(folder / QUESTION, json.dumps({"token": token}) + "\n")
    arguments = ("-m", "scaling.grid.engines.probe", str(folder.resolve()), kind, str(SILENT_SECONDS))
    with Stopping() as stopping:
        (job,) = scheduler.submit([Request("probe", arguments, needs)])
        try:
            state = _wait(scheduler, job, stopping, tell)
        except BaseException:
            scheduler.cancel([job])
            raise
    return _checked(_answer(folder, token, state), state, folder, job)


def _wait(scheduler: Scheduler, job: str, stopping: Stopping, tell: Callable[[str], None]) -> JobState:
    """How a job ended."""
    said = None
    while (state := scheduler.look([job])[job]).phase is not Phase.ENDED:
        if stopping.asked is not None:
            raise StoppedError(
                f"stopped by {stopping.asked} before any cell was submitted; probe job {job} is cancelled"
            )
        if said != (said := f"probe job {job}: {state.phase}" + (f" ({state.error})" if state.error else "")):
            tell(said)
        time.sleep(LOOK_SECONDS)
    return state


def last_answer(folder: Path, about: str, kind: str) -> Answer | None:
    """What the last probe found, if it was asked the same from the same Python environment."""
    known = _read(folder)
    return known if known is not None and known.token.startswith(f"{_topic(about, kind)} ") else None


def _topic(about: str, kind: str) -> str:
    return f"{about} {kind} {version('patch-scaling')} {sys.executable}"


def check_clock(answer: Answer, allowed_seconds: float) -> None:
    """Raise ScalingError where the clock of a job's machine is far from that of the file system."""
    ahead = answer.time - answer.file_system_time
    if abs(ahead) > allowed_seconds:
        raise ScalingError(
            f"the clock of {answer.host} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            f"the file system's, more than --dead-after {allowed_seconds:g}; set the clocks (NTP)"
        )


def _answer(folder: Path, token: str, state: JobState) -> Answer | None:
    """What the probe wrote; a file system may need a while to show it."""
    end = time.monotonic() + (SILENT_SECONDS if state.exit_code == 0 else 0.0)
    while (answer := _read(folder)) is None or answer.token != token:
        if time.monotonic() > end:
            return None
        os.scandir(folder).close()  # makes network file systems look afresh
        time.sleep(LOOK_SECONDS)
    return answer


def _read(folder: Path) -> Answer | None:
    try:
        values = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        return Answer(**values | {"device": Device(**values["device"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checked(answer: Answer | None, state: JobState, folder: Path, job: str) -> Answer:
    where = f" on {state.node}" if state.node else ""
    if answer is not None:
        return answer
    if state.exit_code in (0, NOT_VISIBLE):
        raise ScalingError(
            f"the probe job {job}{where} does not see {folder.parent.parent};\n"
            "put the run directory on a file system that all nodes share (--out)"
        )
    told = state.error or f"exit code {state.exit_code}"
    raise ScalingError(
        f"the probe job {job}{where} failed: {told};\n"
        f"it needs {sys.executable} with scaling in it, the run directory and, with --device cuda, a GPU there"
    )


if __name__ == "__main__":
    main()
