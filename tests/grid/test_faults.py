"""The fault campaign of benchmarks/faults.py, as a test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS, Outcome


@pytest.mark.slow
@pytest.mark.parametrize("inject", FAULTS)
def test_no_fault_costs_a_record_or_hides_a_status(inject: Callable[[Path], Outcome], tmp_path: Path) -> None:
    found = inject(tmp_path)
    assert found.broken_rules == ()
    assert found.finished == found.cells
