"""What a GPU-hour of each design is worth to a plan: the order in which a grid is best run."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from scaling.decisions.planning.evidence import PlanError
from scaling.decisions.planning.exchange import read_json, read_plan


def values_of_plan(path: Path) -> dict[str, float]:
    """Value per GPU-hour of designs by short name, from what `scaling plan` wrote.

    Of a plan that `--save` or `--format json` wrote, the value is the chance that the design is the best, or with a
    target the chance that it reaches it. Of the pilots that `--next N --format json` wrote, it is by how much each
    lowers the expected regret, given those before it. Values of two files do not compare.

    Raises:
        PlanError: if the file is neither.
    """
    found = read_json(path)
    pilots = found.get("pilots") if isinstance(found, dict) else None
    try:
        if pilots is None:
            return _of_designs(read_plan(path)["designs"])
        return _of_pilots(pilots, found["now"])
    except (KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise PlanError(f"{path}: a design without its chance, its regret or its GPU-hours ({error!r})") from None


def _of_designs(designs: list[dict[str, Any]]) -> dict[str, float]:
    reach = designs[0]["chance_target"] is not None
    chance = "chance_target" if reach else "chance_best"
    return {each["design"]: _finite(each[chance] / each["gpu_hours"]["estimate"]) for each in designs}


def _of_pilots(pilots: list[dict[str, Any]], now: dict[str, float]) -> dict[str, float]:
    regrets = pairwise([now["regret"], *(each["after"]["regret"] for each in pilots)])
    values: dict[str, float] = {}
    for each, (before, after) in zip(pilots, regrets, strict=True):
        value = max(0.0, _finite((before - after) / each["gpu_hours"]))
        values.setdefault(each["design"], value)  # a further seed of it is worth less
    return values


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise OverflowError(value)
    return value
