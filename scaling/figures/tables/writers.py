"""Tables as text: Markdown, LaTeX with booktabs, CSV and plain values in long form."""

import csv
import io
from typing import Any

from scaling.figures.tables.layout import Table
from scaling.figures.values import Value

LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"×": "$\\times$", "±": "$\\pm$", "<": "$<$", ">": "$>$"},
}
"""Marks that LaTeX reads as its own, or that its fonts lack."""


def to_markdown(table: Table) -> str:
    """A heading, a table with its columns aligned, and notes; best values are bold."""
    head = [_piped(name) for name in table.columns]
    body = [[_strong(cell, "**{}**".format, _piped) for cell in row.cells] for row in table.rows]
    widths = [max(len(row[place]) for row in [head, *body]) for place in range(len(head))]
    left = [place < table.words for place in range(len(head))]
    rule = ["-" * width if words else "-" * (width - 1) + ":" for width, words in zip(widths, left, strict=True)]
    lines = [
        " | ".join(
            text.ljust(width) if words else text.rjust(width)
            for text, width, words in zip(row, widths, left, strict=True)
        )
        for row in [head, rule, *body]
    ]
    notes = [_piped(note) for note in table.notes]
    caption = f"**Table {table.number}.** {table.title}."
    return "\n".join([caption, "", *(f"| {line} |" for line in lines), "", *("\n\n".join(notes).split("\n"))]) + "\n"


def to_latex(table: Table) -> str:
    """A `table` environment; it needs the package booktabs. Groups of rows are set apart."""
    kinds = "l" * table.words + "r" * (len(table.columns) - table.words)
    lines = [" & ".join(map(_escaped, table.columns)) + r" \\", r"\midrule"]
    before = table.rows[0].group
    for row in table.rows:
        if row.group != before:
            lines.append(r"\addlinespace")
        before = row.group
        lines.append(" & ".join(_strong(cell, r"\textbf{{{}}}".format, _escaped) for cell in row.cells) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escaped(' '.join([table.title + '.', *table.notes]))}}}",
            rf"  \label{{tab:table{table.number}}}",
            rf"  \begin{{tabular}}{{{kinds}}}",
            *(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"]),
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_csv(table: Table) -> str:
    """Long form, a row per result, digits as printed; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table.long[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: value.digits for name, value in row.items()} for row in table.long)
    return out.getvalue()


def to_json(table: Table) -> dict[str, Any]:
    """Plain values in long form, with all their digits; what is not known is None."""
    rows = [{name: _exact(value.value) for name, value in row.items()} for row in table.long]
    return {"table": table.number, "title": table.title, "rows": rows, "notes": list(table.notes)}


def _exact(value: float | str | None) -> float | str | None:
    """Without the last digits, which are the arithmetic's."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _strong(cell: Value, bold: Any, escape: Any) -> str:
    text = escape(cell.text)
    return bold(text) if cell.best else text


def _piped(text: str) -> str:
    return text.replace("|", r"\|")


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
