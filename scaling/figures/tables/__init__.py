"""Tables 1 to 7 of the paper, for any study."""

import re
from typing import TYPE_CHECKING

from scaling.errors import UsageError
from scaling.figures.material import FigureError
from scaling.figures.results import results
from scaling.figures.tables.layout import Row, Table
from scaling.figures.tables.writers import to_csv, to_json, to_latex, to_markdown
from scaling.records import check_results

if TYPE_CHECKING:
    import pandas as pd

TABLES = {
    1: "accuracy by model, input size and patch size",
    2: "segmentation by decoder and patch size",
    3: "detection and instance segmentation",
    4: "accuracy by patch size and model size",
    5: "extended tokens against smaller patches",
    6: "memory and training time by sequence length",
    7: "model configurations",
}
WITH_METRIC = (1, 4, 5)
"""Tables whose metric can be chosen."""


def paper_table(table: "pd.DataFrame", number: int, y: str | None = None) -> Table:
    """One of the paper's tables, of these records.

    Args:
        table: records, one row each. Of published records, those whose `reference` names the table are shown;
            of measured ones, all that fit.
        number: 1 to 7.
        y: metric of tables 1, 4 and 5, such as 'test_loss'; by default the first of accuracy, mean IoU, box AP and
            test loss that the records have. Published records with this metric are then shown wherever they stand.

    Raises:
        UsageError: for a table that does not exist, or a metric that is not its own to choose.
        FigureError: if the records lack what the table shows, with what to run.
    """
    from scaling.figures.tables import costs, dense, extension, patches

    check_number(number)
    if y is not None and number not in WITH_METRIC:
        raise UsageError(f"table {number} has its own columns; --y is for tables {', '.join(map(str, WITH_METRIC))}")
    check_results(table)
    rows, published = _rows_of(table, number, y)
    found = results(rows)
    if not found:
        raise FigureError(f"no record is of table {number}")
    with_metric = {1: patches.by_patch, 4: patches.by_patch_and_size, 5: extension.extension}
    if number in with_metric:
        return with_metric[number](found, published, y)
    others = {2: dense.segmentation, 3: dense.detection, 6: costs.overhead, 7: costs.configurations}
    return others[number](found, published)


def check_number(number: int) -> None:
    """Raise UsageError for a table that does not exist."""
    if number not in TABLES:
        raise UsageError(f"no table {number}: give 1 to {len(TABLES)}")


def _rows_of(table: "pd.DataFrame", number: int, y: str | None) -> tuple["pd.DataFrame", bool]:
    """Rows that belong in a table, and whether all are published."""
    if "reference" not in table or table["reference"].isna().all():
        return table, False
    published = table["reference"].notna()
    named = table["reference"].str.contains(rf"\bTable {number}\b", flags=re.ASCII).eq(True)
    if y is not None and y in table and table.loc[named, y].isna().all():
        named = table[y].notna() & published
    return table[named | ~published], bool((published | ~named)[named | ~published].all())


__all__ = [
    "TABLES",
    "FigureError",
    "Row",
    "Table",
    "check_number",
    "paper_table",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
]
