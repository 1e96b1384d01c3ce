"""Tables 1 and 4: results over patch sizes, by model and input size."""

from collections.abc import Sequence
from typing import Any

from scaling.figures.material import FigureError
from scaling.figures.results import Metric, Result, Value, choose_metric, model_name, plain, size_rank, varying
from scaling.figures.tables.layout import (
    TOLD_APART,
    Row,
    Table,
    best_of_groups,
    keys_of,
    level,
    long_form,
    mark_best,
    notes_on,
    word,
)


def by_patch(found: list[Result], published: bool, y: str | None) -> Table:
    """Table 1: a row per model and input size, with the tokens of its smallest patch; bold is the best of a row."""
    metric, shown, values = _shown(found, y)
    patches = sorted({result["patch_size"] for result in shown}, reverse=True)
    apart = varying(shown, TOLD_APART)
    rows = []
    for places in _together(shown, [*apart, "architecture", "size", "input_size"]):
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
    title = f"{_upper(metric.unit)} by patch size p"
    return Table(1, title, columns, 2 + len(apart), tuple(rows), notes, long)


def by_patch_and_size(found: list[Result], published: bool, y: str | None) -> Table:
    """Table 4: patch size against model size; bold is the best of an architecture and input size."""
    metric, shown, _ = _shown(found, y)
    shown, grids = grids_of(shown)
    values = level([result.value(metric) for result in shown])
    patches = sorted({result["patch_size"] for result in shown}, reverse=True)
    marked = best_of_groups(values, grids, metric.higher_is_better)
    apart = varying(shown, TOLD_APART)
    rows = []
    for places in _together(shown, [*apart, "architecture", "input_size", "size"]):
        first = shown[places[0]]
        by_size = {shown[place]["patch_size"]: marked[place] for place in places}
        words = [word(model_name(first)), *(word(first[column]) for column in apart), _square(first)]
        cells = [by_size.get(patch, Value()) for patch in patches]
        rows.append(Row((*words, *cells), str(grids[places[0]])))
    columns = ("Model", *map(str.capitalize, apart), "Input", *(f"{patch}×{patch}" for patch in patches))
    notes = notes_on(rows, published, "the best of an architecture and input size", metric)
    keys = keys_of(shown, ("architecture", "size", "input_size", "patch_size"))
    long = long_form([keys(result) for result in shown], [{metric.csv_name: value} for value in values])
    title = f"{_upper(metric.unit)} by patch size and model size"
    return Table(4, title, columns, 2 + len(apart), tuple(rows), notes, long)


def grids_of(found: Sequence[Result]) -> tuple[list[Result], list[tuple[Any, ...]]]:
    """Designs of grids with two model sizes and two patch sizes or more, grid by grid, and the grid of each.

    Raises:
        FigureError: if there is none.
    """
    keys = [*TOLD_APART, "architecture", "input_size"]
    kept, grids = [], []
    for places in _together(found, keys):
        members = [found[place] for place in places]
        if all(varying(members, [axis]) for axis in ("size", "patch_size")):
            kept += members
            grids += [tuple(members[0][key] for key in keys)] * len(members)
    if not kept:
        lacking = "size" if varying(found, ["patch_size"]) else "patch_size"
        words = {"size": "model size", "patch_size": "patch size"}
        pattern = {"size": "'*-micro/*'", "patch_size": "'*/8@*'"}[lacking]
        raise FigureError(
            f"no architecture and input size with two model sizes and two patch sizes; the records have one "
            f"{words[lacking]} of each\nadd one to grid.{lacking}s of the study, then run it, for example: "
            f"scaling run-grid STUDY --only {pattern}"
        )
    return kept, grids


def _shown(found: list[Result], y: str | None) -> tuple[Metric, list[Result], list[Value]]:
    """Designs with a result, or with what became of them instead; of the tasks that the metric is of."""
    metric = choose_metric(plain(found), y)
    tasks = {result["task"] for result in plain(found) if result.value(metric).known}
    of_tasks = [result for result in plain(found) if result["task"] in tasks]
    shown = [result for result in of_tasks if result.value(metric).known or result.value(metric).note]
    return metric, shown, level([result.value(metric) for result in shown])


def _together(found: Sequence[Result], columns: Sequence[str]) -> list[list[int]]:
    """Places of the designs that agree in the columns, in the order of architectures, sizes and inputs."""
    order = {column: list(dict.fromkeys(result[column] for result in found)) for column in columns}
    order["input_size"] = sorted(order.get("input_size", []), key=lambda size: size or 0)
    ranks = {result["size"]: size_rank(result["architecture"], result["size"]) for result in found}
    order["size"] = sorted(ranks, key=ranks.__getitem__)
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, result in enumerate(found):
        groups.setdefault(tuple(order[column].index(result[column]) for column in columns), []).append(place)
    return [groups[key] for key in sorted(groups)]


def _square(result: Result) -> Value:
    side = result["input_size"]
    return word(f"{side}×{side}") if side else Value()


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
