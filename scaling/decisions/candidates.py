"""Designs that were tried: one candidate for each, with its three costs and what it reached."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scaling.decisions.outcomes import Array, CompareError, Outcome
from scaling.errors import UsageError, nearest

if TYPE_CHECKING:
    import pandas as pd

FIELDS = ("architecture", "size", "patch_size", "input_size", "head", "extended_length", "sequence_length")
DESCRIBING = ("design", "architecture", "size", "patch_size", "input_size")
COSTS = ("flops", "memory", "hours")
# For each cost the columns to take it from: those that most designs have, the first of equals; of two, the product.
SOURCES: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "flops": (
        (("training_flops_per_image", "images_seen"), "FLOPs of the training, counted on the model"),
        (("training_flops_per_image",), "training FLOPs per image, counted on the model"),
        (("estimated_training_flops_per_image",), "training FLOPs per image, estimated"),
    ),
    "memory": (
        (("peak_memory_bytes_per_image",), "peak memory per image, measured"),
        (("activation_bytes_per_image",), "bytes saved for backward per image, counted on the model"),
        (("estimated_activation_bytes_per_image",), "bytes saved for backward per image, estimated"),
    ),
    "hours": (
        (("gpu_hours",), "GPU-hours of the training, measured"),
        (("training_seconds",), "seconds of the training, measured"),
        (("gpu_hours_per_epoch",), "GPU-hours per epoch, as published"),
        (("estimated_gpu_hours_per_epoch",), "GPU-hours per epoch, estimated"),
    ),
}
OF_A_TRAINING = {"images_seen", "gpu_hours", "training_seconds"}  # a training that was cut short has a part of them
PARAMETERS = ("parameters", "estimated_parameters")
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One design: what it is, costs and reached."""

    design: str
    fields: dict[str, Any]
    """Values of FIELDS; None where a design has none."""
    parameters: float | None
    costs: dict[str, float]
    """By cost; without those that are not known."""
    results: Array
    """(S,) of the outcome, one per seed; empty for a design without."""
    reading_error: float
    status: str
    recipe: dict[str, Any]
    """Columns recipe.* of its training."""

    @property
    def value(self) -> float | None:
        """Mean over seeds."""
        return float(self.results.mean()) if len(self.results) else None


@dataclass(frozen=True, slots=True)
class Field:
    """All candidates of one task and data set, and where their costs come from."""

    candidates: tuple[Candidate, ...]
    outcome: Outcome
    cost_words: dict[str, str]
    task: str
    dataset: str

    def find(self, design: str) -> Candidate:
        """The candidate of a short name.

        Raises:
            UsageError: if it has no result, such as one out of memory.
        """
        found = next(candidate for candidate in self.candidates if candidate.design == design)
        if found.value is None:
            raise UsageError(f"{design} has no {self.outcome.label} ({found.status}); start from another design")
        return found


def of_task(table: "pd.DataFrame", task: str | None) -> "pd.DataFrame":
    """The rows of a task; all of them where none is named.

    Raises:
        UsageError: for a task that no record is of.
    """
    if task is None:
        return table
    known = list(map(str, table["task"].dropna().unique())) if "task" in table else []
    if task not in known:
        raise UsageError(f"--task '{task}': no record is of it; {nearest(task, known)}")
    return table[table["task"] == task]


def gather_candidates(table: "pd.DataFrame", outcome: Outcome, design: str | None = None) -> Field:
    """Candidates of the task and data set that `design` belongs to, or of the first of those with most results.

    Raises:
        CompareError: if no design has a result, or the table has no designs.
        UsageError: if the design is not among the records, has no result, or is in several data sets.
    """
    missing = [name for name in DESCRIBING if name not in table]
    if missing:
        raise CompareError(f"no column '{missing[0]}' in the records: only designs can be compared")
    rows = _of_one_task(table[table[list(DESCRIBING)].notna().all(axis=1)], outcome, design)
    rows = _without_copies(rows, outcome)
    finished = rows[_finished(rows, outcome)]
    columns = {cost: _source(finished, cost) for cost in COSTS}
    words = {cost: source[1] for cost, source in columns.items() if source}
    parameters = max(PARAMETERS, key=lambda name: _known(rows, (name,)))
    results = _by_design(finished)
    candidates = tuple(
        _candidate(name, records, results.get(name, []), outcome, columns, parameters)
        for name, records in _by_design(rows).items()
    )
    task, dataset = (str(_plain(rows.iloc[0].get(key)) or "") for key in ("task", "dataset"))
    return Field(candidates, outcome, words, task, dataset)


