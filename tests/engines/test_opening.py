"""From a cluster to an engine: what keeps a driver from its run directory is told in a line or two."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from scaling.errors import ScalingError
from scaling.grid import Cluster, Conduct
from scaling.grid.engines import probe
from scaling.grid.engines.opening import open_remote
from scaling.records import RunDirectory
from tests.conftest import small_study
from tests.engines.processes import Processes

pytest.importorskip("submitit")
STUDY = small_study(grid__patch_sizes=[8])


@dataclass(frozen=True)
class Here(Cluster):
    """A cluster of processes."""

    processes: ClassVar[Processes]

    def connect(self, folder: Path, name: str, grace_seconds: float) -> Processes:
        del folder, name, grace_seconds
        return self.processes


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(probe, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(Here, "processes", Processes(), raising=False)
    yield Here("slurm")
    Here.processes.end()


def drive(cluster: Cluster, run: Path) -> None:
    arguments = (cluster, STUDY, RunDirectory(run), "cpu", None, None, Conduct(), lambda _: None)
    with open_remote(*arguments) as (engine, jobs):
        engine.adopt(jobs)


@pytest.mark.parametrize(
    ("path", "is_folder"),
    [("engines", False), ("engines/slurm/probe-answer.json", True), ("engines/slurm/jobs.jsonl", True)],
)
def test_a_run_directory_that_is_out_of_order_is_told_as_what_it_is(
    here: Here, tmp_path: Path, path: str, is_folder: bool
) -> None:
    out_of_order = tmp_path / "run" / path
    out_of_order.parent.mkdir(parents=True)
    out_of_order.mkdir() if is_folder else out_of_order.touch()
    with pytest.raises(ScalingError) as caught:
        drive(here, tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path}/run/engines")
    assert str(caught.value).endswith("run the same command again")
    assert str(caught.value).count("\n") < 3
