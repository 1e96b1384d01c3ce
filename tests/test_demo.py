"""The main job, whole: what `make demo` promises."""

import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from scaling import fit_groups, load_records
from scaling.laws import FitResult


def halvings(records: pd.DataFrame) -> list[float]:
    """Ratio of mean test losses over seeds at half a patch size and at the whole, for each size and halving."""
    losses: dict[tuple[str, int], list[float]] = defaultdict(list)
    for size, patch, loss in zip(records["size"], records["patch_size"], records["test_loss"], strict=True):
        losses[size, patch].append(loss)
    means = {key: statistics.mean(values) for key, values in losses.items()}
    return [means[size, patch // 2] / mean for (size, patch), mean in means.items() if (size, patch / 2) in means]


@pytest.mark.slow
def test_the_demo_finds_that_loss_falls_with_the_patch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scaling", "run-grid", "digits-quick", "--device", "cpu"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    records = load_records(tmp_path / "runs" / "digits-quick")
    reference = load_records(Path(__file__).parents[1] / "runs" / "digits-quick")
    assert list(records["cell"]) == list(reference["cell"])
    for halved in halvings(records):
        assert halved < 0.95
    # Other processors round otherwise, and training amplifies it, but not to another result.
    assert list(records["test_loss"]) == pytest.approx(list(reference["test_loss"]), rel=0.15)
    for curve in fit_groups(records):
        assert isinstance(curve, FitResult)
        assert curve.parameters["b"].low > 0
