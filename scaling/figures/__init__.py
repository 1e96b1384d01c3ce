"""Figures of the paper, drawn from records. Drawing returns a matplotlib Figure and shows nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UsageError
from scaling.records import RecordError, load_records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIGURES = (1,)
FORMATS = ("png", "pdf", "svg")


def figure(source: "pd.DataFrame | str | Path", number: int = 1, law: str = "auto") -> "Figure":
    """Draw a figure of the paper from records.

    Args:
        source: a table of records, or a run directory, CSV or Parquet file to load one from.
        number: of the figure; 1 is test loss against patch size.
        law: a law of one scale, or 'auto' to choose one for each curve.

    Raises:
        UsageError: for a figure that does not exist.
        RecordError: if the records hold nothing to draw.
    """
    from scaling.figures.figure1 import figure1

    drawers: dict[int, Callable[[pd.DataFrame, str], Figure]] = {1: figure1}
    if number not in drawers:
        raise UsageError(f"no figure {number}; this version draws figure {', '.join(map(str, FIGURES))}")
    table = load_records(source) if isinstance(source, str | Path) else source
    return drawers[number](table, law)


def save_figure(drawn: "Figure", folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, without dates, so that the same figure is the same file."""
    from scaling.figures.style import styled

    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            for path in paths:
                dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:])
                drawn.savefig(path, metadata=dateless)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    return paths


__all__ = ["FIGURES", "figure", "save_figure"]
