"""Tables and lists as HTML, with everything from the records escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from scaling.figures.report.content import Content
from scaling.figures.report.words import capital, in_words, names_of
from scaling.laws import FitResult, Unfitted, checklist
from scaling.records import Record

if TYPE_CHECKING:
    import pandas as pd

# Of the fields of a record, those shown, where any record has them; columns of one's own are shown too.
SHOWN = (
    *("design", "seed", "task", "dataset", "status", "error", "test_loss", "test_loss_standard_error", "accuracy"),
    *("mean_iou", "box_ap", "mask_ap", "parameters", "estimated_parameters", "training_flops_per_image"),
    *("estimated_training_flops_per_image", "images_seen", "activation_bytes_per_image", "peak_memory_bytes_per_image"),
    *("training_seconds", "gpu_hours", "gpu_hours_per_epoch", "source", "reference"),
)
NESTED = ("recipe.", "data.", "versions.", "started_from.")
FIRST = ("design", "status")
NEW_LINE = "\n"


def number(value: float, digits: int = 4) -> str:
    """A number with a few digits, and thousands apart: '1.234', '86,429,416', '4.4e+12'."""
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def bullets(sentences: Iterable[str], kind: str = "plain") -> str:
    """A list; nothing for no sentences."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def grid(caption: str, columns: Sequence[str], rows: Iterable[str], name: str) -> str:
    """A table of rows made by `row`, in a box that scrolls by itself."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table id="{name}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n{NEW_LINE.join(rows)}\n"
        "</tbody></table></div>"
    )


def row(first: str, *others: str) -> str:
    """A row of cells that are HTML; the first names it."""
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def fits_table(content: Content) -> str:
    """Laws with intervals, each with its notes below."""
    if not content.curves:
        return ""
    names = list(dict.fromkeys(name for fit in content.fitted for name in fit.parameters))
    columns = ("Curve", "Law", *names, "Residuals", "Points", "Range")
    rows = (_fit_row(curve.fit, names) + _notes_row(curve.fit, len(columns)) for curve in content.curves)
    level = f"; in brackets, {100 * content.fitted[0].fitted.options.level:.0f} % intervals" if content.fitted else ""
    return grid(f"Test loss against {in_words(content.x)}{level}", columns, rows, "every-fit")


def _fit_row(fit: FitResult | Unfitted, names: Sequence[str]) -> str:
    label = escape(names_of(fit.group) or fit.label)
    if isinstance(fit, Unfitted):
        return row(label, *["–"] * (len(names) + 4))
    values = []
    for name in names:
        found = fit.parameters.get(name)
        ends = f" <small>[{number(found.low, 3)}, {number(found.high, 3)}]</small>" if found else ""
        values.append(f"{number(found.estimate)}{ends}" if found else "–")
    scale = fit.fitted.points.scales[0]
    reach = f"{scale.min():.4g} to {scale.max():.4g}"
    law = f"<code>{escape(fit.fitted.law.formula)}</code>"
    return row(label, law, *values, f"{fit.residual_deviation:.3g}", str(fit.points_used), reach)


def _notes_row(fit: FitResult | Unfitted, columns: int) -> str:
    return f'<tr class="notes"><td colspan="{columns}">{bullets(fit.notes)}</td></tr>' if fit.notes else ""


def checklist_list(content: Content) -> str:
    """What a paper should report, answered as far as the fits know it."""
    if not content.fitted:
        return "<p>No fit to answer for.</p>"
    open_ = "<em>say it yourself</em>"
    items = "".join(
        f"<dt>{escape(each.question)}</dt><dd>{escape(each.answer) if each.answer else open_}</dd>"
        for each in checklist(content.fitted)
    )
    return f"<dl>{items}</dl>"


def records_table(table: "pd.DataFrame") -> str:
    """Every record, with its status."""
    columns = _columns(table)
    # Row by row in plain Python: a data frame's own access is slow for thousands of cells.
    rows = (row(*(_cell(record[column], column) for column in columns)) for record in table[columns].to_dict("records"))
    return grid("Every record", [capital(in_words(column)) for column in columns], rows, "every-record")


def _columns(table: "pd.DataFrame") -> list[str]:
    known = [name for name in SHOWN if name in table and table[name].notna().any()]
    fields = set(Record.model_fields)
    own = [name for name in map(str, table.columns) if name not in fields and not name.startswith(NESTED)]
    ordered = [name for name in FIRST if name in known] + [name for name in known if name not in FIRST] + own
    return ordered or list(map(str, table.columns))


def _cell(value: Any, column: str) -> str:
    if value is None or value != value:
        return "–"
    if column == "status":
        return f'<span class="status {escape(str(value))}">{escape(str(value))}</span>'
    if isinstance(value, float | int) and not isinstance(value, bool):
        return number(value)
    return escape(str(value))
