"""The same estimates for a million designs at once, as arrays; what planning searches over."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.cost.cost import Cost, cost_of_shape
from scaling.cost.estimates import DEFAULT_BATCH, DEFAULT_HARDWARE, IMAGENET_IMAGES
from scaling.cost.hardware import check_precision, resolve_hardware
from scaling.cost.memory import Placement, check_divides_over, largest_micro_batch, usable_bytes
from scaling.cost.roofline import Constants, Interval, constants_of, step_seconds
from scaling.cost.shapes import Execution, Head, Shape
from scaling.design import Hardware, find_architecture
from scaling.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArrayEstimate:
    """Estimates of many designs; every field is an array over them, NaN where a design does not fit.

    Args:
        cost: exact costs, as arrays.
        fits: whether one image fits a GPU.
        placement: micro-batch, accumulation, GPUs and nodes.
        images_per_second_per_gpu: training throughput of one GPU.
        gpu_hours_per_epoch: with its 95 % interval.
    """

    cost: Cost
    fits: NDArray[np.bool_]
    placement: Placement
    images_per_second_per_gpu: Interval
    gpu_hours_per_epoch: Interval


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
    return Shape(d, depths, mlp_width.reshape(d.shape), heads.reshape(d.shape), p, side**2, (side // p) ** 2)


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
    execution = execution or Execution(device.default_precision)  # pyright: ignore[reportArgumentType]
    check_precision(device, execution.precision)
    if execution.sharding == "fsdp" and gpus is None:
        raise UsageError("fsdp over arrays of designs needs the number of gpus")
    cost = cost_of_shape(architecture, shape, head or Head(), execution)
    images = largest_micro_batch(cost, usable_bytes(device), execution, gpus or 1)
    images = np.where(images >= 1, images, np.nan)
    placement = _place(images, device.node_size, batch_size, gpus)
    with np.errstate(invalid="ignore"):
        step = step_seconds(cost, placement, device, constants or constants_of(device), execution)
        per_image = step.total / placement.images_per_step
    hours = Interval.around(train_images * per_image / 3600, step.relative_error)
    return ArrayEstimate(
        cost, np.isfinite(images), placement, Interval.around(1 / per_image, step.relative_error), hours
    )


def _place(images: Floats, node_size: int, batch_size: int, gpus: int | None) -> Placement:
    """`memory.place` by table look-up: the divisors of a batch are few."""
    divisors = np.array([count for count in range(1, batch_size + 1) if batch_size % count == 0], float)
    min_gpus = np.ceil(batch_size / images)
    if gpus is None:
        whole = divisors[divisors % node_size == 0]
        chosen = _at_least(np.concatenate([whole, [np.nan]]), whole, np.ceil(min_gpus / node_size) * node_size)
        chosen = np.where(np.isnan(chosen), _at_least(divisors, divisors, min_gpus), chosen)
    else:
        check_divides_over(batch_size, gpus)
        chosen = np.full_like(images, gpus)
    local = batch_size / chosen
    # The largest divisor of the local batch that fits is the local batch over the fewest micro-steps.
    accumulation = np.full_like(images, np.nan)
    for count in divisors[::-1]:
        fits = (local % count == 0) & (local / count <= images)
        accumulation[fits] = count
    return Placement(images, min_gpus, np.ceil(min_gpus / node_size), chosen, local / accumulation, accumulation)


def _at_least(values: Floats, sorted_keys: Floats, wanted: Floats) -> Floats:
    """For each wanted number the first value whose key is not below it; NaN stays NaN."""
    found = values[np.minimum(np.searchsorted(sorted_keys, np.nan_to_num(wanted, nan=1.0)), len(values) - 1)]
    return np.where(np.isnan(wanted), np.nan, found)
