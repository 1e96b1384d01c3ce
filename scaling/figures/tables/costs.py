"""Tables 6 and 7: cost against sequence length, and the shapes of the models."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from scaling.design.architectures import DesignError, find_shape
from scaling.figures.material import FigureError
from scaling.figures.results import TOLD_APART, Result, each_trained, model_name, plain, varying
from scaling.figures.tables.dense import parameters
from scaling.figures.tables.layout import Row, Table, long_form, mark_best, notes_on, word
from scaling.figures.values import Value, certain, rounded, significant

MIXERS = {"deit": "vit"}
"""What the paper's memory column calls an architecture."""
Quantity: TypeAlias = Callable[[Result], Value]
Model: TypeAlias = tuple[str, str]


def overhead(found: list[Result], published: bool) -> Table:
    """Table 6: memory and training time by sequence length; bold is the fastest of a row, if all are of one size."""
    once = each_trained(plain(found))
    shown = [r for r in once if r["sequence_length"] and (memory(r).known or hours(r).known or spent(r).known)]
    if not shown:
        raise FigureError(
            "no record has activation_bytes_per_image, gpu_hours_per_epoch or training_seconds\n"
            "run the cells: scaling run-grid STUDY"
        )
    timed = (hours, "gpu_hours_per_epoch", "GPU-h/epoch")
    if not any(hours(result).known for result in shown):
        timed = (spent, "training_milliseconds_per_image", "ms/image")
    apart = varying(shown, (*TOLD_APART, "input_size"))
    axes = (*apart, "patch_size", "sequence_length")
    spots = sorted(
        dict.fromkeys(tuple(result[axis] for axis in axes) for result in shown), key=lambda s: (str(s[:-2]), s[-1])
    )
    memories, times = _by_model(shown, memory, axes), _by_model(shown, timed[0], axes)
    one_size = len({size for _, size in times}) == 1
    rows, cells = [], []
    for spot in spots:
        sizes = {_memory_name(model, memories): column.get(spot, Value()) for model, column in memories.items()}
        speeds = {f"{'_'.join(model)}_{timed[1]}": column.get(spot, Value()) for model, column in times.items()}
        fastest = mark_best(list(speeds.values()), higher=False) if one_size else list(speeds.values())
        rows.append(Row((*map(word, spot), *sizes.values(), *fastest), str(spot[:-2])))
        cells.append(sizes | speeds)
    names = {(result["architecture"], result["size"]): model_name(result) for result in shown}
    columns = (
        *(axis.removesuffix("_size").removeprefix("sequence_").capitalize() for axis in axes),
        *(f"{names[model]} MiB/image" for model in memories),
        *(f"{names[model]} {timed[2]}" for model in times),
    )
    notes = (
        *notes_on(rows, published, "the fastest of a row"),
        "MiB/image: bytes kept for the backward pass, without parameters and optimiser.",
    )
    keys = [dict(zip(axes, map(word, spot), strict=True)) for spot in spots]
    title = "Memory and training time by sequence length"
    return Table(6, title, columns, len(apart), tuple(rows), notes, long_form(keys, cells))


def configurations(found: list[Result], published: bool) -> Table:
    """Table 7: width, MLP width, blocks and parameters of each model; nothing is bold."""
    models: dict[Model, Result] = {}
    for result in plain(found):
        if parameters(result).known:
            models.setdefault((result["architecture"], result["size"]), result)
    if not models:
        raise FigureError("no record has parameters\nrun the cells: scaling run-grid STUDY")
    rows, keys, cells = [], [], []
    for (architecture, size), result in models.items():
        shape = _shape(architecture, size)
        counted = parameters(result)
        rows.append(Row((word(model_name(result)), *shape.values(), counted), architecture))
        keys.append({"architecture": word(architecture), "size": word(size)})
        cells.append(shape | {"params_millions": counted})
    columns = ("Model", "Width", "MLP width", "Blocks", "Parameters (M)")
    counted_on = dict.fromkeys("*/" + str(result["design"]).rpartition("/")[2] for result in models.values())
    notes = (*notes_on(rows, published), f"Parameters are those of {', '.join(counted_on)}.")
    return Table(7, "Model configurations", columns, 1, tuple(rows), notes, long_form(keys, cells))


def memory(result: Result) -> Value:
    """MiB that an image keeps for the backward pass."""
    found = result.mean("activation_bytes_per_image")
    return rounded(None if found is None else found / 2**20)


def hours(result: Result) -> Value:
    """GPU-hours of an epoch, as printed."""
    found = result.mean("gpu_hours_per_epoch")
    if found is None:
        return Value()
    exponent = Decimal(f"{found:.6g}").as_tuple().exponent
    return Value(found, max(0, -int(exponent)))


def spent(result: Result) -> Value:
    """Milliseconds of training per image, data included; mean over seeds."""
    rows = result.records
    if not {"training_seconds", "images_seen"} <= set(rows):
        return Value()
    times = (1000 * rows["training_seconds"] / rows["images_seen"]).dropna()
    if times.empty:
        return Value()
    mean, deviation = float(times.mean()), float(times.std(ddof=1)) if len(times) > 1 else None
    return Value(mean, certain(deviation) if deviation else significant(mean), deviation, len(times))


def _by_model(
    found: Sequence[Result], quantity: Quantity, axes: Sequence[str]
) -> dict[Model, dict[tuple[Any, ...], Value]]:
    """A quantity by model and by values of the axes; models that have it nowhere are left out."""
    columns: dict[Model, dict[tuple[Any, ...], Value]] = {}
    for result in found:
        if quantity(result).known:
            column = columns.setdefault((result["architecture"], result["size"]), {})
            column[tuple(result[axis] for axis in axes)] = quantity(result)
    return columns


def _memory_name(model: Model, models: dict[Model, Any]) -> str:
    """With the size only where an architecture has several."""
    architecture, size = model
    alone = sum(other[0] == architecture for other in models) == 1
    return f"{MIXERS.get(architecture, architecture)}{'' if alone else f'_{size}'}_memory_megabytes_per_image"


def _shape(architecture: str, size: str) -> dict[str, Value]:
    names = ("embedding_dim", "mlp_dim", "blocks")
    try:
        shape = find_shape(architecture, size)
    except DesignError:  # a table may hold models that are not known here
        return dict.fromkeys(names, Value())
    return dict(zip(names, map(word, (shape.width, shape.mlp_width, shape.depth)), strict=True))
