"""The same estimates for a million designs at once, as arrays; what planning searches over."""

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.cost.cost import cost_of_shape
from scaling.cost.estimates import DEFAULT_BATCH, DEFAULT_HARDWARE, IMAGENET_IMAGES, check_sizes
from scaling.cost.hardware import check_precision, resolve_hardware
from scaling.cost.memory import Placement, check_divides_over, even_gpus, largest_micro_batch, usable_bytes
from scaling.cost.roofline import Constants, Interval, constants_of, step_seconds
from scaling.cost.shapes import Execution, Head, Shape
from scaling.design import Hardware, divisors, find_architecture
from scaling.errors import UsageError

Floats = NDArray[np.float64]
CHUNK_DESIGNS = 2**13


@dataclass(frozen=True, slots=True)
class ArrayEstimate:
    """Estimates of many designs: arrays over them, named and in units as in `CostEstimate.to_json`.

    Where one image does not fit a GPU, `fits` is False and what depends on the hardware is NaN. Under
    FSDP the fewest GPUs and nodes are not searched for, and NaN.
    """

    parameters: Floats
    parameters_without_positions: Floats
    forward_flops_per_image: Floats
    training_flops_per_image: Floats
    saved_activation_bytes_per_image: Floats
    peak_activation_bytes_per_image: Floats
    fits: NDArray[np.bool_]
    images_per_gpu: Floats
    min_gpus: Floats
    min_nodes: Floats
    gpus: Floats
    micro_batch_size: Floats
    accumulation: Floats
    images_per_second_per_gpu: Floats
    gpu_hours_per_epoch: Floats
    gpu_hours_per_epoch_low: Floats
    gpu_hours_per_epoch_high: Floats


def shape_arrays(
    architecture: str, *, width: ArrayLike, depth: ArrayLike, patch_size: ArrayLike, input_size: ArrayLike
) -> Shape:
    """Square designs as a shape of arrays, which broadcast against each other.

    MLP width and heads follow from the width by the architecture's rule.

    Raises:
        DesignError: for an unknown architecture or a width it cannot take.
        UsageError: for a size below 1, or a patch that does not divide its input.
    """
    given = np.broadcast_arrays(*(np.asarray(values, float) for values in (width, depth, patch_size, input_size)))
    d, depths, p, side = given
    if any(not (values >= 1).all() or (values % 1).any() for values in given):
        raise UsageError("widths, depths, patch sizes and input sizes must be whole numbers from 1")
    wrong = np.flatnonzero((side % p).ravel())
    if wrong.size:
        index = wrong[0]
        raise UsageError(f"patch size {p.flat[index]:g} does not divide input size {side.flat[index]:g}")
    rule = find_architecture(architecture).rule
    widths, place = np.unique(d, return_inverse=True)
    sizes = [rule(int(value), 1) for value in widths]
    mlp_width, heads = (
        np.array([getattr(size, name) for size in sizes], float)[place] for name in ("mlp_width", "heads")
    )
    rows = side // p
    return Shape(d, depths, mlp_width.reshape(d.shape), heads.reshape(d.shape), p, side**2, rows**2, rows)


