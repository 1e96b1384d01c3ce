"""Tables 1 and 4: results over patch sizes, by model and input size."""

from scaling.figures.grids import grids_of, shown_by, together
from scaling.figures.results import TOLD_APART, Result, model_name, varying
from scaling.figures.tables.layout import (
    Row,
    Table,
    best_of_groups,
    keys_of,
    long_form,
    mark_best,
    notes_on,
    word,
)
from scaling.figures.values import Value, level


def by_patch(found: list[Result], published: bool, y: str | None) -> Table:
    """Table 1: a row per model and input size, with the tokens of its smallest patch; bold is the best of a row."""
    metric, shown, values = shown_by(found, y)
    patches = sorted({result["patch_size"] for result in shown}, reverse=True)
    apart = varying(shown, TOLD_APART)
    rows = []
    for places in together(shown, [*apart, "architecture", "size", "input_size"]):
        first = shown[places[0]]
        by_size = {shown[place]["patch_size"]: values[place] for place in places}
        tokens = [shown[place]["sequence_length"] for place in places if values[place].known]
        cells = mark_best([by_size.get(patch, Value()) for patch in patches], metric.higher_is_better)
        words = [word(model_name(first)), *(word(first[column]) for column in apart), _square(first)]
        longest = word(max((length for length in tokens if length), default=None))
        rows.append(Row((*words, *cells, longest), model_name(first)))
    columns = ("Model", *map(str.capitalize, apart), "Input", *(f"p={patch}" for patch in patches), "Tokens")
    notes = (
        *notes_on(rows, published, "the best of a row", metric),
        "Tokens: those of the smallest patch with a result.",
    )
    keys = keys_of(shown, ("architecture", "size", "input_size", "patch_size", "sequence_length"))
    long = long_form([keys(result) for result in shown], [{metric.csv_name: value} for value in values])
    title = f"{metric.title} by patch size p"
    return Table(1, title, columns, 2 + len(apart), tuple(rows), notes, long)


def by_patch_and_size(found: list[Result], published: bool, y: str | None) -> Table:
    """Table 4: patch size against model size; bold is the best of an architecture and input size."""
    metric, shown, _ = shown_by(found, y)
    grids = grids_of(shown)
    shown = [result for grid in grids for result in grid]
    groups = [place for place, grid in enumerate(grids) for _ in grid]
    values = level([result.value(metric) for result in shown])
    patches = sorted({result["patch_size"] for result in shown}, reverse=True)
    marked = best_of_groups(values, groups, metric.higher_is_better)
    apart = varying(shown, TOLD_APART)
    rows = []
    for places in together(shown, [*apart, "architecture", "input_size", "size"]):
        first = shown[places[0]]
        by_size = {shown[place]["patch_size"]: marked[place] for place in places}
        words = [word(model_name(first)), *(word(first[column]) for column in apart), _square(first)]
        cells = [by_size.get(patch, Value()) for patch in patches]
        rows.append(Row((*words, *cells), str(groups[places[0]])))
    columns = ("Model", *map(str.capitalize, apart), "Input", *(f"{patch}×{patch}" for patch in patches))
    notes = notes_on(rows, published, "the best of an architecture and input size", metric)
    keys = keys_of(shown, ("architecture", "size", "input_size", "patch_size"))
    long = long_form([keys(result) for result in shown], [{metric.csv_name: value} for value in values])
    title = f"{metric.title} by patch size and model size"
    return Table(4, title, columns, 2 + len(apart), tuple(rows), notes, long)


def _square(result: Result) -> Value:
    side = result["input_size"]
    return word(f"{side}×{side}") if side else Value()
