"""Fit the curves of a table of records, and say which rows were left out and why."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.errors import UsageError
from scaling.laws.choosing import fit_or_choose
from scaling.laws.columns import (
    Question,
    check_columns,
    decide_link,
    default_groups,
    default_x,
    training_flops,
    with_products,
)
from scaling.laws.extrapolation import extrapolate
from scaling.laws.fitting import Options
from scaling.laws.law import Law
from scaling.laws.points import FitError, Link, Points, gather
from scaling.laws.repeats import pooled_error
from scaling.laws.results import FitResult
from scaling.records import count_records, load_records

if TYPE_CHECKING:
    import pandas as pd


MEASURED = "measured"  # of records; published ones state some results and not others


@dataclass(frozen=True, slots=True)
class Unfitted:
    """A curve that no law could be fitted to."""

    group: dict[str, Any]
    problem: str
    left_out: tuple[str, ...]

    @property
    def label(self) -> str:
        """The group in words."""
        return " ".join(str(value) for value in self.group.values()) or "all records"

    @property
    def notes(self) -> tuple[str, ...]:
        """The problem, where a result has what to know before quoting it."""
        return (self.problem,)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"group": self.group, "law": None, "problem": self.problem, "points_left_out": list(self.left_out)}


def fit(
    source: "pd.DataFrame | str | Path",
    law: str | Law = "auto",
    x: str | Sequence[str] | None = None,
    y: str = "test_loss",
    **options: Any,
) -> FitResult:
    """Fit a law to a table that holds one curve; the arguments are those of `fit_groups`.

    Raises:
        FitError: if the rows cannot carry the law.
        UsageError: if the table holds several curves, or as `fit_groups` does.
    """
    results = fit_groups(source, law, x, y, **options)
    if len(results) > 1:
        raise UsageError(
            f"the table holds {len(results)} curves ({results[0].label}, ...); use fit_groups, or filter it"
        )
    if isinstance(results[0], Unfitted):
        raise FitError(results[0].problem)
    return results[0]


def fit_groups(
    source: "pd.DataFrame | str | Path",
    law: str | Law = "auto",
    x: str | Sequence[str] | None = None,
    y: str = "test_loss",
    group_by: str | Sequence[str] | None = None,
    *,
    hold_out: str | None = None,
    hold_out_compute: float | None = None,
    link: Link | None = None,
    errors: str | None = None,
    clusters: str | None = None,
    options: Options | None = None,
) -> list[FitResult | Unfitted]:
    """Fit a law to every curve of a table.

    Args:
        source: a table of records, or a run directory, CSV or Parquet file to load one from.
        law: a name of `LAWS`, a law of your own, or 'auto' to choose one for each curve.
        x: column of the scale, or several in the order of the law's symbols; by default what varies.
            'patch_area' and 'training_flops' are made of other columns where the table lacks them.
        y: column of what it changes.
        group_by: columns that tell curves apart; by default the design columns that the table has,
            without those that move along x.
        hold_out: expression over columns, such as 'patch_size < 4'; its rows are predicted, not fitted.
        hold_out_compute: share of each curve's usable rows, those with the most training FLOPs, that are predicted.
        link: 'error' or 'accuracy' for rates, 'error-percent' or 'accuracy-percent' for percentages, fitted by
            their odds; by default accuracies are known by the name of y.
        errors: column of standard errors of y, for weights.
        clusters: column of clusters, for the group bootstrap.
        options: how to fit.

    Raises:
        UsageError: for a column that is missing or not a number, an unknown law, or a bad expression.
    """
    import pandas as pd

    table = source if isinstance(source, pd.DataFrame) else load_records(source)
    options = options or Options()
    x = default_x(table) if x is None else x
    group_by = [group_by] if isinstance(group_by, str) else group_by
    question = Question((x,) if isinstance(x, str) else tuple(x), y, law, "none", errors, clusters)
    table = with_products(table, question.x)
    check_columns(table, question, group_by or ())
    question = replace(question, link=decide_link(table[y], y, link))
    table = stating(table, y)
    group_by = default_groups(table, question.x) if group_by is None else list(group_by)
    table = _with_held_out(table, hold_out, hold_out_compute)
    groups = [({}, table)]
    if group_by:
        found = table.groupby(group_by, sort=False, dropna=False)
        groups = [(_shared(group_by, key), rows) for key, rows in found]
    _check_one_task(rows for _, rows in groups)
    curves = [_gather_curve(group, rows, question, options, hold_out_compute) for group, rows in groups]
    if options.noise == "pooled":
        options = _with_pooled_noise(curves, question, options)
    return [_fit_curve(curve, question, options) for curve in curves]


def _check_one_task(curves: Iterable["pd.DataFrame"]) -> None:
    """Raise UsageError where a curve has the boxes' loss and the masks' loss of a detector."""
    for rows in curves:
        if {"cell", "task"} <= set(rows) and count_records(rows) < len(rows[["cell", "task"]].drop_duplicates()):
            raise UsageError("a curve would mix boxes and masks of the same cells; add task to --group-by")


def stating(table: "pd.DataFrame", y: str) -> "pd.DataFrame":
    """The table without published records that state something else than y; all of it if none states y."""
    if "source" not in table or not table[y].notna().any():
        return table
    return table[table[y].notna() | table["source"].eq(MEASURED)]


def rows_where(table: "pd.DataFrame", expression: str, option: str = "--hold-out") -> "pd.Series":
    """For which rows an expression such as 'patch_size < 4' holds, a Boolean column.

    Raises:
        UsageError: for one that is not a condition on rows, or holds for none.
    """
    import pandas as pd

    try:
        found = table.eval(expression, engine="python")
    except Exception as error:  # a user's expression fails in any way
        raise UsageError(f"{option} '{expression}': {type(error).__name__}: {error}") from None
    if not isinstance(found, pd.Series) or not pd.api.types.is_bool_dtype(found):
        raise UsageError(f"{option} '{expression}' is not a condition on rows, such as 'patch_size < 4'")
    found = found.fillna(False).astype(bool)
    if not found.any():
        raise UsageError(f"{option} '{expression}': no row is so")
    return found


def _with_held_out(table: "pd.DataFrame", expression: str | None, share: float | None) -> "pd.DataFrame":
    """The table with what says which rows are held out: the expression's truth, and compute for a share of it."""
    import pandas as pd

    held = pd.Series(False, index=table.index) if expression is None else rows_where(table, expression)
    if share is None:
        return table.assign(__held=held)
    if not 0 < share < 1:
        raise UsageError(f"--hold-out-compute: {share:.0%} is not between 0 % and 100 %")
    return table.assign(__held=held, __compute=training_flops(table))


