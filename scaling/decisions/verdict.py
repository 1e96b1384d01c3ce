"""A comparison in sentences that a person can act on."""

from scaling.decisions.axes import AXES
from scaling.decisions.comparing import SURE, AxisResult, Comparison, Difference

COST_NAMES = {"flops": "training FLOPs", "memory": "memory", "hours": "hours"}
PHRASES = {axis.name: axis.phrase for axis in AXES}


def cost_name(cost: str, comparison: Comparison) -> str:
    """Such as 'training FLOPs per image', after what the cost is made of."""
    made_of = comparison.field.cost_words[cost]
    unit = next((unit for unit in ("per image", "per epoch") if unit in made_of), "")
    prefix = "GPU-" if made_of.startswith("GPU-hours") else ""
    return f"{prefix}{COST_NAMES[cost]} {unit}".strip()


def verdict(comparison: Comparison) -> list[str]:
    """The differences at the end of each pair of paths, whether costs agree on the order, and where axes stop."""
    sentences = [_answer(comparison)] if comparison.rankings else []
    pairs = dict.fromkeys((each.first, each.second) for each in comparison.differences)
    for first, second in pairs:
        ends = {
            each.cost: each
            for each in comparison.differences
            if (each.first, each.second) == (first, second) and each.at_end
        }
        sentences += _of_pair(ends, comparison)
    return sentences + [_where_it_stops(axis, comparison) for axis in comparison.axes if axis.steps]


def _answer(comparison: Comparison) -> str:
    """The best axis for each cost: 'From X, the next GPU-hour ...'."""
    best = {each.cost: next(iter(each.gains)) for each in comparison.rankings}
    at = {
        each.cost: f"at {_ratio(each.ratio)} the {cost_name(each.cost, comparison)} "
        f"(probability {chance_words(each.best[best[each.cost]])})"
        for each in comparison.rankings
    }
    axes = max(len(each.gains) for each in comparison.rankings)
    start = f"From {comparison.base.design}, the best of {axes} axes"
    sure = min(each.best[best[each.cost]] for each in comparison.rankings) >= SURE
    if len(set(best.values())) == 1:
        likely = "" if sure else "most likely "
        return f"{start} is {likely}{PHRASES[next(iter(best.values()))]}: {', '.join(at.values())}."
    return f"{start} depends on the cost: {'; '.join(f'{at[cost]} {PHRASES[name]}' for cost, name in best.items())}."


def _of_pair(ends: dict[str, Difference], comparison: Comparison) -> list[str]:
    sentences = [_sentence(each, comparison) for each in list(ends.values())[:1]]
    signs = {cost: _sign(each) for cost, each in ends.items()}
    if len(set(signs.values())) > 1:
        said = ", ".join(
            f"at {_ratio(each.ratio)} the {cost_name(cost, comparison)} {_winner(each)}" for cost, each in ends.items()
        )
        sentences.append(f"It depends on the cost: {said}.")
    return sentences


def _sentence(each: Difference, comparison: Comparison) -> str:
    """Such as 'At 4x the training FLOPs, a smaller patch beats a larger model by 1.1 points (...)'."""
    gain, unit = each.gain, "" if comparison.field.outcome.is_loss else " points"
    first, second = PHRASES[each.first], PHRASES[each.second]
    low, high, chance = gain.low, gain.high, gain.chance
    if gain.estimate < 0:
        first, second, low, high, chance = second, first, -high, -low, 1 - chance
    size = f"{abs(gain.estimate):.2g}{unit}"
    interval = f"95 % interval {low:.2g} to {high:.2g}, probability {chance_words(chance)}"
    said = f"beats {second} by {size} ({interval})"
    if chance < SURE:
        said = f"is not surely better than {second} (by {size}; {interval})"
    return f"At {_ratio(each.ratio)} the {cost_name(each.cost, comparison)}, {first} {said}."


def _winner(each: Difference) -> str:
    sign = _sign(each)
    if sign == 0:
        return "neither is surely better"
    return f"{PHRASES[each.first if sign > 0 else each.second]} is better"


def _sign(each: Difference) -> int:
    """1 if the first axis is surely better, -1 if the second is, else 0."""
    return int(each.gain.chance >= SURE) - int(each.gain.chance <= 1 - SURE)


def _where_it_stops(axis: AxisResult, comparison: Comparison) -> str:
    last, until = axis.steps[-1], axis.pays_until
    phrase = axis.path.axis.phrase.capitalize()
    if until is last.candidate:
        return f"{phrase} pays up to {until.design}, the last one tried."
    beyond = "worse" if last.over_best.chance <= 1 - SURE else "not surely better"
    if until is comparison.base:
        return f"{phrase}: {last.candidate.design}, the last one tried, is {beyond} than the start."
    return f"{phrase} pays up to {until.design}; {last.candidate.design}, the last one tried, is {beyond} than that."


def _ratio(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 or value == round(value) else f"{value:.2g}x"


def chance_words(value: float) -> str:
    """A probability; near one no digits are claimed."""
    return "above 0.99" if value > 0.99 else f"{value:.2f}"
