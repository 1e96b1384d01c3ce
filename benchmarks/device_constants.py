"""Fit the roofline's constants of the devices with published times; prints their tables for hardware.toml.

python -m benchmarks.device_constants
"""

from pathlib import Path

import pandas as pd

from scaling.cost import Constants, Execution, calibrate, read_measurements

DATA = Path(__file__).parent / "data"
SOURCES = {
    "a100-80gb": ("table6", Execution("fp16"), "Table 6 of the paper: 10 cells of DeiT-Base and Adventurer-Base"),
    "rtx-3090": ("rtx3090", None, "timm's training throughputs of 17 ViTs; boost clocks exceed the nominal"),
}


def fit(device: str) -> Constants:
    """Constants of a device from its published times."""
    file, execution, source = SOURCES[device]
    table = pd.read_csv(DATA / f"{file}.csv")
    return calibrate(read_measurements(table, device, execution=execution), source)


def as_toml(device: str, constants: Constants) -> str:
    """A table [DEVICE.efficiency]."""
    names = ("products", "attention", "scan", "bandwidth", "step_overhead_seconds")
    values = [f"{name} = {value:.4g}" for name, value in zip(names, constants.values, strict=True)]
    rows = ["  [" + ", ".join(f"{number:.6f}" for number in row) + "]," for row in constants.covariance]
    matrix = "\n".join(["covariance = [", *rows, "]"])
    return "\n".join([f"[{device}.efficiency]", *values, matrix, f'source = "{constants.source}"'])


if __name__ == "__main__":
    for device in SOURCES:
        print(as_toml(device, fit(device)), end="\n\n")
