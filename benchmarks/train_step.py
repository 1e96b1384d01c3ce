"""Training steps of DeiT-Base and Adventurer-Base: images per second, and the share of the device's peak.

python -m benchmarks.train_step      # on the CPU or the CUDA device that is there; rewrites its own page

On CUDA: bf16 autocast, AdamW, each kernel that is installed, plain and compiled, the largest micro-batch
that the estimator says fits. On a CPU: fp32, one image, to set patch sizes against each other.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pages import write_page
from scaling.cost import SAFETY_MARGIN, Execution, Head, cost_of, find_hardware, hardware_of_device
from scaling.design import Design, divisors
from scaling.grid import find_device
from scaling.models import build_model, has_flash_attention, kernels_on
from scaling.models.mamba2 import kernels
from scaling.training.measure import Example

PATCHES = {"cpu": (16, 8), "cuda": (16, 8, 4, 2, 1)}
STEPS = {"cpu": 3, "cuda": 10}
LARGEST_BATCH = 256


def designs(device: str) -> Iterator[Design]:
    for patch_size in PATCHES[device]:
        for architecture in ("deit", "adventurer"):
            yield Design(architecture, "base", patch_size, 224)


def batch_that_fits(design: Design, device: str, execution: Execution) -> int:
    """Images per step, by the estimator; 0 if none."""
    if device == "cpu":
        return 1
    memory = find_device("cuda").memory_bytes * (1 - SAFETY_MARGIN)
    cost = cost_of(design, Head(), execution)
    return max((size for size in divisors(LARGEST_BATCH) if cost.training_bytes(size) <= memory), default=0)


def ways(design: Design, device: str) -> Iterator[tuple[str, bool]]:
    """Kernel by name, and whether the model is compiled."""
    if design.architecture == "deit":
        names = ["flash-attn" if device == "cuda" and has_flash_attention() else "sdpa"]
    else:
        names = list(dict.fromkeys([str(kernels_on(device)), "torch"]))
    compiled = (False, True) if device == "cuda" else (False,)
    return product(names, compiled)


def only(name: str) -> AbstractContextManager[object]:
    """Keep mixers from the compiled kernels while a benchmark asks for torch's."""
    if name != "torch":
        return nullcontext()
    return patch.multiple(kernels, mamba_ssm=lambda: None, causal_conv1d=lambda: None)


def images_per_second(
    model: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], design: Design, device: str, batch: int
) -> float:
    images, labels = Example(design.input_sides).batch(batch, device)
    optimizer = torch.optim.AdamW(parameters, fused=True)
    taken = []
    for _ in range(STEPS[device] + 2):
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return batch / statistics.median(taken[2:])


def row(design: Design, device: str, name: str, compiled: bool, peak: float | None) -> tuple[str, ...]:
    fused = "mamba-ssm" in name
    execution = Execution("bf16" if device == "cuda" else "fp32", scan="fused" if fused else "recomputed")
    batch = batch_that_fits(design, device, execution)
    label = (str(design), name, "yes" if compiled else "no")
    if not batch:
        return *label, "0", "does not fit", "-", "-"
    torch.manual_seed(0)
    model = build_model(design, 1000).to(device)
    try:
        run = torch.compile(model) if compiled else model
        speed = images_per_second(run, list(model.parameters()), design, device, batch)
    except torch.OutOfMemoryError:
        return *label, str(batch), "out of memory", "-", "-"
    flops = speed * cost_of(design, Head(), execution).training_flops_per_image
    share = f"{flops / peak:.1%}" if peak else "-"
    return *label, str(batch), f"{speed:.3g}", f"{flops / 1e12:.3g}", share


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known = hardware_of_device(torch.cuda.get_device_name()) if device == "cuda" else None
    peak = find_hardware(known).peak_flops.get("bf16") if known else None
    rows = []
    for design in designs(device):
        for name, compiled in ways(design, device):
            with only(name):
                rows.append(row(design, device, name, compiled, peak))
            print(*rows[-1], flush=True)
    columns = ("design", "kernel", "compiled", "images/step", "images/s", "TFLOP/s", "of peak")
    precision = "bf16" if device == "cuda" else "fp32"
    write_page("train_step", f"Training steps on {device}, {precision}", [("", columns, rows)], device)


if __name__ == "__main__":
    main()
