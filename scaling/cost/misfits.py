"""What to say of a design that does not fit: by how much, and what would make it fit."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

from scaling.cost.cost import Cost, cost_of
from scaling.cost.hardware import find_hardware, hardware_names
from scaling.cost.memory import SAFETY_MARGIN, fewest, largest_micro_batch, state_on_gpu, usable_bytes
from scaling.cost.shapes import Execution, Head
from scaling.design import Design, Hardware

GIB = 2**30


def explain_misfit(
    design: Design, head: Head, cost: Cost, hardware: Hardware, execution: Execution, images: int, gpus: int
) -> str:
    """By how much so many images at once are too large for one of `gpus`, and the first remedy that works."""
    usable = usable_bytes(hardware)
    needed = state_on_gpu(cost, execution, gpus).total + images * cost.peak_bytes_per_image
    what = "one image needs" if images == 1 else f"{images} images need"
    return (
        f"{design}: {what} {needed / GIB:.1f} GiB, {(needed - usable) / GIB:.1f} GiB more than the "
        f"{usable / GIB:.1f} GiB that {hardware.name or 'the device'} has after a margin of {SAFETY_MARGIN:.0%}; "
        f"{_remedy(design, head, execution, hardware, images, gpus)}"
    )


def _remedy(design: Design, head: Head, execution: Execution, hardware: Hardware, images: int, gpus: int) -> str:
    """The settings, or else the smallest device, with which it fits."""

    @cache
    def cost_as(changed: Execution) -> Cost:
        return cost_of(design, head, changed)

    def fits(device: Hardware, changed: Execution, count: int) -> bool:
        return largest_micro_batch(cost_as(changed), usable_bytes(device), changed, count) >= images

    changes: dict[str, dict[str, Any]] = {"--checkpointing": {"checkpointing": True}}
    if execution.attention == "materialised":
        changes = {"--attention fused": {"attention": "fused"}} | changes
    together = {name: value for change in changes.values() for name, value in change.items()}
    for label, change in (changes | {" and ".join(changes): together}).items():
        changed = replace(execution, **change)
        if fits(hardware, changed, gpus):
            return f"it fits with {label}"
    for label, change in {"": {}, f"{' and '.join(changes)} and ": together}.items():
        sharded = replace(execution, **change, sharding="fsdp")
        least = fewest(partial(fits, hardware, sharded), most=gpus)
        if least:
            return f"it fits with {label}--sharding fsdp over {least} GPUs or more"
    for label, change in {"": {}, f" with {' and '.join(changes)}": together}.items():
        changed = replace(execution, **change)
        larger = [
            (device.memory_bytes, name)
            for name in hardware_names()
            if execution.precision in (device := find_hardware(name)).peak_flops and fits(device, changed, gpus)
        ]
        if larger:
            return f"it fits --hardware {min(larger)[1]}{label}"
    cost = cost_as(replace(execution, **together))
    too_long = cost.peak_bytes_per_image > cost.state.total
    return f"no known device holds it; use a {'larger patch' if too_long else 'smaller model'}"
