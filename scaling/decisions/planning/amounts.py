"""Amounts that people write: '5000 gpu-hours', '1e21 flops', '$20000', '14 days', '40 GiB', '3 ms'."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scaling.errors import UsageError, nearest

BudgetUnit: TypeAlias = Literal["gpu_hours", "flops", "dollars"]
UNIT_NAMES: dict[BudgetUnit, str] = {"gpu_hours": "GPU-hours", "flops": "training FLOPs", "dollars": "dollars"}

_AMOUNT = re.compile(
    r"(\$?)\s*"
    r"([0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*"
    r"([kmb](?![a-z]))?\s*([^,]*)",
    re.IGNORECASE,
)  # commas only before thousands: '1,5' is no number here, rather than 15
_THOUSANDS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}

_FLOPS = {f"{prefix}flop{end}": factor for prefix, factor in _PREFIXES.items() for end in ("", "s")}
_DAYS = {"hour": 1 / 24, "hours": 1 / 24, "h": 1 / 24, "day": 1.0, "days": 1.0, "week": 7.0, "weeks": 7.0}
_BUDGETS: dict[str, tuple[BudgetUnit, float]] = {
    **{f"gpu-{unit}": ("gpu_hours", 24 * days) for unit, days in _DAYS.items()},
    **{name: ("flops", factor) for name, factor in _FLOPS.items()},
    **dict.fromkeys(("$", "dollars", "dollar", "usd"), ("dollars", 1.0)),
}
_BYTES = {"gb": 10**9, "gib": 2**30, "mb": 10**6, "mib": 2**20}
_MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001}


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one training."""

    amount: float
    unit: BudgetUnit

    def __str__(self) -> str:
        whole = f"{self.amount:,.0f}" if self.amount >= 100 else f"{self.amount:.3g}"
        if self.unit == "dollars":
            return f"${whole}"
        number = f"{self.amount:.3g}" if self.unit == "flops" else whole
        return f"{number} {UNIT_NAMES[self.unit]}"


def parse_budget(text: str, option: str = "budget") -> Budget:
    """Such as '5000 gpu-hours', '30 gpu-days', '1e21 flops' or '$20000'.

    Raises:
        UsageError: for anything else, with examples.
    """
    examples = "write '5000 gpu-hours', '30 gpu-days', '1e21 flops' or '$20000'"
    amount, unit, dollar = _split(option, text, examples)
    unit = re.sub(r"[\s_]+", "-", unit)
    unit = re.sub("^gpu(?=[a-z])", "gpu-", unit)
    if dollar and unit and unit not in ("usd", "dollars", "dollar", "$"):
        raise UsageError(f"--{option} '{text}' is in dollars and in {unit} at once; {examples}")
    unit = "$" if dollar else unit
    if unit in _DAYS:
        raise UsageError(
            f"--{option} '{text}': a time on how many GPUs? Write '{amount:g} gpu-{unit}', or use --deadline"
        )
    if unit not in _BUDGETS:
        raise UsageError(f"--{option} '{text}': {'no unit' if not unit else f'unknown unit {unit}'}; {examples}")
    kind, factor = _BUDGETS[unit]
    return Budget(amount * factor, kind)


def parse_days(text: str) -> float:
    """Days of '14 days', '36 hours' or '2 weeks'.

    Raises:
        UsageError: for anything else.
    """
    return _parsed("deadline", text, _DAYS, "write '14 days', '36 hours' or '2 weeks'")


def parse_bytes(text: str) -> int:
    """Bytes of '40 GiB' or '80 GB'.

    Raises:
        UsageError: for anything else.
    """
    return int(_parsed("memory-per-gpu", text, _BYTES, "write '40 GiB' or '80 GB'"))


def parse_inference(text: str) -> tuple[float, Literal["flops", "milliseconds"]]:
    """A limit on one image's forward pass: '20 gflops' or '3 ms'.

    Raises:
        UsageError: for anything else.
    """
    examples = "write '20 gflops' or '3 ms' (per image)"
    amount, unit, _ = _split("inference-budget", text, examples)
    if unit in _FLOPS:
        return amount * _FLOPS[unit], "flops"
    return _parsed("inference-budget", text, _MILLISECONDS, examples), "milliseconds"


def parse_target(text: str) -> float:
    """A share of '84%', '84 %' or '0.84', or a loss of '0.7'.

    Raises:
        UsageError: for what is no positive number.
    """
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%")) / (100 if stripped.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--target '{text}': write a rate such as '84%', or a loss such as 0.7")
    return value


def _parsed(option: str, text: str, units: Mapping[str, float], examples: str) -> float:
    amount, unit, _ = _split(option, text, examples)
    if unit not in units:
        hint = f"unknown unit '{unit}' ({nearest(unit, units)})" if unit else "no unit"
        raise UsageError(f"--{option} '{text}': {hint}; {examples}")
    return amount * units[unit]


def _split(option: str, text: str, examples: str) -> tuple[float, str, bool]:
    """Amount, unit in lower case, and whether it stands behind a dollar sign."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--{option} '{text}' cannot be read; {examples}")
    dollar, number, thousands, unit = match.groups()
    amount = float(number.replace(",", "").replace("_", "")) * _THOUSANDS[(thousands or "").lower()]
    if not (math.isfinite(amount) and amount > 0):
        raise UsageError(f"--{option} '{text}' must be more than nothing and finite; {examples}")
    return amount, unit.strip().lower(), bool(dollar)
