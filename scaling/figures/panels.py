"""Records as panels: one per task, architecture, head and input size, or those of a published figure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scaling.figures.material import FigureError, Material
from scaling.figures.sizes import MIDDLE, size_places
from scaling.figures.words import titles, words
from scaling.laws import FitResult, Options, Unfitted, default_groups, fit_groups, usable
from scaling.records import published_studies, published_study

if TYPE_CHECKING:
    import pandas as pd

Y, READING_ERROR = "test_loss", "test_loss_reading_error"
LETTER = r"^Figure 1([a-z])$"  # how published records name the panel that they are from
WITHOUT_LOSS = ("oom", "diverged")  # results that are drawn as marks; other records without a loss stay blank


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows."""

    title: str
    letter: str
    """In the published figure; empty for records that are from none."""
    rows: "pd.DataFrame"
    """Records with a value, none twice."""
    lost: "pd.DataFrame"
    """Records that ran out of memory or diverged."""
    curves: tuple[FitResult | Unfitted, ...]
    """One per model size, from small to large."""
    published_floor: float | None
    """What the published figure's own loss axis subtracts, where the law is fixed to it."""
    places: Mapping[str, int]
    """In the palette, of each model size of the figure."""

    def place(self, curve: FitResult | Unfitted) -> int:
        """A curve's place in the palette, by its model size."""
        return _place(curve, self.places)

    def alone(self, curve: FitResult | Unfitted) -> "Panel":
        """The panel with one of its curves only."""
        rows, lost = (
            rows[rows["size"].eq(curve.group["size"])] if "size" in curve.group else rows
            for rows in (self.rows, self.lost)
        )
        return replace(self, rows=rows, lost=lost, curves=(curve,))

    @property
    def sizes(self) -> list[str]:
        """Model sizes, from small to large."""
        return [str(curve.group["size"]) for curve in self.curves if "size" in curve.group]


def panels_of(material: Material, x: str) -> list[Panel]:
    """Panels of test loss against x, in the order of the records, or of the published figure's letters.

    Raises:
        FigureError: if no record has both.
    """
    table = material.table.reset_index(drop=True)  # of tables joined, rows would share a place
    if Y in table:
        table = table.assign(**{Y: table[Y].where(table[Y] > 0)})  # others have no place on a log axis
    used = usable(table, x, Y)[0] if {x, Y} <= set(table) else table[:0]
    if used.empty:
        raise FigureError(f"no finished record has both {x} and a positive {Y}; nothing to draw")
    keys = [key for key in default_groups(used, x) if key != "size"]
    letters = table["reference"].astype("string").str.extract(LETTER)[0] if "reference" in table else None
    table = table.assign(__letter="" if letters is None else letters.fillna(""))
    groups = [(key, rows) for key, rows in table.groupby([*keys, "__letter"], dropna=False, sort=False)]
    groups = [(key, rows) for key, rows in groups if rows.index.isin(used.index).any()]
    groups.sort(
        key=lambda group: str(group[0][-1] or "~")
    )  # stable: those without a letter keep their order, at the end
    shared = [dict(zip(keys, key, strict=False)) for key, _ in groups]
    names = titles(words(group, _only_size(rows)) for group, (_, rows) in zip(shared, groups, strict=True))
    places = size_places(table)
    return [
        _panel(name, str(key[-1]), rows, x, material.law, places)
        for name, (key, rows) in zip(names, groups, strict=True)
    ]


def _only_size(rows: "pd.DataFrame") -> str | None:
    sizes = rows["size"].dropna().unique() if "size" in rows else ()
    return str(sizes[0]) if len(sizes) == 1 else None


def _panel(title: str, letter: str, rows: "pd.DataFrame", x: str, law: str, places: Mapping[str, int]) -> Panel:
    floor = _published_floor(rows, letter) if law == "auto" else None
    if floor is None:
        curves = fit_groups(rows, law, x, Y)
    else:  # on the published axis half a pixel is the same everywhere, so points weigh by it
        options = Options(bounds={"E": (floor, floor)})
        curves = fit_groups(rows, "saturating", x, Y, errors=READING_ERROR, options=options)
    lost = rows[rows["status"].isin(WITHOUT_LOSS) & rows[x].notna()] if "status" in rows else rows[:0]
    curves.sort(key=lambda curve: _place(curve, places))
    return Panel(title, letter, usable(rows, x, Y)[0], lost, tuple(curves), floor, places)


def _place(curve: FitResult | Unfitted, places: Mapping[str, int]) -> int:
    return places.get(str(curve.group.get("size")), MIDDLE)


def _published_floor(rows: "pd.DataFrame", letter: str) -> float | None:
    study = rows["study"].iloc[0] if letter and "study" in rows else None
    if study not in published_studies() or rows[READING_ERROR].isna().any():
        return None
    return published_study(str(study)).figure1_offsets.get(letter)


def blank(table: "pd.DataFrame", panels: list[Panel]) -> str:
    """What is not drawn, such as 'left blank: 90 records without a test loss (8 unreported, ...)'."""
    drawn = sum(len(panel.rows) + len(panel.lost) for panel in panels)
    empty, parts, kinds = table[~(table[Y] > 0)], [], ""
    if "status" in table:
        empty = empty[~empty["status"].isin(WITHOUT_LOSS)]
        counts = empty["status"].replace("done", "with other results only").value_counts()
        kinds = f" ({', '.join(f'{count} {kind}' for kind, count in counts.items())})"
    if len(empty):
        parts.append(f"left blank: {len(empty)} records without a test loss{kinds}")
    if others := len(table) - drawn - len(empty):
        parts.append(f"left out: {others} records that are copies or of panels without any loss")
    return "; ".join(parts)
