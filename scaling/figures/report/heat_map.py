"""Patch size by model size, coloured by what designs reach."""

import altair as alt

from scaling.decisions import Candidate, Comparison
from scaling.figures.paths import value_label
from scaling.figures.report.charts import Chart, Row, rounded, specification, tooltip
from scaling.figures.report.words import capital, names_of

DARK = 0.55  # place between worst and best from which a cell takes light letters
SHARED = ("architecture", "input_size", "head", "extended_length")


def heat_map(comparisons: tuple[Comparison, ...]) -> Chart | None:
    """The chart; None unless designs of one kind differ both in patch and in model size."""
    known = {each.design: each for found in comparisons for each in found.field.candidates if each.value is not None}
    panels: dict[str, list[Candidate]] = {}
    for candidate in known.values():
        shared = {key: candidate.fields[key] for key in SHARED if candidate.fields[key] is not None}
        panels.setdefault(names_of(shared), []).append(candidate)
    fullest = sorted(panels, key=lambda name: -len(panels[name]))
    grids = {name: panels[name] for name in fullest if _is_grid(panels[name])}
    if not grids:
        return None
    outcome = comparisons[0].field.outcome
    is_loss = outcome.is_loss
    return Chart(
        name="grid",
        title=f"{capital(outcome.label)} by patch size and model size",
        caption="Darker is better. Means over seeds; an empty place was not trained or has no result.",
        panel_question="Designs of",
        panels=tuple(grids),
        view_question="Value",
        views={value_label(outcome): _view(outcome.label, is_loss)},
        data={"cells": [row for panel, name in enumerate(grids) for row in _rows(panel, grids[name], is_loss)]},
        legend=(),
    )


def _is_grid(designs: list[Candidate]) -> bool:
    return all(len({each.fields[key] for each in designs}) > 1 for key in ("patch_size", "size"))


def _rows(panel: int, designs: list[Candidate], is_loss: bool) -> list[Row]:
    values = [each.value or 0.0 for each in designs]
    worst, best = (max(values), min(values)) if is_loss else (min(values), max(values))
    return [
        {
            "panel": panel,
            "patch": each.fields["patch_size"],
            "size": each.fields["size"],
            "order": rounded(each.parameters or 0.0),
            "place": rounded((value - worst) / (best - worst) if best != worst else 0.5),
            "shown": f"{value:.3f}" if is_loss else f"{100 * value:.1f}",
            "design": each.design,
            "seeds": len(each.results),
        }
        for each, value in zip(designs, values, strict=True)
    ]


def _view(label: str, is_loss: bool) -> Row:
    cells = alt.Chart(alt.NamedData(name="cells")).encode(
        x=alt.X("patch:O", sort="descending", title="Patch size (pixels)", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("size:N", sort=alt.EncodingSortField(field="order", op="max", order="descending"), title=None),
    )
    shade = alt.Color("place:Q", scale=alt.Scale(scheme="teals", domain=[0, 1]), legend=None)
    letters = alt.condition(f"datum.place > {DARK}", alt.value("white"), alt.value("#10211f"))
    unit = label if is_loss else f"{label} (%)"
    return specification(
        [
            cells.mark_rect(cornerRadius=3).encode(
                color=shade, tooltip=tooltip(design="design", shown=unit, seeds="seeds")
            ),
            cells.mark_text(fontSize=13, tooltip=False).encode(text="shown:N", color=letters),
        ],
        260,
    )
