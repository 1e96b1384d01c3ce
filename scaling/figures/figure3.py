"""Figure 3: patch scaling against parameter scaling, and other axes, over training FLOPs."""

from matplotlib.figure import Figure

from scaling.decisions import CompareError, Comparison, compare
from scaling.figures.material import FigureError, Material
from scaling.figures.paths import add_legend, caption_of, draw_paths
from scaling.figures.style import PANEL_HEIGHT, PANEL_WIDTH, styled
from scaling.figures.words import add_caption
from scaling.records import published_studies, published_study

COST = "flops"


def draw(material: Material) -> Figure:
    """Draw one panel per architecture, from the design with most axes, or one from the design asked for.

    Raises:
        FigureError: if no design has another one along an axis, or no FLOPs are known.
    """
    comparisons = comparisons_of(material)
    drawn = [each for each in comparisons if COST in each.base.costs and any(axis.steps for axis in each.axes)]
    if not drawn:
        raise FigureError("no training FLOPs are known of the designs; records of run-grid have them")
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * len(drawn), PANEL_HEIGHT + 0.5), layout="constrained")
        axes = figure.subplots(1, len(drawn), squeeze=False)[0]
        for letter, axis, comparison in zip("abcdefgh", axes, drawn, strict=False):
            draw_paths(axis, comparison, COST, f"({letter}) from {comparison.base.design}")
        add_legend(figure, list(axes))
        add_caption(figure, caption_of(drawn), len(drawn))
    return figure


def comparisons_of(material: Material) -> list[Comparison]:
    """A comparison from the base asked for, from those of a publication, or from the best base of each architecture.

    Raises:
        FigureError: if nothing can be compared, with what to run.
    """
    table = material.table
    if material.base is not None:
        return [_compared(material, material.base)]
    studies = set(table["study"]) & set(published_studies()) if "study" in table else set()
    if studies:
        return [_compared(material, base) for study in sorted(studies) for base in published_study(study).figure3_bases]
    if "architecture" not in table:
        raise FigureError("no column 'architecture' in the records; only designs can be compared")
    found, problem = [], None
    for name in table["architecture"].dropna().unique():
        try:
            found.append(compare(table[table["architecture"] == name]))
        except CompareError as error:
            problem = error
    if not found:
        raise FigureError(str(problem or "no records of designs"))
    return sorted(found, key=lambda each: -sum(len(axis.steps) for axis in each.axes))


def _compared(material: Material, base: str) -> Comparison:
    try:
        return compare(material.table, base)
    except CompareError as error:
        raise FigureError(str(error)) from None
