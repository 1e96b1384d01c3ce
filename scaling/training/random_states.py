"""All random states of a process, as plain values and tensors that load without running code.

Numpy's old global generator too, since libraries draw from it.
"""

import random
from typing import Any

import numpy as np
import torch


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, and on CUDA of the device's."""
    kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002  # pyright: ignore[reportAssignmentType]
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(place), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Go on drawing where the states were taken; without one of CUDA, its generator stays."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
