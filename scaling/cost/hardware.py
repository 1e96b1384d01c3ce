"""The devices that ship, and those a study describes."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from scaling.design import Hardware
from scaling.errors import UsageError, nearest


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = (resources.files("scaling.cost") / "hardware.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def hardware_names() -> list[str]:
    """Names of the devices that ship."""
    return list(_shipped())


def find_hardware(name: str, own: Mapping[str, Hardware] | None = None) -> Hardware:
    """The device of this name.

    Args:
        name: as in `hardware.toml`, or of a table [hardware.NAME] of a study.
        own: devices of a study; they come first.

    Raises:
        UsageError: if there is none, with the nearest name and how to describe a new device.
    """
    if own and name in own:
        return own[name].model_copy(update={"name": name})
    if name not in _shipped():
        known = [*(own or ()), *_shipped()]
        hint, names = nearest(name, known), f"known: {', '.join(known)}"
        raise UsageError(
            f"unknown hardware '{name}'" + (f": {hint}" if hint != names else "") + f"\n{names};\n"
            "or describe it as [hardware.NAME] in a study and give --study"
        )
    return Hardware.model_validate({"name": name} | _shipped()[name])


def resolve_hardware(hardware: str | Hardware) -> Hardware:
    """A device as it is, or by its name."""
    return find_hardware(hardware) if isinstance(hardware, str) else hardware


def hardware_of_device(torch_name: str) -> str | None:
    """Name of the shipped device that torch calls so; None for one that is not known."""
    found = (name for name, values in _shipped().items() if torch_name in values.get("torch_names", ()))
    return next(found, None)


def check_precision(hardware: Hardware, precision: str) -> None:
    """Raise UsageError unless the device has a rate for this precision."""
    if precision not in hardware.peak_flops:
        raise UsageError(
            f"{hardware.name or 'this device'} has no rate for precision '{precision}'; "
            f"use {' or '.join(hardware.peak_flops)}, or other hardware"
        )
