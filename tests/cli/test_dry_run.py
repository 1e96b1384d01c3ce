"""What `run-grid --dry-run` says of a device that this machine may not have."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scaling.cli.app import app
from scaling.grid import Device


def test_on_a_gpu_the_estimate_has_not_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run-grid", "digits-quick", "--dry-run", "--out", str(tmp_path / "run")]
    for kind, said in (("cpu", False), ("cuda", True)):
        monkeypatch.setattr("scaling.grid.find_device", lambda choice, kind=kind: Device(kind, 1, 8 << 30))
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert ("the probe before each cell decides" in " ".join(result.output.split())) is said
