"""Metrics, values with their digits, and how they are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_high

from scaling.decisions import OUTCOMES


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of results: how it is called, whether it is a share shown in per cent, and which way is better."""

    column: str
    label: str
    csv_name: str
    percent: bool = True

    @property
    def factor(self) -> float:
        """From the unit of the records to the one shown."""
        return 100.0 if self.percent else 1.0

    @property
    def unit(self) -> str:
        """'accuracy (%)', or the label alone."""
        return f"{self.label} (%)" if self.percent else self.label

    @property
    def title(self) -> str:
        """The unit with a capital."""
        return self.unit[0].upper() + self.unit[1:]

    @property
    def higher_is_better(self) -> bool:
        """Of rates, higher; of losses, lower."""
        return self.percent


CSV_NAMES = {"accuracy": "top1_accuracy_percent", "mean_iou": "miou_percent"}
OF_OVERLAPS = {f"{kind}_ap{share}": f"{kind} AP{share}" for kind in ("box", "mask") for share in (50, 75)}
METRICS = {
    **{
        name: Metric(name, outcome.label, CSV_NAMES.get(name, name), percent=not outcome.is_loss)
        for name, outcome in OUTCOMES.items()
    },
    **{name: Metric(name, label, name) for name, label in OF_OVERLAPS.items()},
}
"""By column: what can be compared, and average precision at single overlaps, for the tables."""
CHOSEN_FROM = tuple(name for name in OUTCOMES if name != "mask_ap")
"""In the order in which one is chosen where none is asked for; a detector's is that of its boxes."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number to print, or why there is none.

    Args:
        value: in the unit shown; words in a table's first columns; None if not known.
        decimals: of a float.
        deviation: standard deviation over seeds, None for one seed.
        seeds: results averaged.
        note: 'oom' in place of a value, '1 diverged' beside one.
        best: of its row or group.
        change: from the first of its group, to print beside it.
    """

    value: float | str | None = None
    decimals: int = 0
    deviation: float | None = None
    seeds: int = 1
    note: str = ""
    best: bool = False
    change: float | None = None

    @property
    def known(self) -> bool:
        """Whether there is a number or a word."""
        return self.value is not None

    @property
    def number(self) -> float:
        """The value as a float; NaN if it is not known, or a word."""
        return float(self.value) if isinstance(self.value, int | float) else math.nan

    @property
    def digits(self) -> str:
        """The value as a table file has it, without thousands separators; empty if not known."""
        return f"{self.value:.{self.decimals}f}" if isinstance(self.value, int | float) else self.value or ""

    @property
    def text(self) -> str:
        """The value as people read it, with its deviation; '-' if nothing is known."""
        if not self.known:
            return self.note or "-"
        if isinstance(self.value, str):
            return self.value
        parts = [f"{self.value:,.{self.decimals}f}"]
        if self.deviation is not None:
            parts.append(f"± {self.deviation:.{self.decimals}f}")
        if self.change is not None:
            parts.append(f"({self.change:+.{self.decimals}f})")
        return " ".join([*parts, f"({self.note})"] if self.note else parts)


def level(values: Sequence[Value]) -> list[Value]:
    """All with the same decimals, those that most of them deserve, so that they can be compared."""
    known = [value.decimals for value in values if value.known]
    return [replace(value, decimals=median_high(known)) if value.known else value for value in values]


def significant(value: float, digits: int = 3) -> int:
    """Decimals that show a value with this many significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def certain(uncertainty: float) -> int:
    """Decimals down to the first digit of an uncertainty, or the second where the first is 1."""
    return max(0, -math.floor(math.log10(uncertainty)) + f"{uncertainty:e}".startswith("1"))


def rounded(value: float | None) -> Value:
    """A count or a cost: as printed if it is whole, else with three digits."""
    if value is None:
        return Value()
    return Value(value, 0 if value.is_integer() else significant(value))
