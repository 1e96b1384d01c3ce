"""`scaling measure` on this machine: memory against the closed form, and hours before and after calibration.

python -m benchmarks.measure      # on the CPU or the CUDA device that is there; rewrites its own page

On CUDA the designs of the paper's Table 6, DeiT-Base and Adventurer-Base, in bf16; on a CPU nano and micro models. The
designs of the finest patch are estimated from the others' times, with constants that never saw them.
"""

import argparse
import os

import pandas as pd
import torch

from benchmarks.pages import Table, write_page
from scaling.cli.output import amount, size
from scaling.cost import Measurement, calibrate, constants_of, find_hardware, read_measurements
from scaling.design import Hardware, expand_designs
from scaling.grid.measuring import Measured, measuring

DESIGNS = {
    "cpu": ["deit-micro/{16,8,4}@64", "adventurer-nano/{16,8,4}@64"],
    "cuda": ["{deit,adventurer}-base/{16,8,4}@224"],
}
FINEST = "/4@"
SHIPPED_CORES = 64  # of the estimator's 'cpu'
STEPS = {"cpu": 20, "cuda": 10}


def ratio(one: Measurement, constants: object) -> str:
    return f"{one.predicted(constants) / one.seconds_per_image:.3f}"  # pyright: ignore[reportArgumentType]


def speeds(rows: list[Measured]) -> Table:
    lines = [
        (
            row.design,
            str(row.micro_batch_size or "-"),
            f"{amount(row.images_per_second)} [{amount(row.images_per_second_low)}, "
            f"{amount(row.images_per_second_high)}]",
            "-" if row.flops_per_second is None else f"{row.flops_per_second / 1e12:.3g}",
            "-" if row.peak_share is None else f"{row.peak_share:.1%}",
            amount(row.device_hours_per_epoch),
            size(row.memory_bytes_per_image),
            "-" if row.memory_ratio is None else f"{row.memory_ratio:.3f}",
            size(row.peak_memory_bytes),
            row.error or row.status,
        )
        for row in rows
    ]
    columns = ("design", "images/step", "images/s [quartiles]", "TFLOP/s", "of peak", "hours/epoch", "memory/image")
    return "Measured", (*columns, "closed form / measured", "peak memory", "status"), lines


def estimates(rows: list[Measured], hardware: Hardware) -> Table:
    """Hours, estimated over measured: with the device's constants, and with those fitted to the coarser patches."""
    table = pd.DataFrame([row.to_json() for row in rows])
    table = table[table["status"] == "done"]
    finest = table["design"].str.contains(FINEST)
    before = constants_of(hardware)
    after = calibrate(read_measurements(table[~finest], hardware), "coarser patches")
    lines = [
        (one.name, ratio(one, before), ratio(one, after), "no" if FINEST in one.name else "yes")
        for one in read_measurements(table, hardware)
    ]
    return "Hours, estimated over measured", ("design", "before", "after calibration", "calibrated on it"), lines


def these_cores(threads: int) -> Hardware:
    """The processor that ships, cut down to the cores that were used: shares of all 64 would be far from any prior."""
    whole, share = find_hardware("cpu"), threads / SHIPPED_CORES
    rates = {precision: share * rate for precision, rate in whole.peak_flops.items()}
    bandwidth = share * whole.bandwidth_bytes_per_second
    return whole.model_copy(update={"peak_flops": rates, "bandwidth_bytes_per_second": bandwidth})


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser()
    parser.add_argument("--hardware", help="what the estimator takes a GPU for that it does not know")
    setting = measuring(
        device, steps=STEPS[device], classes=1000 if device == "cuda" else 10, hardware=parser.parse_args().hardware
    )
    rows = []
    for row in setting.rows(expand_designs(DESIGNS[device])):
        rows.append(row)
        print(row.design, row.status, amount(row.images_per_second), flush=True)
    hardware = setting.hardware if device == "cuda" else these_cores(rows[0].threads or 1)
    tables = [speeds(rows)] + ([estimates(rows, hardware)] if hardware else [])
    how = (
        "by the allocator"
        if device == "cuda"
        else f"counted; {rows[0].threads} thread(s); load {os.getloadavg()[1]:.0f}"
    )
    write_page("measure", f"Measuring on {device}, {setting.precision} (memory {how})", tables, device)


if __name__ == "__main__":
    main()
