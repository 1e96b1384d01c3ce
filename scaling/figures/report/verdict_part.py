"""The verdict as HTML: the answer in a few words, its numbers for each cost, then all sentences."""

from html import escape

from scaling.decisions import PHRASES, Comparison, cost_name, verdict
from scaling.decisions.comparing import SURE, Ranking
from scaling.figures.report.tables import bullets, number
from scaling.figures.report.words import capital, names_of


def verdict_part(comparisons: tuple[Comparison, ...], incomparable: str | None) -> str:
    """One block for each design that was started from."""
    if not comparisons:
        why = escape(capital(incomparable or ""))
        return f'<article class="verdict"><p class="answer">These records cannot say.</p><p>{why}.</p></article>'
    return "\n".join(_block(comparison) for comparison in comparisons)


def _block(comparison: Comparison) -> str:
    field, (first, *others) = comparison.field, verdict(comparison)
    about = names_of({"task": field.task, "dataset": field.dataset})
    cards = "".join(_card(ranking, comparison) for ranking in comparison.rankings)
    more = f"<details><summary>Pair by pair, and how far each axis pays</summary>{bullets(others)}</details>"
    warnings = [*comparison.confounders, comparison.noise]
    costs = [f"{cost_name(cost, comparison)}: {words}" for cost, words in field.cost_words.items()]
    return f"""<article class="verdict">
<p class="from">From <strong>{escape(comparison.base.design)}</strong> <span>{escape(about)}</span></p>
<p class="answer">{escape(_headline(comparison))}</p>
{f'<ul class="cards">{cards}</ul>' if cards else ""}
<p>{escape(first)}</p>
{more if others else ""}
<div class="caution"><h3>Before you act on it</h3>{bullets(warnings)}
<details><summary>Where the costs come from</summary>{bullets(costs)}</details></div>
</article>"""


def _headline(comparison: Comparison) -> str:
    """The best axis in a few words, or that costs disagree, or that only one axis was followed."""
    if not comparison.rankings:
        followed = " or ".join(PHRASES[axis.name] for axis in comparison.axes if axis.steps)
        return f"Only {followed} was tried."
    best = {next(iter(ranking.gains)) for ranking in comparison.rankings}
    if len(best) > 1:
        return "It depends on the cost."
    (name,) = best
    sure = all(ranking.best[name] >= SURE for ranking in comparison.rankings)
    return capital(f"{'' if sure else 'perhaps '}{PHRASES[name]}.")


def _card(ranking: Ranking, comparison: Comparison) -> str:
    name, gain = next(iter(ranking.gains.items()))
    unit = "of the loss" if comparison.field.outcome.is_loss else "points"
    interval = f"{number(gain.low, 2)} to {number(gain.high, 2)}"
    return (
        f"<li><span class='cost'>{number(ranking.ratio, 2)}× the {escape(cost_name(ranking.cost, comparison))}</span>"
        f"<span class='best'>{escape(PHRASES[name])}</span>"
        f"<span class='gain'>{gain.estimate:+.2g} {unit}</span>"
        f"<span class='sure'>95 % interval {interval}; best of {len(ranking.gains)} axes with "
        f"probability {min(ranking.best[name], 0.99):.2f}{' or more' if ranking.best[name] > 0.99 else ''}</span></li>"
    )
