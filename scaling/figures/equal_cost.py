"""Every axis from one design, over training FLOPs, memory per image and hours side by side."""

from matplotlib.figure import Figure

from scaling.figures.figure3 import comparisons_of
from scaling.figures.material import FigureError, Material
from scaling.figures.paths import add_legend, caption_of, draw_paths
from scaling.figures.style import PANEL_HEIGHT, PANEL_WIDTH, styled
from scaling.figures.words import add_caption


def draw(material: Material) -> Figure:
    """Draw one panel per cost, of the comparison with most steps or of the base asked for.

    Raises:
        FigureError: if nothing can be compared, or no cost is known.
    """
    comparison = comparisons_of(material)[0]
    costs = [cost for cost in comparison.field.cost_words if cost in comparison.base.costs]
    if not costs:
        raise FigureError(f"no cost is known of {comparison.base.design}; records of run-grid have them")
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * len(costs), PANEL_HEIGHT + 0.5), layout="constrained")
        axes = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
        for axis, cost in zip(axes, costs, strict=True):
            draw_paths(axis, comparison, cost, comparison.field.cost_words[cost])
            axis.title.set_fontsize(7)
        add_legend(figure, list(axes))
        for axis in axes[1:]:
            axis.set_ylabel("")
        add_caption(figure, caption_of([comparison]), len(costs))
    return figure
