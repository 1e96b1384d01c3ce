"""Fit the roofline's constants of the devices with published times; prints their tables for hardware.toml.

python -m benchmarks.device_constants
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from scaling.cost import (
    Constants,
    Execution,
    Head,
    calibrate,
    cost_of,
    efficiency_toml,
    find_hardware,
    read_measurements,
)
from scaling.design import Design

DATA = Path(__file__).parent / "data"
FP16 = Execution("fp16")
TRAINING = {
    "a100-80gb": ("table6", FP16, "Table 6 of the paper: 10 cells of DeiT-Base and Adventurer-Base"),
    "rtx-3090": ("rtx3090", None, "timm's training throughputs of 17 ViTs; boost clocks exceed the nominal"),
}
INFERENCE = {"rtx-3090": "rtx3090_inference", "rtx-4090": "rtx4090_inference", "rtx-5090": "rtx5090_inference"}
FORWARD_PASSES = 2  # over what training would save: written, and read by the next operation


def fit(device: str) -> Constants:
    """Constants of a device from its published training times."""
    file, execution, source = TRAINING[device]
    table = pd.read_csv(DATA / f"{file}.csv")
    return calibrate(read_measurements(table, device, execution=execution), source)


def inference_shares(device: str) -> tuple[float, float, float]:
    """Shares of peak and bandwidth from published inference throughputs, and the relative scatter."""
    table, hardware = pd.read_csv(DATA / f"{INFERENCE[device]}.csv"), find_hardware(device)
    costs = [cost_of(Design.parse(name), Head(), FP16) for name in table["design"]]
    seconds = 1 / table["images_per_second"].to_numpy()
    products = [one.forward_flops_per_image / hardware.peak_flops["fp16"] for one in costs]
    traffic = [FORWARD_PASSES * one.activation_bytes_per_image / hardware.bandwidth_bytes_per_second for one in costs]
    parts = np.stack([products, traffic], axis=1) / seconds[:, None]
    inverse, _ = nnls(parts, np.ones(len(seconds)))
    return 1 / inverse[0], 1 / inverse[1], float(np.sqrt(np.mean((parts @ inverse - 1) ** 2)))


if __name__ == "__main__":
    for device in TRAINING:
        print(efficiency_toml(device, fit(device)).replace("[hardware.", "["), end="\n\n")
    for device in INFERENCE:
        peak, bandwidth, scatter = inference_shares(device)
        print(f"# {device}, inference: {peak:.2f} of peak, {bandwidth:.2f} of bandwidth, scatter {scatter:.1%}")
