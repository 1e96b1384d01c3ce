"""A comparison in sentences that a person can act on."""

from scaling.decisions.axes import AXES
from scaling.decisions.comparing import SURE, AxisResult, Comparison, Difference, Step

COST_WORDS = {"flops": "training FLOPs", "memory": "memory per image", "hours": "hours"}
PHRASES = {axis.name: axis.phrase for axis in AXES}


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
        each.cost: f"at {_ratio(each.ratio)} the {COST_WORDS[each.cost]} "
        f"(probability {_chance(each.best[best[each.cost]])})"
        for each in comparison.rankings
    }
    start = f"From {comparison.base.design}, the best of {len(comparison.rankings[0].gains)} axes"
    if len(set(best.values())) == 1:
        return f"{start} is {PHRASES[next(iter(best.values()))]}: {', '.join(at.values())}."
    return f"{start} depends on the cost: {'; '.join(f'{at[cost]} {PHRASES[name]}' for cost, name in best.items())}."


def _of_pair(ends: dict[str, Difference], comparison: Comparison) -> list[str]:
    sentences = [_sentence(each, comparison) for each in list(ends.values())[:1]]
    signs = {cost: _sign(each) for cost, each in ends.items()}
    if len(set(signs.values())) > 1:
        said = ", ".join(
            f"at {_ratio(each.ratio)} the {COST_WORDS[cost]} {_winner(each)}" for cost, each in ends.items()
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
    interval = f"95 % interval {low:.2g} to {high:.2g}, probability {_chance(chance)}"
    words = "beats" if chance >= SURE else "is not surely better than"
    by = f" by {size}" if chance >= SURE else f" (by {size})"
    if chance < SURE:
        return f"At {_ratio(each.ratio)} the {COST_WORDS[each.cost]}, {first} {words} {second}{by[:-1]}; {interval})."
    return f"At {_ratio(each.ratio)} the {COST_WORDS[each.cost]}, {first} {words} {second}{by} ({interval})."


def _winner(each: Difference) -> str:
    sign = _sign(each)
    if sign == 0:
        return "neither is surely better"
    return f"{PHRASES[each.first if sign > 0 else each.second]} is better"


def _sign(each: Difference) -> int:
    """1 if the first axis is surely better, -1 if the second is, else 0."""
    return int(each.gain.chance >= SURE) - int(each.gain.chance <= 1 - SURE)


def _where_it_stops(axis: AxisResult, comparison: Comparison) -> str:
    last, until = axis.steps[-1].candidate, axis.pays_until
    phrase = axis.path.axis.phrase.capitalize()
    if until is last:
        return f"{phrase} pays up to {last.design}, the last one tried."
    after = _after(axis)
    worse = after.over_previous.chance <= 1 - SURE
    nothing = f"the step to {after.candidate.design} {'makes it worse' if worse else 'is within the noise of seeds'}"
    if until is comparison.base:
        return f"{phrase}: {nothing}."
    return f"{phrase} pays up to {until.design}; {nothing}."


def _after(axis: AxisResult) -> Step:
    """The first step that does not pay."""
    return next(step for step in axis.steps if step.over_previous.chance < SURE)


def _ratio(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 or value == round(value) else f"{value:.2g}x"


def _chance(value: float) -> str:
    return "above 0.99" if value > 0.99 else f"{value:.2f}"
