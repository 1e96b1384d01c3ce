"""What tests of the driver share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.grid.engines import remote
from tests.engines.bench import Bench, study


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(remote, "LOOK_SECONDS", 0.05)
    found = Bench(tmp_path, study())
    yield found
    found.scheduler.end()
