"""What a driver learns before it submits anything."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.errors import ScalingError
from scaling.grid.devices import Device
from scaling.grid.engines import probe as probing
from scaling.grid.engines.probe import Answer, check_clock, probe
from scaling.grid.engines.scheduler import Needs, Request
from scaling.grid.stopping import StoppedError
from tests.engines.processes import Processes

ONE = Needs(cpus=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(probing, "LOOK_SECONDS", 0.05)
    path = tmp_path / "run" / "engines" / "x"
    path.mkdir(parents=True)
    return path


class Elsewhere(Processes):
    """Jobs that see another folder where the run directory should be, or another Python."""

    def __init__(self, **replaced: str) -> None:
        super().__init__()
        self._replaced = replaced

    def submit(self, requests: Sequence[Request]) -> list[str]:
        changed = [tuple(self._replaced.get(Path(each).name, each) for each in one.arguments) for one in requests]
        return super().submit([replace(one, arguments=each) for one, each in zip(requests, changed, strict=True)])


@pytest.fixture
def here() -> Iterator[Processes]:
    scheduler = Processes()
    yield scheduler
    scheduler.end()


def test_a_probe_tells_what_jobs_have_and_is_asked_once(here: Processes, folder: Path) -> None:
    said: list[str] = []
    answer = probe(here, folder, ONE, "cpu", "a cluster", said.append)
    assert answer.device.kind == "cpu"
    assert answer.device.count >= 1
    assert abs(answer.time - answer.file_system_time) < 5
    assert any("probe job 0: running" in line for line in said)
    assert probe(here, folder, ONE, "cpu", "a cluster", said.append) == answer
    assert len(here.requests) == 1
    probe(here, folder, ONE, "cpu", "another cluster", said.append)
    assert len(here.requests) == 2


def test_a_run_directory_that_jobs_do_not_see_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Elsewhere(x=str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(probing, "SILENT_SECONDS", 0.2)
    with pytest.raises(ScalingError, match="does not see") as error:
        probe(scheduler, folder, ONE, "cpu", "a cluster", lambda _: None)
    assert str(folder.parent.parent) in str(error.value)
    assert "--out" in str(error.value)


def test_a_probe_that_fails_says_what_it_needs(folder: Path) -> None:
    scheduler = Elsewhere(**{"scaling.grid.engines.probe": "scaling.no_such_module"})
    with pytest.raises(ScalingError, match="failed: exit code 1") as error:
        probe(scheduler, folder, ONE, "cpu", "a cluster", lambda _: None)
    assert "with scaling in it" in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_who_is_stopped_while_a_probe_waits_takes_it_away(number: int, here: Processes, folder: Path) -> None:
    here.room = 0
    with pytest.raises(StoppedError, match=f"stopped by {signal.Signals(number).name}.*probe job 0 is cancelled"):
        probe(here, folder, ONE, "cpu", "a cluster", lambda _: os.kill(os.getpid(), number))
    assert here.cancelled == ["0"]


@pytest.mark.parametrize(("ahead", "told"), [(300.0, "300 s ahead of"), (-90.0, "90 s behind")])
def test_clocks_that_disagree_are_told(ahead: float, told: str) -> None:
    answer = Answer("", "node7", 1000.0 + ahead, 1000.0, "0", Device("cpu", 1, 1))
    with pytest.raises(ScalingError, match=told):
        check_clock(answer, 60.0)
    check_clock(answer, 301.0)
