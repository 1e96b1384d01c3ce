"""Shared fixtures: small studies that train in a second, and helpers to build them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaling.cost import architectures
from scaling.design import Study, build_study, known_architectures

# Tests at once share the cores: threads that wait for others sleep, and do not take the cores those need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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


PLUGIN = """
from scaling.cost import find_backbone, register_architecture
from scaling.design import Architecture, ModelSize

def register():
    sizes = {"one": ModelSize(64, 2, 256, 1)}
    register_architecture("twin", Architecture(lambda width, depth: ModelSize(width, depth, 4 * width, 1), sizes),
                          find_backbone("deit"))

def broken():
    raise RuntimeError("no luck")
"""


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an architecture 'twin' that has costs and no model, and a broken one 'bad'."""
    (tmp_path / "twins.py").write_text(PLUGIN)
    info = tmp_path / "twins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: twins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scaling.architectures]\ntwin = twins:register\nbad = twins:broken\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("scaling.design.architectures._ARCHITECTURES", dict(known_architectures()))
    monkeypatch.setattr("scaling.cost.architectures._BACKBONES", dict(architectures._BACKBONES))


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; a cell normally has a process of its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