def estimate_arrays(
    architecture: str,
    shape: Shape,
    hardware: str | Hardware = DEFAULT_HARDWARE,
    *,
    head: Head | None = None,
    batch_size: int = DEFAULT_BATCH,
    gpus: int | None = None,
    execution: Execution | None = None,
    train_images: int = IMAGENET_IMAGES,
    constants: Constants | None = None,
) -> ArrayEstimate:
    """`estimate` for a shape of arrays, such as `shape_arrays` makes; the arguments are the same.

    Raises:
        UsageError: as `estimate`; and for FSDP without `gpus`, whose fewest GPUs are searched for
            one design at a time.
    """
    device = resolve_hardware(hardware)
    execution = execution or Execution(device.default_precision)
    check_precision(device, execution.precision)
    check_sizes(batch_size, train_images)
    if execution.sharding == "fsdp" and gpus is None:
        raise UsageError("fsdp over arrays of designs needs the number of gpus")
    settings = _Settings(
        architecture,
        head or Head(),
        device,
        execution,
        constants or constants_of(device),
        batch_size,
        gpus,
        train_images,
    )
    columns = np.broadcast_arrays(*(getattr(shape, field.name) for field in fields(Shape)))
    flat = [np.ravel(column) for column in columns]
    # Chunks fit the processor's cache, and their temporaries are reused instead of fetched from the system.
    parts = [
        _estimate(Shape(*(column[start : start + CHUNK_DESIGNS] for column in flat)), settings)
        for start in range(0, max(1, len(flat[0])), CHUNK_DESIGNS)
    ]
    joined = {name: np.concatenate([part[name] for part in parts]).reshape(columns[0].shape) for name in parts[0]}
    return ArrayEstimate(**joined)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What is the same for all designs."""

    architecture: str
    head: Head
    hardware: Hardware
    execution: Execution
    constants: Constants
    batch_size: int
    gpus: int | None
    train_images: int


def _estimate(shape: Shape, known: _Settings) -> dict[str, NDArray[Any]]:
    """Fields of an ArrayEstimate for one chunk."""
    cost = cost_of_shape(known.architecture, shape, known.head, known.execution)
    images = largest_micro_batch(cost, usable_bytes(known.hardware), known.execution, known.gpus or 1)
    images = np.where(images >= 1, images, np.nan)
    placement = _place(images, known.hardware.node_size, known.batch_size, known.gpus)
    if known.execution.sharding == "fsdp":
        unknown = np.full_like(images, np.nan)
        placement = replace(placement, min_gpus=unknown, min_nodes=unknown)
    with np.errstate(invalid="ignore"):
        step = step_seconds(cost, placement, known.hardware, known.constants, known.execution)
        per_image = step.total / placement.images_per_step
    hours = Interval.around(known.train_images * per_image / 3600, step.relative_error)
    return {
        "parameters": cost.parameters.total,
        "parameters_without_positions": cost.parameters.without_positions,
        "forward_flops_per_image": cost.forward_flops_per_image,
        "training_flops_per_image": cost.training_flops_per_image,
        "saved_activation_bytes_per_image": cost.activation_bytes_per_image,
        "peak_activation_bytes_per_image": cost.peak_bytes_per_image,
        "fits": np.isfinite(placement.gpus),
        **{field.name: getattr(placement, field.name) for field in fields(Placement)},
        "images_per_second_per_gpu": 1 / per_image,
        "gpu_hours_per_epoch": hours.estimate,
        "gpu_hours_per_epoch_low": hours.low,
        "gpu_hours_per_epoch_high": hours.high,
    }


def _place(images: Floats, node_size: int, batch_size: int, gpus: int | None) -> Placement:
    """`memory.place` by table look-up: the divisors of a batch are few.

    Where a batch divides over no number of GPUs near those needed, the design counts as not fitting.
    """
    min_gpus = np.ceil(batch_size / images)
    if gpus is None:
        chosen = _even_gpus(min_gpus, node_size, batch_size)
    else:
        check_divides_over(batch_size, gpus)
        chosen = np.where(np.isnan(images), np.nan, gpus)
    accumulation = np.full_like(images, np.nan)
    for count in np.unique(chosen[~np.isnan(chosen)]):
        local, here = batch_size / count, chosen == count
        micro = np.array(divisors(round(local)), float)
        largest = micro[np.maximum(np.searchsorted(micro, images[here], side="right") - 1, 0)]
        accumulation[here] = local / largest
    micro_batch_size = batch_size / chosen / accumulation
    return Placement(chosen, micro_batch_size, accumulation, images, min_gpus, np.ceil(min_gpus / node_size))


def _even_gpus(min_gpus: Floats, node_size: int, batch_size: int) -> Floats:
    """`memory.even_gpus` of each different number once."""
    needed, place = np.unique(min_gpus, return_inverse=True)
    chosen = np.full_like(needed, np.nan)
    for index, count in enumerate(needed):
        if np.isfinite(count):
            with suppress(UsageError):  # no divisor near
                chosen[index] = even_gpus(batch_size, int(count), node_size)
    return chosen[place].reshape(min_gpus.shape)