def _of_one_task(table: "pd.DataFrame", outcome: Outcome, design: str | None) -> "pd.DataFrame":
    keys = [key for key in ("task", "dataset") if key in table and table[key].notna().any()]
    asked = table if design is None else table[table["design"] == design]
    if asked.empty and design is not None:
        raise UsageError(f"'{design}' is not among the records: {nearest(design, map(str, table['design'].unique()))}")
    with_result = asked[asked[outcome.column].notna()]
    if with_result.empty and design is not None:
        status = f" ({asked['status'].iloc[0]})" if "status" in asked else ""
        raise UsageError(f"{design} has no {outcome.label}{status}; start from another design")
    if with_result.empty:
        raise CompareError(f"no record of a design has {outcome.label}; nothing to compare")
    if not keys:
        return table
    counts = with_result.groupby(keys, sort=False).size().sort_values(ascending=False, kind="stable")
    groups = counts.index.to_frame().to_numpy().tolist()
    if design is not None and len(groups) > 1:
        names = ", ".join(" on ".join(map(str, key)) for key in groups)
        raise UsageError(f"{design} is in the records more than once ({names}); give --task, or a table of one of them")
    return table[(table[keys] == list(groups[0])).all(axis=1)]


def _without_copies(rows: "pd.DataFrame", outcome: Outcome) -> "pd.DataFrame":
    """The rows without exact copies; repeats are trainings with different seeds.

    Raises:
        CompareError: for two results of one design and seed.
    """
    rows = rows[~rows.astype(str).duplicated()]
    if "seed" not in rows:
        return rows
    known = rows[rows[outcome.column].notna() & rows["seed"].notna()]
    twice = known[known.duplicated(["design", "seed"])]
    if len(twice):
        design, seed = twice["design"].iloc[0], twice["seed"].iloc[0]
        raise CompareError(
            f"{design} has several results of seed {seed:g}: of one study each, or with other settings? "
            "Give a table with one of them"
        )
    return rows


def _by_design(rows: "pd.DataFrame") -> dict[str, list[Record]]:
    of_designs: dict[str, list[Record]] = {}
    for record in rows.to_dict("records"):
        of_designs.setdefault(str(record["design"]), []).append(record)  # pyright: ignore[reportArgumentType]
    return of_designs


def _finished(rows: "pd.DataFrame", outcome: Outcome) -> "pd.Series[bool]":
    done = rows["status"].fillna("done") == "done" if "status" in rows else True
    return rows[outcome.column].notna() & done


def _source(rows: "pd.DataFrame", cost: str) -> tuple[tuple[str, ...], str] | None:
    """Where a cost is known of most designs; one source, since costs of two kinds have no ratio."""
    known = [_known(rows, source[0]) for source in SOURCES[cost]]
    return SOURCES[cost][known.index(max(known))] if max(known) else None


def _known(rows: "pd.DataFrame", columns: tuple[str, ...]) -> int:
    """Number of designs with numbers in all the columns."""
    if not all(column in rows for column in columns):
        return 0
    known = np.isfinite(rows[list(columns)].to_numpy(float)).all(axis=1)
    return len(set(rows["design"].to_numpy()[known]))


def _candidate(
    name: str,
    records: list[Record],
    results: list[Record],
    outcome: Outcome,
    columns: dict[str, tuple[tuple[str, ...], str] | None],
    parameters: str,
) -> Candidate:
    values = np.array([_number(each, outcome.column) for each in results], float)
    possible = outcome.possible(values)
    used = [each for each, kept in zip(results, possible, strict=True) if kept]
    costs = {cost: _cost(source[0], results, records) for cost, source in columns.items() if source}
    reading = "test_loss_reading_error" if outcome.is_loss else "metric_reading_error"
    first = records[0]
    trained = used[0] if used else first
    return Candidate(
        design=name,
        fields={key: _plain(first.get(key)) for key in FIELDS},
        parameters=_mean(records, (parameters,)),
        costs={cost: value for cost, value in costs.items() if value is not None and value > 0},
        results=values[possible],
        reading_error=max((_number(each, reading) or 0.0 for each in used), default=0.0),
        status=_status(first, values, possible, outcome),
        recipe={key: value for key, value in trained.items() if key.startswith("recipe.") and value == value},
    )


def _status(first: Record, values: Array, possible: Array, outcome: Outcome) -> str:
    """What became of a design, with why a value cannot be used."""
    if possible.any():
        return "done"
    if len(values):
        return f"{outcome.label} {values[0]:g}"
    return str(first.get("status", "no result"))


def _cost(columns: tuple[str, ...], finished: list[Record], records: list[Record]) -> float | None:
    """Of finished trainings; of a design without one what holds of any, such as FLOPs per image."""
    return _mean(finished if finished or OF_A_TRAINING & set(columns) else records, columns)


def _mean(records: list[Record], columns: tuple[str, ...]) -> float | None:
    """Of the products of columns, over the records that have all of them."""
    rows = [[value for column in columns if (value := _number(each, column)) is not None] for each in records]
    known = [math.prod(row) for row in rows if len(row) == len(columns)]
    finite = [each for each in known if math.isfinite(each)]
    return sum(finite) / len(finite) if finite else None


def _number(record: Record, column: str) -> float | None:
    """A record's value; None where it has none."""
    value = record.get(column)
    return None if value is None or value != value else float(value)


def _plain(value: Any) -> Any:
    if value is None or value != value:
        return None
    return int(value) if isinstance(value, float | np.number) else value
