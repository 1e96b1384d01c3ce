"""Results of designs over their seeds: what tables print and figures of grids draw."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scaling.design import known_architectures
from scaling.errors import UsageError, nearest
from scaling.figures.material import FigureError
from scaling.figures.sizes import size_rank
from scaling.figures.values import CHOSEN_FROM, METRICS, Metric, Value, certain
from scaling.figures.words import NAMES
from scaling.records import BOXES, MASKS

if TYPE_CHECKING:
    import pandas as pd

ATTEMPTED = ("oom", "diverged", "failed")
"""Statuses that are shown in place of a result."""
DESIGN_COLUMNS = (
    *("study", "dataset", "task", "architecture", "size", "head", "input_size", "patch_size", "extended_length"),
)
TOLD_APART = ("study", "dataset", "task", "head")
"""Columns that a table or a panel names where its designs differ in them."""
HEAD_ORDER = ("upernet", "cascade", "linear")
ARCHITECTURES = list(known_architectures())


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one design: its columns, its records, and its values by metric."""

    design: dict[str, Any]
    records: "pd.DataFrame"

    def __getitem__(self, column: str) -> Any:
        return self.design.get(column)

    @property
    def without_task(self) -> tuple[Any, ...]:
        """What a detector's boxes and masks have in common."""
        return tuple(self[column] for column in DESIGN_COLUMNS if column != "task")

    @property
    def published(self) -> bool:
        """Whether a source states every record of it."""
        return "reference" in self.records and bool(self.records["reference"].notna().all())

    def mean(self, column: str) -> float | None:
        """Mean of a column of costs over the records that have it."""
        if column not in self.records or self.records[column].isna().all():
            return None
        return float(self.records[column].dropna().mean())

    def value(self, metric: Metric) -> Value:
        """Mean over seeds with its standard deviation, or the status that stands in its place."""
        done = self._done(metric.column)
        lost = self.records["status"][self.records["status"].isin(ATTEMPTED)] if "status" in self.records else []
        counts = {status: list(lost).count(status) for status in ATTEMPTED if status in list(lost)}
        if done.empty:
            return Value(note=", ".join(counts))
        values = done[metric.column].astype(float) * metric.factor
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        decimals = _decimals(done, metric, deviation)
        beside = ", ".join(f"{count} {status}" for status, count in counts.items())
        return Value(float(values.mean()), decimals, deviation, len(values), beside)

    def _done(self, column: str) -> "pd.DataFrame":
        if column not in self.records:
            return self.records[:0]
        rows = self.records[self.records[column].notna()]
        rows = rows[rows["status"].eq("done")] if "status" in rows else rows
        rows = rows.drop_duplicates([name for name in ("seed", column) if name in rows])
        if len(rows) > 1 and ("seed" not in rows or rows["seed"].duplicated().any()):
            raise FigureError(
                f"{self['design']}: several records of one seed with different {column}; leave one of them, "
                "or give each its own name in the column study"
            )
        return rows


def results(table: "pd.DataFrame") -> list[Result]:
    """Every design of a table of records once, from small to large model, input and sequence."""
    if not {"architecture", "size", "patch_size"} <= set(table):
        raise FigureError("the table has no columns architecture, size and patch_size; give records of designs")
    table = table[table[["architecture", "size", "patch_size"]].notna().all(axis=1)]
    keys = [column for column in DESIGN_COLUMNS if column in table]
    found = []
    for values, rows in table.groupby(keys, dropna=False, sort=False):
        known = {key: None if value != value else value for key, value in zip(keys, values, strict=True)}
        whole = {key: int(value) if isinstance(value, float) else value for key, value in known.items()}
        length = Result(whole, rows).mean("sequence_length")
        whole["sequence_length"] = None if length is None else int(length)
        whole["design"] = (
            str(rows["design"].iloc[0]) if "design" in rows else f"{whole['architecture']}-{whole['size']}"
        )
        found.append(Result(whole, rows))
    return sorted(found, key=_rank)


def each_trained(found: Iterable[Result]) -> list[Result]:
    """Results of different trainings: without the masks of detectors whose boxes are a result of their own."""
    found = list(found)
    of_boxes = {result.without_task for result in found if result["task"] == BOXES}
    return [result for result in found if result["task"] != MASKS or result.without_task not in of_boxes]


def choose_metric(found: Iterable[Result], y: str | None = None, among: Iterable[str] = CHOSEN_FROM) -> Metric:
    """The metric asked for, or the first of these that a finished record has.

    Raises:
        UsageError: for a metric that does not exist.
        FigureError: if no finished record has it.
    """
    if y is not None and y not in METRICS:
        raise UsageError(f"no metric '{y}': {nearest(y, METRICS)}")
    names = [y] if y is not None else list(among)
    found = list(found)
    for name in names:
        if any(result.value(METRICS[name]).known for result in found):
            return METRICS[name]
    raise FigureError(f"no finished record has {' or '.join(names)}")


def plain(found: Iterable[Result]) -> list[Result]:
    """Designs without extended tokens."""
    return [result for result in found if not result["extended_length"]]


def varying(found: Iterable[Result], columns: Iterable[str]) -> list[str]:
    """Those of the columns in which the designs differ."""
    found = list(found)
    return [column for column in columns if len({result[column] for result in found}) > 1]


def model_name(result: Result) -> str:
    """Such as 'DeiT-Base'; a size of its own as it is written."""
    return f"{architecture_name(result['architecture'])}-{str(result['size']).capitalize()}"


def architecture_name(architecture: str) -> str:
    """Such as 'DeiT'."""
    return NAMES.get(architecture, architecture.capitalize())


def _decimals(rows: "pd.DataFrame", metric: Metric, deviation: float | None) -> int:
    """Digits that a result deserves: as printed, else down to its uncertainty, else 0.1 % or 0.001."""
    reading = "metric_reading_error" if metric.percent else "test_loss_reading_error"
    error = rows[reading].max() if reading in rows else math.nan
    if error == error and error:
        return max(0, math.ceil(-math.log10(2 * error * metric.factor) - 1e-6))
    sampling = f"{metric.column}_standard_error"
    spread = deviation or (rows[sampling].max() * metric.factor if sampling in rows else math.nan)
    if spread != spread or not spread:
        return 1 if metric.percent else 3
    return certain(spread)


def _rank(result: Result) -> tuple[Any, ...]:
    """Architectures as they are known, models by size, heads, inputs small to large, patches large to small."""
    architecture, head = result["architecture"], result["head"]
    return (
        str(result["study"] or ""),
        str(result["task"] or ""),
        ARCHITECTURES.index(architecture) if architecture in ARCHITECTURES else len(ARCHITECTURES),
        architecture,
        size_rank(architecture, result["size"]),
        HEAD_ORDER.index(head) if head in HEAD_ORDER else -1,
        result["input_size"] or 0,
        -result["patch_size"],
        result["extended_length"] or 0,
    )
