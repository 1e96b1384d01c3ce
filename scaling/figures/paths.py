"""Paths of designs along the axes of a comparison, drawn over one cost. Shared by Figure 3 and others."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from scaling.decisions import AxisResult, Candidate, Comparison, Outcome, differing_settings
from scaling.figures.style import log_axis, nice_log_ticks, power_of_ten
from scaling.figures.words import written

FEW_POWERS = 200  # below so many times the lowest cost there are ticks between the powers of ten
# Colour, mark and dashes by axis.
LOOKS = {
    "patch": ("#2f4b7c", "o", "-"),
    "parameters": ("#b5523b", "s", (0, (6, 1.5))),
    "input": ("#3f8f6b", "^", (0, (4, 1.2, 1, 1.2))),
    "input at fixed length": ("#8a6fb0", "v", (0, (11, 1.5))),
    "extension": ("#8a8a8a", "D", (0, (2, 1.2))),
    "decoder": ("#c2952d", "p", (0, (1, 1))),
}
NAMES = {
    "patch": "smaller patch",
    "parameters": "larger model",
    "input": "larger input",
    "input at fixed length": "larger input, same length",
    "extension": "more tokens, same patches",
    "decoder": "decoder",
}
COST_LABELS = {
    "flops": "Training FLOPs per image",
    "memory": "Memory per image (MiB)",
    "hours": "GPU-hours per epoch",
}
MIB = 2**20
INITIALS = {"nano": "nano", "micro": "micro", "tiny": "T", "small": "S", "base": "B", "large": "L", "huge": "H"}


def cost_label(cost: str, words: str) -> str:
    """Of an axis, after what the cost is made of."""
    if words.startswith("FLOPs of the training"):
        return "Training FLOPs"
    if words.startswith("seconds"):
        return "Training time (s)"
    if words.startswith("GPU-hours of the training"):
        return "GPU-hours"
    return COST_LABELS[cost]


def draw_paths(axis: Axes, comparison: Comparison, cost: str, title: str) -> None:
    """Draw every path that has the cost: value against cost, with 95 % bars, each point named by what it changes."""
    base = comparison.base
    for result in comparison.axes:
        if result.steps and cost in base.costs and all(cost in each.candidate.costs for each in result.steps):
            _draw_path(axis, comparison, result, cost)
    low, high = (np.array([_value(comparison, base.design)[place]]) for place in (1, 2))
    middle = _value(comparison, base.design)[0]
    bars = np.stack([middle - low, high - middle])
    axis.errorbar(_cost(base, cost), middle, yerr=bars, fmt="*", color="black", markersize=9, elinewidth=0.8, zorder=5)
    axis.annotate(
        _short(base), (_cost(base, cost), middle), (7, -10), textcoords="offset points", fontsize=6.5, color="black"
    )
    axis.set(xscale="log", title=title, xlabel=cost_label(cost, comparison.field.cost_words[cost]))
    axis.set_ylabel(value_label(comparison.field.outcome))
    axis.margins(x=0.12, y=0.12)
    low, high = axis.get_xlim()
    if cost == "flops":  # of which powers of ten are read more easily
        _powers_of_ten(axis, low, high)
    else:
        log_axis(axis.xaxis, nice_log_ticks(low, high))
    if comparison.field.outcome.is_loss:
        axis.set_yscale("log")
        log_axis(axis.yaxis, nice_log_ticks(*sorted(axis.get_ylim())))


def _powers_of_ten(axis: Axes, low: float, high: float) -> None:
    """Ticks at powers of ten, and at twice and five times those where few are in sight; no labels between them."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    digits = (1, 2, 5) if high / low < FEW_POWERS else (1,)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 1 else nice_log_ticks(low, high)))
    axis.xaxis.set_major_formatter(lambda value, _: power_of_ten(value))
    axis.xaxis.set_minor_formatter(NullFormatter())


def value_label(outcome: Outcome) -> str:
    """Of an axis of results."""
    return "Test loss" if outcome.is_loss else f"{outcome.label[0].upper()}{outcome.label[1:]} (%)"


def _draw_path(axis: Axes, comparison: Comparison, result: AxisResult, cost: str) -> None:
    colour, mark, dashes = LOOKS[result.name]
    designs = [comparison.base, *(step.candidate for step in result.steps)]
    x = np.array([_cost(each, cost) for each in designs])
    values = np.array([_value(comparison, each.design) for each in designs]).T
    axis.plot(x, values[0], color=colour, linestyle=dashes, linewidth=1.2)
    bars = np.stack([values[0] - values[1], values[2] - values[0]])[:, 1:]
    axis.errorbar(
        x[1:],
        values[0][1:],
        yerr=bars,
        fmt=mark,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=0.8,
        capsize=1.5,
        label=NAMES[result.name],
    )
    for place, each in zip(zip(x[1:], values[0][1:], strict=True), designs[1:], strict=True):
        inputs = result.name.startswith("input")  # a steep path: labels go to its left, that of its end to the right
        left = inputs and each is not designs[-1]
        axis.annotate(
            changed_words(result.name, each),
            place,
            (-5 if left else 5, 2 if inputs else -8),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=6.5,
            color=colour,
        )


def add_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend above all panels, each axis once."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(len(found), 2 * len(axes)))


def changed_words(axis: str, candidate: Candidate) -> str:
    """What a step of an axis changes, in few letters."""
    fields = candidate.fields
    if axis == "patch":
        return f"p={fields['patch_size']}"
    if axis == "parameters":
        size = str(fields["size"])
        return INITIALS.get(size, size)
    if axis == "decoder":
        return written(fields["head"])
    if axis == "extension":
        return f"L={fields['sequence_length']:,}"
    return f"{fields['input_size']} px"


def _short(candidate: Candidate) -> str:
    return candidate.design.split("-", 1)[-1].split("+")[0]


def _cost(candidate: Candidate, cost: str) -> float:
    return candidate.costs[cost] / (MIB if cost == "memory" else 1)


def _value(comparison: Comparison, design: str) -> tuple[float, float, float]:
    """Estimate and ends, in per cent for rates."""
    spread, factor = comparison.values[design], 1 if comparison.field.outcome.is_loss else 100
    return factor * spread.estimate, factor * spread.low, factor * spread.high


def missing_words(comparison: Comparison) -> list[str]:
    """Designs of the axes that have no result, for a caption."""
    return [f"{each.design} {each.status}" for axis in comparison.axes for each in axis.path.unfinished]


def caption_of(comparisons: list[Comparison]) -> list[str]:
    """Noise, what is missing, and designs of another recipe."""
    missing = dict.fromkeys(word for each in comparisons for word in missing_words(each))
    recipes = dict.fromkeys(design for each in comparisons for design in _other_recipes(each))
    return [
        f"bars: 95 % interval, {comparisons[0].noise}",
        f"without a value: {', '.join(missing)}" if missing else "",
        f"other recipe than the base: {', '.join(recipes)}" if recipes else "",
    ]


def _other_recipes(comparison: Comparison) -> list[str]:
    """Designs on the paths that were not trained as the base was."""
    steps = [step.candidate for axis in comparison.axes for step in axis.steps]
    return [each.design for each in steps if differing_settings(comparison.base, each)]
