"""No figure and no table fails on odd records: each is drawn, or says what it lacks."""

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling import figure
from scaling.errors import ScalingError
from scaling.figures import FIGURES
from scaling.figures.tables import paper_table
from tests.decisions.test_compare import grid, steep_patch

ODD: dict[str, dict[str, Any]] = {
    "zero losses": {"test_loss": 0.0},
    "one zero loss": {"test_loss": [0.0, 0.5, 0.4, 0.6, 0.7]},
    "negative losses": {"test_loss": -1.0},
    "no losses": {"test_loss": np.nan},
    "certain": {"accuracy": 1.0},
    "never right": {"accuracy": 0.0},
    "no patch in one row": {"patch_size": [8, 4, np.nan, 8, 8]},
    "no designs": {"design": None},
    "no architectures": {"architecture": None},
    "all out of memory": {"status": "oom", "test_loss": np.nan},
    "free names": {"design": ["a", "b", "c", "d", "e"]},
    "free sizes": {"size": ["one", "one", "one", "two", "three"]},
    "no costs": {"training_flops_per_image": np.nan, "activation_bytes_per_image": np.nan},
    "infinite costs": {"training_flops_per_image": np.inf},
    "equal costs": {"training_flops_per_image": 1.0, "activation_bytes_per_image": 1.0, "training_seconds": 1.0},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_records_are_drawn_or_refused(name: str) -> None:
    records = grid(steep_patch).assign(**ODD[name])
    for drawn in FIGURES:
        with suppress(ScalingError):  # what it lacks is said in its own tests
            figure(records, drawn)
    for number in range(1, 8):
        with suppress(ScalingError):  # what it lacks is said in its own tests
            paper_table(records, number)


def test_many_sizes_share_the_marks() -> None:
    rows = pd.concat(
        [grid(steep_patch).assign(size=f"{64 * width}x{2}") for width in range(1, 12)], ignore_index=True
    ).assign(parameters=lambda table: table["size"].str.split("x").str[0].astype(float))
    for drawn in FIGURES:
        with suppress(ScalingError):  # what it lacks is said in its own tests
            figure(rows, drawn)
