"""What the columns of a table mean: which is the scale, which tell curves apart, and what can be made of others."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.errors import UsageError, nearest
from scaling.laws.catalogue import LAWS, find_law
from scaling.laws.choosing import law_family
from scaling.laws.law import Law
from scaling.laws.points import LINKS, Link

if TYPE_CHECKING:
    import pandas as pd

GROUP_COLUMNS = ("task", "architecture", "size", "input_size", "extended_length", "head", "patch_size")
SOURCE_COLUMNS = ("study", "dataset")  # tell curves apart in a table of several studies
# The design column that moves along each axis; curves differ in all the others.
MOVES_ALONG = {
    "patch_size": "patch_size",
    "patch_area": "patch_size",
    "sequence_length": "patch_size",
    "input_size": "input_size",
    "images_seen": "images_seen",
}
SCALES = ("patch_size", "parameters", "input_size", "images_seen")
ROLES = {"patch": "p", "parameters": "N", "input_size": "R", "images_seen": "D", "tokens": "D", "samples": "D"}
"""Symbols of scales by how their columns' names start."""
MODEL_SIZE = "size"  # what parameters and FLOPs move along
PRODUCTS = {
    "patch_area": ("patch_size", "patch_size"),
    "training_flops": ("training_flops_per_image", "images_seen"),
}
"""Columns that are made of others where a table lacks them, as the product of their parts."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is fitted in a table."""

    x: tuple[str, ...]
    y: str
    law: str | Law = "auto"
    link: Link = "none"
    errors: str | None = None
    clusters: str | None = None


def default_x(table: "pd.DataFrame") -> str:
    """The scale that a table varies: patch size if it does, else parameters, input size or images seen."""
    varied = [name for name in SCALES if name in table and table[name].nunique() > 1]
    return varied[0] if varied else SCALES[0]


def default_groups(table: "pd.DataFrame", x: str | Iterable[str]) -> list[str]:
    """Design columns of the table that tell its curves along x apart."""
    columns = (x,) if isinstance(x, str) else tuple(x)
    moving = {MOVES_ALONG.get(column, MODEL_SIZE) for column in columns}
    found = [column for column in GROUP_COLUMNS if column in table and column not in moving | set(columns)]
    found = [column for column in found if table[column].notna().any()]
    return [column for column in SOURCE_COLUMNS if column in table and table[column].nunique() > 1] + found


def with_products(table: "pd.DataFrame", columns: Iterable[str]) -> "pd.DataFrame":
    """The table with those of the columns that it lacks and whose parts it has.

    Raises:
        UsageError: for a part that does not hold numbers.
    """
    for column in columns:
        parts = PRODUCTS.get(column, ())
        if column not in table and parts and set(parts) <= set(table):
            _check_numbers(table, parts)
            table = table.assign(**{column: _product(table, parts)})
    return table


def _product(table: "pd.DataFrame", columns: Iterable[str]) -> "pd.Series":
    """The rows' products, as real numbers: FLOPs of a training overflow 64 bits."""
    return table[list(columns)].astype(float).prod(axis=1, skipna=False)


def _check_numbers(table: "pd.DataFrame", columns: Iterable[str]) -> None:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for column in columns:
        if len(table) and table[column].isna().all():
            counts = table["status"].value_counts() if "status" in table else {}
            told = ", ".join(f"{count} {status}" for status, count in counts.items())
            raise UsageError(f"no record has a {column}" + (f" ({told})" if told else ""))
        if not is_numeric_dtype(table[column]) or is_bool_dtype(table[column]):
            raise UsageError(f"column '{column}' does not hold numbers")


def check_columns(table: "pd.DataFrame", question: Question, group_by: Iterable[str]) -> None:
    """See that a table can be asked a question.

    Raises:
        UsageError: for a column that is missing, not a number or another of the law's scales, or a law that
            takes another number of them.
    """
    numbers = [*question.x, question.y, *([question.errors] if question.errors else [])]
    for column in (*numbers, *group_by, *([question.clusters] if question.clusters else [])):
        if column not in table:
            raise UsageError(f"no column '{column}' in the records; {nearest(column, table.columns)}")
    _check_numbers(table, numbers)
    if isinstance(question.law, str) and question.law != "auto":
        symbols = find_law(question.law).symbols
        if len(symbols) != len(question.x):
            raise UsageError(f"the {question.law} law takes {len(symbols)} column(s) for x: {', '.join(symbols)}")
        _check_roles(question.x, symbols, question.law)
    elif question.law == "auto":
        if len(question.x) > 3:
            raise UsageError(f"no law takes {len(question.x)} columns for x")
        name = law_family(question.x)[0]
        _check_roles(question.x, LAWS[name].symbols, name)


def _check_roles(x: tuple[str, ...], symbols: tuple[str, ...], law: str) -> None:
    """Raise for a column that is known to be another of the law's scales."""
    roles = [next((role for start, role in ROLES.items() if column.startswith(start)), None) for column in x]
    for column, role, symbol in zip(x, roles, symbols, strict=True):
        if len(x) > 1 and role is not None and role != symbol and role in symbols:
            raise UsageError(f"the {law} law takes {', '.join(symbols)} in this order, and {column} is its {role}")


def decide_link(values: "pd.Series", name: str, given: Link | None) -> Link:
    """The link, decided once for a table; an accuracy is in percent if its name or all its values say so.

    Raises:
        UsageError: for a link that does not exist, or accuracies in mixed units.
    """
    if given is not None and given not in LINKS:
        raise UsageError(f"unknown link '{given}': use {', '.join(LINKS)}")
    if given is not None or "accuracy" not in name:
        return given or "none"
    if "percent" in name or values.min() > 1:
        return "accuracy-percent"
    if values.max() > 1:
        fix = "say --link accuracy-percent, or --link none for the values as they are"
        raise UsageError(f"column '{name}' has values up to 1 and above: mixed units? If they are percentages, {fix}")
    return "accuracy"


def training_flops(table: "pd.DataFrame") -> "pd.Series":
    """FLOPs that each row's training took.

    Raises:
        UsageError: if the table has no columns to tell.
    """
    from pandas.api.types import is_numeric_dtype

    for columns in (("training_flops",), PRODUCTS["training_flops"], ("training_flops_per_image",)):
        numeric = all(column in table and is_numeric_dtype(table[column]) for column in columns)
        if numeric and table[list(columns)].notna().all(axis=1).any():
            return _product(table, columns)
    raise UsageError("no numbers in a column 'training_flops' or 'training_flops_per_image' to hold compute out by")
