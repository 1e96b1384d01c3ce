"""Shared fixtures: small studies that train in a second, and helpers to build them."""

from collections.abc import Iterator
from typing import Any

import pytest

from scaling.design import Study, build_study


def study_values(**changes: Any) -> dict[str, Any]:
    """Plain values of a small study; `changes` are dotted keys with '__' for the dot."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {"name": "digits", "task": "segmentation", "canvas": 16, "digits": 2, "clutter": 1, "test_images": 40},
        "grid": {
            "architectures": ["deit"],
            "sizes": ["nano"],
            "patch_sizes": [8, 4],
            "input_sizes": [16],
            "seeds": [0],
        },
        "recipe": {"steps": 6, "batch_size": 8, "learning_rate": 1e-3},
        "measure": {"log_every_steps": 2},
    }
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return values


def small_study(**changes: Any) -> Study:
    """A study that trains in about a second per cell."""
    return build_study(study_values(**changes))


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; a cell normally has a process of its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