def _held_out(rows: "pd.DataFrame", share: float | None) -> "pd.Series":
    """Which of a curve's usable rows are held out, a Boolean column."""
    if share is None:
        return rows["__held"]
    return rows["__held"] | (rows["__compute"] >= rows["__compute"].quantile(1 - share))


def _shared(columns: list[str], key: tuple[Any, ...]) -> dict[str, Any]:
    return {column: _plain(value) for column, value in zip(columns, key, strict=True) if value == value}


def _plain(value: Any) -> Any:
    """A Python value; a column with gaps makes whole numbers floats, which is undone here."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """The points of one group of rows."""

    group: dict[str, Any]
    left_out: tuple[str, ...]
    points: Points
    clusters: Any
    held: Points | None


def _gather_curve(
    group: dict[str, Any], rows: "pd.DataFrame", question: Question, options: Options, share: float | None
) -> _Curve | Unfitted:
    kept, left_out = usable(rows, *question.x, question.y, *([question.errors] if question.errors else []))
    try:
        mask = _held_out(kept, share)
        held, seen = kept[mask], kept[~mask]
        if held.empty and rows["__held"].any():
            raise FitError("no row that is held out has a value")
        if seen.empty and not held.empty:
            raise FitError("all its rows are held out")
        points, clusters = _points(seen, question, options)
        later = None if held.empty else _points(held, question, replace(options, tail_weight=0.0))[0]
        return _Curve(group, left_out, points, clusters, later)
    except FitError as error:
        return Unfitted(group, str(error), left_out)


def _with_pooled_noise(curves: list[_Curve | Unfitted], question: Question, options: Options) -> Options:
    """The options with the scatter of the repeats of all curves."""
    if question.errors:
        raise UsageError(f"--noise pooled with --errors {question.errors}: weights of two curves have no common unit")
    pooled = pooled_error(curve.points for curve in curves if isinstance(curve, _Curve))
    if pooled is None:
        raise UsageError("--noise pooled: no curve has two rows at the same x; use --noise residuals")
    return replace(options, pooled=pooled)


def _fit_curve(curve: _Curve | Unfitted, question: Question, options: Options) -> FitResult | Unfitted:
    if isinstance(curve, Unfitted):
        return curve
    try:
        fitted, choice = fit_or_choose(curve.points, question.law, question.x, options, curve.clusters)
        extrapolation = None
        if curve.held is not None:
            averaged = question.law == "auto" and options.tail_weight == 0
            extrapolation = extrapolate(fitted, curve.held, averaged)
        return FitResult(fitted, question.x, question.y, curve.group, curve.left_out, choice, extrapolation)
    except FitError as error:
        return Unfitted(curve.group, str(error), curve.left_out)


def _points(rows: "pd.DataFrame", question: Question, options: Options) -> tuple[Points, Any]:
    if rows.empty:
        raise FitError("no row has a value to fit")
    scales = rows[list(question.x)].to_numpy(float).T
    y = rows[question.y].to_numpy(float)
    errors = rows[question.errors].to_numpy(float) if question.errors else None
    points = gather(scales, y, errors, question.link, options.tail_weight, options.residual == "linear")
    clusters = None
    if question.clusters:
        order = np.lexsort((points.to_link(y), *scales[::-1]))
        clusters = rows[question.clusters].astype(str).to_numpy()[order]
    return points, clusters


def usable(rows: "pd.DataFrame", *columns: str) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """The rows a fit may use, and a line for each one it may not.

    Used: status 'done' (or no status column), with finite values, and not a copy of another row.
    """
    finished = rows["status"].eq("done") if "status" in rows else rows[columns[0]].notna() | True
    known = rows[list(columns)].replace([np.inf, -np.inf], np.nan).notna().all(axis=1)
    copies = finished & known & rows.astype(str).duplicated()
    reasons = copies.map({True: "copy of another row", False: "no value"})
    if "status" in rows:
        reasons = rows["status"].where(~finished, reasons)
    names = rows["design"] if "design" in rows else rows.index.map("row {}".format).to_series(index=rows.index)
    bad = ~(finished & known) | copies
    return rows[~bad], tuple(f"{name}: {reason}" for name, reason in zip(names[bad], reasons[bad], strict=True))


def parse_share(text: str) -> float:
    """'50%' or '0.5' as a share.

    Raises:
        UsageError: for anything else.
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"'{text}' is not a share such as 50% or 0.5") from None
    if not math.isfinite(value):
        raise UsageError(f"'{text}' is not a share such as 50% or 0.5")
    return value
