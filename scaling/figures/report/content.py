"""What a report says: records, fits, comparisons and drawings, each with the reason where there is none."""

import re
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.decisions import Comparison
from scaling.errors import ScalingError
from scaling.figures import FIGURES, FigureError, Material, draw
from scaling.figures.figure3 import comparisons_of
from scaling.figures.style import styled
from scaling.laws import FitResult, Unfitted, default_groups, default_x, fit_groups, stating
from scaling.records import PublishedStudy, load_records, published_studies, published_study

if TYPE_CHECKING:
    import pandas as pd

LOSS = "test_loss"
# Of an SVG file, what a page must not repeat: the prologue, and who made it.
PROLOGUE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)
REFERENCES = re.compile(r'(\bid="|href="#|url\(#)')
BREAKS = re.compile(r"<!--.*?-->|\s*\n\s*", re.DOTALL)
MOST_SVG = 2_000_000  # characters of all drawings, so that a page of thousands of records stays below 5 MB
SIZE = re.compile(r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"')


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One curve of the table: its rows, and its law or the reason why there is none."""

    fit: FitResult | Unfitted
    rows: "pd.DataFrame"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the registry as SVG, or the reason why it could not be drawn."""

    name: str
    title: str
    svg: str | None
    problem: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """All that the page shows."""

    source: str
    """As the user gave it; of an absolute path, the name alone."""
    is_run: bool
    table: "pd.DataFrame"
    x: str
    """Scale of the fits."""
    curves: tuple[Curve, ...]
    unfitted: str | None
    """Why nothing could be fitted."""
    comparisons: tuple[Comparison, ...]
    incomparable: str | None
    """Why nothing could be compared."""
    drawn: tuple[Drawing, ...]
    studies: tuple[PublishedStudy, ...]

    @property
    def fitted(self) -> list[FitResult]:
        """Laws of the curves that have one."""
        return [curve.fit for curve in self.curves if isinstance(curve.fit, FitResult)]


def gather_content(source: str | Path) -> Content:
    """Read, fit, compare and draw; what cannot be done becomes a sentence.

    Raises:
        RecordError: if the records cannot be read.
    """
    table, path = load_records(source), Path(source)
    material = Material(table, path)
    curves, unfitted = _curves(table)
    comparisons, incomparable = _comparisons(material)
    known = set(table["study"].dropna()) & set(published_studies()) if "study" in table else set()
    return Content(
        source=path.name if path.is_absolute() else str(source),
        is_run=path.is_dir(),
        table=table,
        x=default_x(table),
        curves=curves,
        unfitted=unfitted,
        comparisons=comparisons,
        incomparable=incomparable,
        drawn=_all_drawn(material),
        studies=tuple(published_study(name) for name in sorted(known)),
    )


def _curves(table: "pd.DataFrame") -> tuple[tuple[Curve, ...], str | None]:
    try:
        fits = fit_groups(table, y=LOSS)
    except ScalingError as error:
        return (), str(error)
    used = stating(table, LOSS)
    keys = default_groups(used, default_x(table))
    groups = [rows for _, rows in used.groupby(keys, sort=False, dropna=False)] if keys else [used]
    curves = tuple(Curve(fit, rows) for fit, rows in zip(fits, groups, strict=True))
    if any(isinstance(fit, FitResult) for fit in fits):
        return curves, None
    return curves, "; ".join(dict.fromkeys(note for fit in fits for note in fit.notes))


def _comparisons(material: Material) -> tuple[tuple[Comparison, ...], str | None]:
    try:
        return tuple(comparisons_of(material)), None
    except FigureError as error:
        return (), str(error)


def _all_drawn(material: Material) -> tuple[Drawing, ...]:
    """Every figure of the registry; those beyond what a page can hold are named instead."""
    found, used = [], 0
    for name in FIGURES:
        drawn = _drawn(material, name)
        length = len(drawn.svg or "")
        if used + length > MOST_SVG:
            drawn = replace(drawn, svg=None, problem="too large for this page; scaling plot draws it")
            length = 0
        used += length
        found.append(drawn)
    return tuple(found)


def _drawn(material: Material, name: str) -> Drawing:
    title = FIGURES[name].title
    try:
        return Drawing(name, title, _inline_svg(draw(material, name), name), None)
    except ScalingError as error:
        source = material.source
        words = str(error).replace(str(source), source.name) if source else str(error)  # a page names no folder
        return Drawing(name, title, None, words)


def _inline_svg(figure: Any, name: str) -> str:
    """A figure as an element of a page: identifiers of its own, as wide as it is drawn or narrower."""
    file = StringIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = BREAKS.sub("\n", PROLOGUE.sub("", file.getvalue())).strip()
    svg = REFERENCES.sub(rf"\g<1>figure-{re.sub(r'[^a-z0-9]', '-', name)}-", svg)
    return SIZE.sub(r'\1 style="width: \2pt" aria-hidden="true"', svg, count=1)
