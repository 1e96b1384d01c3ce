"""Made-up records of studies with several seeds, failures and extended tokens."""

from typing import Any

import numpy as np
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


def segmenters(seeds: int = 3) -> pd.DataFrame:
    """Both heads on nano at 32 pixels with patches of 16 to 2; UperNet costs and gains less at small patches."""
    rng = np.random.default_rng(0)
    rows = [
        _dense("segmentation", head, patch, seed, 32)
        | {"mean_iou": 0.75 - 0.02 * patch + 0.004 * patch * (head == "upernet") + 0.01 * shared + 0.003 * luck,
           "test_loss": 0.2 + 0.02 * patch - 0.005 * patch * (head == "upernet") - 0.01 * shared + 0.003 * luck,
           "test_loss_standard_error": 0.002}
        for patch in (16, 8, 4, 2) for seed in range(seeds) for shared in rng.normal(size=1)
        for head in ("linear", "upernet") for luck in rng.normal(size=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def detectors(seeds: int = 1) -> pd.DataFrame:
    """Nano at 64 pixels with patches of 32 to 4, the smallest out of memory; as records are, not yet as rows."""
    rows = [
        _dense("detection", "cascade", patch, seed, 64)
        | {"test_loss": 0.2 + 0.03 * patch**0.7 + 0.004 * seed, "test_loss_standard_error": 0.005,
           "mask_test_loss": 0.3 + 0.02 * patch**0.7 + 0.004 * seed, "mask_test_loss_standard_error": 0.01,
           "box_ap": 0.6 - 0.01 * patch, "box_ap50": 0.8 - 0.01 * patch, "box_ap75": 0.5 - 0.01 * patch,
           "mask_ap": 0.5 - 0.01 * patch, "mask_ap50": 0.7 - 0.01 * patch, "mask_ap75": 0.4 - 0.01 * patch}
        for patch in (32, 16, 8, 6, 5, 4) for seed in range(seeds)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    known = [str(name) for name in table if str(name).endswith(("loss", "error", "ap", "ap50", "ap75"))]
    return table.assign(
        status=table["patch_size"].eq(4).map({True: "oom", False: "done"}),
        **{name: table[name].where(table["patch_size"].gt(4)) for name in known},
    )


def _dense(task: str, head: str, patch: int, seed: int, side: int) -> dict[str, Any]:
    tokens = (-(-side // patch)) ** 2
    design = f"deit-nano/{patch}@{side}+{head}"
    cost = tokens * (2 if head == "upernet" else 1)
    return {
        "cell": f"{design} {seed}", "source": "measured", "study": "made", "dataset": "digits", "task": task,
        "design": design, "architecture": "deit", "size": "nano", "patch_size": patch, "input_size": side,
        "head": head, "seed": seed, "status": "done", "sequence_length": tokens, "images_seen": 1000,
        "parameters": 50_000 + 8_000 * (head == "upernet"), "training_flops_per_image": 1e6 * cost,
        "activation_bytes_per_image": 4096 * cost, "training_seconds": 10.0 + cost,
    }  # fmt: skip
