"""Table 5: extended tokens against smaller patches."""

from dataclasses import replace
from decimal import Decimal

from scaling.figures.extended import comparisons
from scaling.figures.results import TOLD_APART, Result, model_name, varying
from scaling.figures.tables.layout import Row, Table, long_form, mark_best, notes_on, word
from scaling.figures.values import Metric, Value, level


def extension(found: list[Result], published: bool, y: str | None) -> Table:
    """Table 5: the same sequence lengths by extending tokens and by smaller patches; bold is the better of a row."""
    metric, compared = comparisons(found, y)
    starts = [comparison.start for comparison in compared]
    apart = varying(starts, (*TOLD_APART, "patch_size"))
    places = [(comparison, length) for comparison in compared for length in comparison.lengths]
    pairs = [(c.extending.get(length, Value()), c.scaling.get(length, Value())) for c, length in places]
    flat = level([value for pair in pairs for value in pair])
    rows, keys, metrics = [], [], []
    names = [_by_way(metric, way) for way in ("extending", "patch_scaling")]
    for place, (comparison, length) in enumerate(places):
        start, pair = comparison.start, flat[2 * place : 2 * place + 2]
        first = comparison.lengths[0]
        changed = [_change(value, flat[2 * places.index((comparison, first))], length > first) for value in pair]
        model = f"{model_name(start)}, {start['input_size']}×{start['input_size']} input"
        words = (word(model), *(word(start[column]) for column in apart), word(length))
        rows.append(Row((*words, *mark_best(changed, metric.higher_is_better)), f"{model} {start['patch_size']}"))
        columns = (*apart, "architecture", "size", "input_size")
        keys.append({column: word(start[column]) for column in columns} | {"sequence_length": word(length)})
        metrics.append(dict(zip(names, pair, strict=True)))
    columns = ("Model", *map(str.capitalize, apart), "Length", "By extending", "By smaller patches")
    title = f"{metric.title} by extended tokens and by smaller patches"
    notes = (*notes_on(rows, published, "the better of a row", metric), "In brackets: change from the shortest length.")
    return Table(5, title, columns, 1 + len(apart), tuple(rows), notes, long_form(keys, metrics))


def _by_way(metric: Metric, way: str) -> str:
    """'accuracy_by_extending_percent'."""
    return f"{metric.column}_by_{way}" + ("_percent" if metric.percent else "")


def _change(value: Value, first: Value, longer: bool) -> Value:
    """With the change from the shortest length, of the values as printed, so that a reader can check it."""
    if not (longer and value.known and first.known):
        return value
    return replace(value, change=float(Decimal(value.digits) - Decimal(first.digits)))
