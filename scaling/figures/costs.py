"""Memory per image and training time against sequence length (the paper's Table 6), on log axes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures.layout import COLUMNS, look, panels
from scaling.figures.material import FigureError, Material
from scaling.figures.results import TOLD_APART, Result, each_trained, model_name, plain, results, varying
from scaling.figures.sizes import size_rank
from scaling.figures.style import log_axis, nice_log_ticks, styled
from scaling.figures.tables.costs import hours, memory, spent
from scaling.figures.values import Value
from scaling.figures.words import add_caption

SLOPES = (1, 2)
KEY_HEIGHT, KEY_BOTTOM, KEY_RIGHT = 0.3, 0.05, 0.86  # of the axes


@dataclass(frozen=True, slots=True)
class Cost:
    """A panel: what is stated, and what the estimator says of the same in the same unit."""

    label: str
    stated: Callable[[Result], Value]
    estimated: Callable[[Result], float | None]


MEMORY = Cost(
    "Memory (MiB per image)", memory, lambda result: _scaled(result.mean("estimated_activation_bytes_per_image"))
)
HOURS = Cost("GPU-hours per epoch", hours, lambda result: result.mean("estimated_gpu_hours_per_epoch"))
SPENT = Cost("Training time (ms per image)", spent, lambda result: _inverse(result.mean("estimated_images_per_second")))


def draw(material: Material) -> Figure:
    """Draw memory and time: marks are what records state, lines what the estimator says.

    Raises:
        FigureError: if no model has costs at two sequence lengths or more.
    """
    found = [result for result in each_trained(plain(results(material.table))) if result["sequence_length"]]
    timed = HOURS if any(hours(result).known for result in found) else SPENT
    models = [members for members in _models(found) if any(len(_stated(members, cost)) > 1 for cost in (MEMORY, timed))]
    if not models:
        raise FigureError(
            "no model has activation_bytes_per_image, gpu_hours_per_epoch or training_seconds at two sequence lengths\n"
            "run cells of another patch size: scaling run-grid STUDY --only '*/8@*'"
        )
    with styled():
        drawn = [cost for cost in (MEMORY, timed) if any(_stated(members, cost) for members in models)]
        figure, axes = panels(len(drawn))
        for axis, cost in zip(axes, drawn, strict=True):
            _draw_panel(axis, cost, models)
        add_caption(figure, [_caption(models, drawn)], min(len(axes), COLUMNS))
    return figure


def _models(found: Sequence[Result]) -> list[list[Result]]:
    """Designs that differ in their patch size alone, from short to long sequences."""
    keys = (*TOLD_APART, "architecture", "size", "input_size")
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in found:
        groups.setdefault(tuple(result[key] for key in keys), []).append(result)
    return [sorted(members, key=lambda result: result["sequence_length"]) for members in groups.values()]


def _stated(members: Sequence[Result], cost: Cost) -> list[tuple[float, float]]:
    values = [(float(result["sequence_length"]), cost.stated(result)) for result in members]
    return [(length, value.number) for length, value in values if value.known]


def _estimated(members: Sequence[Result], cost: Cost) -> list[tuple[float, float]]:
    values = [(result["sequence_length"], cost.estimated(result)) for result in members]
    return [(float(length), value) for length, value in values if value]


def _draw_panel(axis: Axes, cost: Cost, models: Sequence[Sequence[Result]]) -> None:
    firsts = [members[0] for members in models]
    ranks = {first["size"]: size_rank(first["architecture"], first["size"]) for first in firsts}
    sizes = sorted(ranks, key=ranks.__getitem__)
    apart = varying(firsts, (*TOLD_APART, "input_size"))
    points: list[tuple[float, float]] = []
    for members in models:
        marks, line = _stated(members, cost), _estimated(members, cost)
        shape = look(members[0], sizes)
        name = " ".join([model_name(members[0]), *(str(members[0][column]) for column in apart if members[0][column])])
        if line:
            unmarked: dict[str, Any] = shape | {"marker": "", "label": f"{name}, estimated"}
            axis.plot(*zip(*line, strict=True), **unmarked)
        if marks:
            marked: dict[str, Any] = shape | {"linestyle": "" if line else shape["linestyle"], "label": name}
            axis.plot(*zip(*marks, strict=True), **marked)
        points += marks + line
    axis.set(xscale="log", yscale="log", xlabel="Sequence length (patch tokens)", ylabel=cost.label)
    lengths = sorted({length for length, _ in points})
    axis.margins(x=0.08, y=0.1)
    axis.autoscale_view()
    log_axis(axis.xaxis, lengths)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    log_axis(axis.yaxis, nice_log_ticks(*axis.get_ylim()))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    _draw_slopes(axis)
    axis.legend(loc="upper left")


def _draw_slopes(axis: Axes) -> None:
    """A key in the lower right corner, below the curves: how steep linear and quadratic growth look on these axes."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    across = KEY_HEIGHT / SLOPES[-1] * math.log(top / bottom) / math.log(right / left)
    for slope in SLOPES:
        end = KEY_HEIGHT * slope / SLOPES[-1] + KEY_BOTTOM
        spots = ([KEY_RIGHT - across, KEY_RIGHT], [KEY_BOTTOM, end])
        axis.plot(*spots, transform=axis.transAxes, color="0.5", linewidth=0.8, linestyle=(0, (2, 1.5)), label="_slope")
        axis.text(KEY_RIGHT, end, f" slope {slope}", transform=axis.transAxes, fontsize=6.5, color="0.4", va="center")


def _caption(models: Sequence[Sequence[Result]], drawn: Sequence[Cost]) -> str:
    stated = "printed" if all(result.published for members in models for result in members) else "measured"
    lines = any(_estimated(members, cost) for members in models for cost in drawn)
    estimate = "; lines named so: estimated" if lines else ""
    return f"marks: {stated}{estimate}; memory: kept for the backward pass; slopes 1 and 2: growth with L and with L²"


def _scaled(found: float | None) -> float | None:
    return None if found is None else found / 2**20


def _inverse(found: float | None) -> float | None:
    return None if not found else 1000 / found
