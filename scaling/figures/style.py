"""The look of every figure: sizes for a paper, and marks that survive printing in grey."""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "scaling",
    "figure.dpi": 110,
    "savefig.dpi": 220,
}
PANEL_WIDTH, PANEL_HEIGHT = 3.4, 2.75
# One for each size, nano to huge; they get darker, and marks and dashes differ, for print in grey.
COLOURS = ("#d1a33c", "#4f8f8b", "#b5523b", "#6a5a8c", "#2f4b7c", "#3b3b3b", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "<", "h")
# None is dotted: that is a law which its points do not identify.
LINES = ("-", (0, (6, 1.5)), (0, (4, 1.2, 1, 1.2)), (0, (11, 1.5)), "-", (0, (6, 1.5)), (0, (4, 1.2, 1, 1.2)))
NICE = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 6), (1, 2, 5), (1, 3), (1,))
MOST_TICKS = 8
LAW_SIZE = 8.6  # points of a law in symbols, whose exponents are 0.7 times as large: none below 6


def styled():
    """Context in which figures are drawn; changes nothing outside it."""
    return rc_context(RC)


def nice_log_ticks(low: float, high: float) -> list[float]:
    """Round values between low and high: the densest of several series that is not crowded, or even steps."""
    exponents = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    ticks = []
    for digits in NICE:
        ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= MOST_TICKS:
            break
    if len(ticks) < 3:
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return ticks


def log_axis(axis, ticks: list[float]) -> None:
    """Plain-number ticks on a logarithmic axis, and no minor ones."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """Such as 0.25, 500, 20k and 3M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(unit, 1e4):
            return f"{value / unit:.10g}{letter}"
    return f"{value:.10g}"


def power_of_ten(value: float) -> str:
    """Such as 3·10¹¹."""
    mantissa, exponent = f"{value:.2e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{float(mantissa):g}\cdot"
    return rf"${factor}10^{{{int(exponent)}}}$"
