"""What a table is: rows of values for people, and the same in long form for files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from scaling.figures.results import TOLD_APART, Result, varying
from scaling.figures.values import Metric, Value


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of one row; rows of one group stand together."""

    cells: tuple[Value, ...]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the paper for any study.

    Args:
        number: that of the paper.
        title: what it shows, in words.
        columns: names of the columns; the first `words` hold words, the others numbers.
        rows: for people.
        notes: what the marks mean, and which value is bold.
        long: for files, a row per result.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    words: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    long: tuple[dict[str, Value], ...]


def word(value: object) -> Value:
    """A word or a whole number in a cell."""
    return Value(value) if isinstance(value, int | str) else Value()


def mark_best(values: Sequence[Value], higher: bool) -> list[Value]:
    """The best as printed marked, ties all; nothing where there is one value, or all are equal."""
    printed = {float(value.digits) for value in values if value.known}
    if len(printed) < 2:
        return list(values)
    best = max(printed) if higher else min(printed)
    return [replace(value, best=value.known and float(value.digits) == best) for value in values]


def best_of_groups(values: Sequence[Value], groups: Sequence[object], higher: bool) -> list[Value]:
    """`mark_best` within each group."""
    marked = list(values)
    for group in dict.fromkeys(groups):
        places = [index for index, other in enumerate(groups) if other == group]
        for index, value in zip(places, mark_best([values[index] for index in places], higher), strict=True):
            marked[index] = value
    return marked


def keys_of(
    found: Sequence[Result], names: Iterable[str], apart: Iterable[str] = TOLD_APART
) -> Callable[[Result], dict[str, Value]]:
    """The columns that say what a long row is of, with those that tell its designs apart before them."""
    columns = [*varying(found, apart), *names]
    return lambda result: {column: word(result[column]) for column in columns}


def beside(metrics: dict[str, Value], every: Iterable[dict[str, Value]]) -> dict[str, Value]:
    """Deviations, seeds and statuses of a long row, as columns where any row of the table has them."""
    every = list(every)
    extra: dict[str, Value] = {}
    for name, value in metrics.items():
        if any(row[name].deviation is not None for row in every):
            extra[f"{name}_standard_deviation"] = Value(value.deviation, value.decimals)
    first = next(iter(metrics.values()))
    if extra:
        extra["seeds"] = Value(max(value.seeds for value in metrics.values()) if first.known else None)
    if any(value.note for row in every for value in row.values()):
        extra["status"] = Value(first.note or "done")
    return extra


def long_form(keys: Sequence[dict[str, Value]], metrics: Sequence[dict[str, Value]]) -> tuple[dict[str, Value], ...]:
    """Long rows of keys and metrics, without those that say nothing."""
    pairs = [(key, row) for key, row in zip(keys, metrics, strict=True) if any(v.known or v.note for v in row.values())]
    every = [row for _, row in pairs]
    return tuple(key | row | beside(row, every) for key, row in pairs)


def notes_on(rows: Iterable[Row], published: bool, bold: str = "", metric: Metric | None = None) -> tuple[str, ...]:
    """Footnotes on what stands in the cells."""
    cells = [cell for row in rows for cell in row.cells]
    found = []
    if bold and any(cell.best for cell in cells):
        found.append(f"Bold: {bold}.")
    if metric is not None and not metric.higher_is_better:
        found.append("Lower is better.")
    if any(cell.deviation is not None for cell in cells):
        counts = sorted({cell.seeds for cell in cells if cell.deviation is not None})
        several = " to ".join(map(str, {counts[0]: 0, counts[-1]: 0}))
        single = metric is not None and any(cell.decimals > 0 and cell.seeds == 1 for cell in cells if cell.known)
        found.append(f"Mean ± standard deviation over {several} seeds{'; without ±: one seed' * single}.")
    if any(not cell.known and not cell.note for cell in cells):
        found.append(f"-: {'not reported' if published else 'no finished record'}.")
    told = {"oom": "out of memory", "diverged": "the loss exploded or was no number", "failed": "stopped with an error"}
    found += [f"{name}: {meaning}." for name, meaning in told.items() if any(name in cell.note for cell in cells)]
    return tuple(found)
