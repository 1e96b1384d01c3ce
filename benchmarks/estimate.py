"""Accuracy and speed of `scaling estimate`: against counts, the paper's Table 6, published throughputs.

python -m benchmarks.estimate      # three minutes on two cores; rewrites benchmarks/results/estimate.md
"""

import statistics
import subprocess
import sys

import numpy as np
import pandas as pd

from benchmarks.device_constants import DATA, fit
from benchmarks.pages import Table, python, seconds, write_page
from scaling import load_records
from scaling.cli.output import amount
from scaling.cost import Constants, Execution, Head, calibrate, constants_of, estimate, find_hardware, read_measurements
from scaling.design import Design
from scaling.training.check import check

FP16 = Execution("fp16")
SIZES, PATCHES = ("tiny", "small", "base", "large", "huge"), (16, 8, 4, 2, 1)
TABLE_6_MEMORY = (62, 252, 1024, 4057, 16118)  # MiB per image in ViT

MILLION = """
import time
import numpy as np
from benchmarks.peers import peak_mebibytes
from scaling.cost import estimate_arrays, shape_arrays
draw = np.random.default_rng(0)
width, depth = 64 * draw.integers(1, 40, 10**6), draw.integers(1, 48, 10**6)
patch_size = draw.choice([32, 16, 8, 4, 2, 1], 10**6)
started = time.perf_counter()
shape = shape_arrays("{architecture}", width=width, depth=depth, patch_size=patch_size, input_size=224)
found = estimate_arrays("{architecture}", shape)
taken = time.perf_counter() - started
print(taken, peak_mebibytes(), found.fits.sum())
"""


def hours(name: str, constants: Constants | None) -> tuple[float, float, float]:
    found = estimate(name, execution=FP16, constants=constants).gpu_hours_per_epoch
    assert found is not None
    return found.estimate, found.low, found.high


def table_6() -> Table:
    """Default constants, and constants that never saw patches 2 and 1."""
    table = pd.read_csv(DATA / "table6.csv")
    coarse = table[~table.design.str.contains("/2@|/1@")]
    held_out = calibrate(read_measurements(coarse, "a100-80gb", execution=FP16), "patch >= 4")
    rows, errors, blind = [], [], []
    for index, (name, measured) in enumerate(table.itertuples(index=False)):
        found = estimate(name, execution=FP16)
        placed = found.placement
        assert placed is not None
        estimated, low, high = hours(name, None)
        predicted, below, above = hours(name, held_out)
        errors.append(estimated / measured - 1)
        unseen = "/2@" in name or "/1@" in name
        blind += [predicted / measured - 1] if unseen else []
        memory = found.cost.activation_bytes_per_image / 2**20
        published = TABLE_6_MEMORY[index] if index < len(TABLE_6_MEMORY) else None
        rows.append(
            (
                name,
                f"{memory:,.1f}",
                f"{published:,} ({memory / published - 1:+.1%})" if published else "-",
                str(measured),
                f"{amount(estimated)} [{amount(low)}, {amount(high)}]",
                f"{errors[-1]:+.1%}",
                f"{amount(predicted)} [{amount(below)}, {amount(above)}], {predicted / measured - 1:+.1%}"
                if unseen
                else "used",
                f"{placed.min_nodes} ({placed.gpus // 8})",
            )
        )
    rows.append(("mean, largest error", "", "", "", "", f"{_size(errors)}", _size(blind), ""))
    columns = ("design", "MiB/image", "Table 6", "GPU-h/epoch, Table 6", "estimated [95 %]", "error")
    return "Table 6 of the paper (A100 80 GB, fp16, batch 1,024)", (*columns, "calibrated on patch >= 4", "nodes"), rows


def _size(errors: list[float]) -> str:
    return f"{np.mean(np.abs(errors)):.1%}, {np.max(np.abs(errors)):.1%}"


def other_devices() -> Table:
    """What was measured elsewhere, beside constants fitted to it or to nothing."""
    measured = read_measurements(pd.read_csv(DATA / "rtx3090.csv"), "rtx-3090")
    rows = []
    for name, constants in (("fitted to them", fit("rtx-3090")), ("generic", constants_of(find_hardware("h100")))):
        errors = [one.predicted(constants) / one.seconds_per_image - 1 for one in measured]
        rows.append((f"RTX 3090, 17 ViTs (timm), constants {name}", f"{np.mean(errors):+.1%}", _size(errors)))
    own = read_measurements(load_records("runs/digits-quick"), "cpu")
    errors = [one.predicted(constants) / one.seconds_per_image - 1 for constants in [calibrate(own, "")] for one in own]
    rows.append(
        ("two CPU cores, the 16 cells of digits-quick, calibrated on them", f"{np.mean(errors):+.1%}", _size(errors))
    )
    v100 = estimate("deit-base/16@224", "v100", execution=Execution("fp16", attention="materialised"))
    budget = v100.gpu_hours(300 * 1_281_167)
    assert budget is not None
    error = budget.estimate / (53 * 8) - 1
    rows.append(("V100, DeiT-B 300 epochs in 53 h on 8 (Touvron et al. 2021), constants generic", f"{error:+.1%}", ""))
    return "Other devices: GPU-hours, estimated over measured", ("what", "mean", "mean, largest size"), rows


def counts() -> Table:
    """Closed forms against counts on built models, every size and patch."""
    found = [
        one
        for size in SIZES
        for patch_size in PATCHES
        for one in check(Design("deit", size, patch_size, 224), Head(), Execution("bf16"))
    ]
    rows = []
    for quantity, counter in dict.fromkeys((one.quantity, one.counter) for one in found):
        same = [one for one in found if (one.quantity, one.counter) == (quantity, counter) and one.error is not None]
        worst = max(abs(one.error or 0) for one in same)
        rows.append((quantity, counter, str(len(same)), f"{worst:.4%}"))
    return (
        "DeiT, five sizes, patch 16 to 1: closed form against counts",
        ("quantity", "counter", "designs", "largest error"),
        rows,
    )


def speed() -> Table:
    shell = ("-m", "scaling", "estimate", "deit-base/16@224", "--format", "json")
    bare, one = (statistics.median(seconds(python(*arguments), 10)) for arguments in (("-c", "pass"), shell))
    rows = [("one design from the shell", f"{one:.3f} s (bare python {bare:.3f} s)", "0.5 s")]
    for architecture in ("deit", "adventurer"):
        code = MILLION.format(architecture=architecture)
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        taken, peak, fitting = map(float, output.split())
        rows.append(
            (
                f"1,000,000 {architecture} designs",
                f"{taken:.2f} s, peak {peak:.0f} MiB ({fitting:,.0f} fit)",
                "2 s, 1,024 MiB",
            )
        )
    return "Speed", ("what", "measured", "target"), rows


def main() -> None:
    write_page("estimate", "Estimating", [table_6(), other_devices(), counts(), speed()])


if __name__ == "__main__":
    main()
