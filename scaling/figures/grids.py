"""Designs by patch size, model size and input size: what tables 1 and 4 and the figures of grids lay out."""

from collections.abc import Sequence

from scaling.figures.material import FigureError
from scaling.figures.results import TOLD_APART, Result, choose_metric, each_trained, plain, varying
from scaling.figures.sizes import size_rank
from scaling.figures.values import Metric, Value, level


def grids_of(found: Sequence[Result]) -> list[list[Result]]:
    """Designs of each architecture and input size that has two model sizes and two patch sizes or more.

    Raises:
        FigureError: if there is none, with the cells to run.
    """
    keys = [*TOLD_APART, "architecture", "input_size"]
    grids = [[found[place] for place in places] for places in together(found, keys)]
    kept = [grid for grid in grids if len(varying(grid, ("size", "patch_size"))) == 2]
    if not kept:
        lacking = "size" if varying(found, ["patch_size"]) else "patch_size"
        words = {"size": "model size", "patch_size": "patch size"}
        pattern = {"size": "'*-micro/*'", "patch_size": "'*/8@*'"}[lacking]
        raise FigureError(
            f"no architecture and input size with two model sizes and two patch sizes; the records have one "
            f"{words[lacking]} of each\nadd one to grid.{lacking}s of the study, then run it, for example: "
            f"scaling run-grid STUDY --only {pattern}"
        )
    return kept


def shown_by(found: list[Result], y: str | None = None) -> tuple[Metric, list[Result], list[Value]]:
    """Designs with a result or with what became of them instead, of the tasks that have the metric."""
    metric = choose_metric(plain(found), y)
    found = each_trained(found) if metric.percent else found
    tasks = {result["task"] for result in plain(found) if result.value(metric).known}
    of_tasks = [result for result in plain(found) if result["task"] in tasks]
    shown = [result for result in of_tasks if result.value(metric).known or result.value(metric).note]
    return metric, shown, level([result.value(metric) for result in shown])


def together(found: Sequence[Result], columns: Sequence[str]) -> list[list[int]]:
    """Places of the designs that agree in the columns, in the order of architectures, sizes and inputs."""
    order = {column: list(dict.fromkeys(result[column] for result in found)) for column in columns}
    order["input_size"] = sorted(order.get("input_size", []), key=lambda size: size or 0)
    ranks = {result["size"]: size_rank(result["architecture"], result["size"]) for result in found}
    order["size"] = sorted(ranks, key=ranks.__getitem__)
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, result in enumerate(found):
        groups.setdefault(tuple(order[column].index(result[column]) for column in columns), []).append(place)
    return [groups[key] for key in sorted(groups)]
