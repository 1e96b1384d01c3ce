"""Fit every curve of a table of records, and say which records were left out and why."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.errors import UsageError, nearest
from scaling.laws.fitting import FitError, FitResult, fit_curve
from scaling.records import load_records

if TYPE_CHECKING:
    import pandas as pd

GROUP_COLUMNS = ("task", "architecture", "size", "input_size", "extended_length", "head", "patch_size")
SOURCE_COLUMNS = ("study", "dataset")  # tell curves apart in a table of several studies
# The design column that moves along each axis; curves differ in all the others.
MOVES_ALONG = {"patch_size": "patch_size", "sequence_length": "patch_size", "input_size": "input_size"}


@dataclass(frozen=True)
class CurveFit:
    """One curve of a table: what it shares, its fit, or why there is none."""

    group: dict[str, Any]
    x: str
    y: str
    fit: FitResult | None
    problem: str | None
    left_out: tuple[str, ...]

    @property
    def label(self) -> str:
        """The group in words, such as 'segmentation deit nano 24 linear'."""
        return " ".join(str(value) for value in self.group.values()) or "all records"

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--format json`; an infinite end of an interval is null."""
        about: dict[str, Any] = {"group": self.group, "x": self.x, "y": self.y, "left_out": list(self.left_out)}
        if self.fit is None:
            return about | {"law": None, "problem": self.problem}
        fit = self.fit
        return about | {
            "law": fit.law.name,
            "formula": fit.law.formula,
            "parameters": {name: getattr(fit.law, name) for name in fit.law.parameter_names},
            "intervals": {name: [_finite(end) for end in ends] for name, ends in fit.intervals.items()},
            "level": fit.level,
            "points": fit.n_points,
            "degrees_of_freedom": fit.degrees_of_freedom,
            "relative_error": fit.relative_error,
            "x_range": [float(fit.x.min()), float(fit.x.max())],
            "status": fit.status.name.lower(),
            "notes": list(fit.notes),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def fit(
    source: "pd.DataFrame | str | Path",
    x: str = "patch_size",
    y: str = "test_loss",
    law: str = "auto",
    group_by: list[str] | None = None,
    level: float = 0.95,
) -> list[CurveFit]:
    """Fit a law to every curve of a table.

    Args:
        source: a table of records, or a run directory, CSV or Parquet file to load one from.
        x: column of the scale.
        y: column of what it changes; a loss or an error, positive and falling to a floor.
        law: 'power', 'saturating', or 'auto' for the saturating law where its floor is identified.
        level: of the intervals.
        group_by: columns that tell curves apart; by default the design columns that the table
            has, without the one that moves along x.

    Raises:
        UsageError: for a column that is missing or not a number, or an unknown law.
    """
    import pandas as pd

    table = source if isinstance(source, pd.DataFrame) else load_records(source)
    for column in (x, y, *(group_by or ())):
        if column not in table:
            raise UsageError(f"no column '{column}' in the records; {nearest(column, table.columns)}")
    for column in (x, y):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise UsageError(f"column '{column}' does not hold numbers")
    if group_by is None:
        group_by = default_groups(table, x)
    if not group_by:
        return [_fit_group({}, table, x, y, law, level)]
    groups = table.groupby(group_by, sort=False, dropna=False)
    return [_fit_group(_shared(group_by, key), rows, x, y, law, level) for key, rows in groups]


def default_groups(table: "pd.DataFrame", x: str) -> list[str]:
    """Design columns of the table that tell its curves along x apart."""
    moving = MOVES_ALONG.get(x, "size")
    columns = [column for column in GROUP_COLUMNS if column in table and column != moving]
    columns = [column for column in columns if table[column].notna().any()]
    return [column for column in SOURCE_COLUMNS if column in table and table[column].nunique() > 1] + columns


def _shared(columns: list[str], key: tuple[Any, ...]) -> dict[str, Any]:
    return {column: _plain(value) for column, value in zip(columns, key, strict=True) if value == value}


def _plain(value: Any) -> Any:
    """A Python value; a column with gaps makes whole numbers floats, which is undone here."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _fit_group(group: dict[str, Any], rows: "pd.DataFrame", x: str, y: str, law: str, level: float) -> CurveFit:
    kept, left_out = usable(rows, x, y)
    try:
        return CurveFit(group, x, y, fit_curve(kept[x], kept[y], law, level), None, left_out)
    except FitError as error:
        return CurveFit(group, x, y, None, str(error), left_out)


def usable(rows: "pd.DataFrame", x: str, y: str) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """The rows a fit may use, and a line for each one it may not.

    Used: status 'done' (or no status column) with finite x and y.
    """
    finished = rows["status"].eq("done") if "status" in rows else rows[x].notna()
    known = rows[[x, y]].replace([np.inf, -np.inf], np.nan).notna().all(axis=1)
    reasons = rows["status"].where(~finished, "no value") if "status" in rows else known.map({False: "no value"})
    names = rows["design"] if "design" in rows else rows.index.map("row {}".format).to_series(index=rows.index)
    bad = ~(finished & known)
    return rows[~bad], tuple(f"{name}: {reason}" for name, reason in zip(names[bad], reasons[bad], strict=True))
