"""Made-up records of studies with several seeds, failures and extended tokens."""

from typing import Any

import pandas as pd

LOST = ("oom", "diverged")


def study(metric: str = "accuracy", seeds: int = 3, architectures: tuple[str, ...] = ("deit",)) -> pd.DataFrame:
    """Nano and micro at 64 pixels with patches of 16 to 4; micro/4 is out of memory, a seed of nano/4 diverged."""
    rows = [
        _row(architecture, size, patch, seed, metric)
        for architecture in architectures
        for size in ("nano", "micro")
        for patch in (16, 8, 4)
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows)
    lost = table["design"].eq("deit-micro/4@64"), table["design"].eq("deit-nano/4@64") & table["seed"].eq(0)
    for where, status in zip(lost, LOST, strict=True):
        table.loc[where, "status"] = status
        table.loc[where, metric] = None
    return table


def extended(**columns: Any) -> pd.DataFrame:
    """The study with nano/16 stretched to 64 and to 256 tokens."""
    plain = study()
    start = plain[plain["design"].eq("deit-nano/16@64")]
    longer = [
        start.assign(
            design=f"deit-nano/16@64+extend={length}",
            extended_length=length,
            sequence_length=length,
            accuracy=start["accuracy"] + 0.001,
        )
        for length in (64, 256)
    ]
    return pd.concat([plain.assign(extended_length=None).astype({"extended_length": float}), *longer]).assign(**columns)


def _row(architecture: str, size: str, patch: int, seed: int, metric: str) -> dict[str, Any]:
    tokens = (64 // patch) ** 2
    scale = 1 if size == "nano" else 4
    result = 0.6 - 0.01 * patch + 0.002 * scale + (0.004 * seed if seed else 0)
    return {
        "design": f"{architecture}-{size}/{patch}@64", "architecture": architecture, "size": size, "patch_size": patch,
        "input_size": 64, "task": "classification", "seed": seed, "status": "done", "sequence_length": tokens,
        metric: result if metric == "accuracy" else 1 - result, "parameters": 50_000 * scale,
        "training_flops_per_image": 1e6 * scale * tokens, "activation_bytes_per_image": 4096 * scale * tokens,
        "training_seconds": 10.0 + seed + tokens, "images_seen": 1000,
    }  # fmt: skip
