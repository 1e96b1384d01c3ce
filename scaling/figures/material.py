"""What figures are drawn from, and the error that says what is missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import ScalingError
from scaling.records import check_results

if TYPE_CHECKING:
    import pandas as pd


class FigureError(ScalingError):
    """Records that lack what a figure shows, with the cells that would fill it."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a figure is drawn from.

    Args:
        table: records, one row each.
        source: where they came from; learning curves are read from a run directory.
        law: a law of one scale, or 'auto'.
        base: short name of the design that comparisons start from; by default chosen.

    Raises:
        RecordError: for a table that does not hold results, see `check_results`.
    """

    table: "pd.DataFrame"
    source: Path | None = None
    law: str = "auto"
    base: str | None = None

    def __post_init__(self) -> None:
        check_results(self.table)
