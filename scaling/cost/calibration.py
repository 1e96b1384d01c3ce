"""Refine the roofline's constants from measured times."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import least_squares

from scaling.cost.estimates import DEFAULT_BATCH, IMAGENET_IMAGES, CostEstimate, estimate
from scaling.cost.hardware import resolve_hardware
from scaling.cost.memory import Placement, check_divides_over
from scaling.cost.roofline import GENERIC, Constants, spread, step_seconds
from scaling.cost.shapes import Execution
from scaling.design import Hardware
from scaling.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PRIOR_SHARED = 0.5  # a device may well reach half or twice the generic shares
SPEED, HOURS = "images_per_second", "gpu_hours_per_epoch"
FUSED_KERNELS = {"sdpa": "fused", "flash-attn": "fused"}  # what records call the attention they ran
EXECUTION_COLUMNS = ("precision", "attention", "scan", "checkpointing", "sharding")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured time: GPU-seconds per image of a design that trained as `expected` says."""

    expected: CostEstimate
    placement: Placement
    seconds_per_image: float

    def predicted(self, constants: Constants) -> float:
        """GPU-seconds per image by the roofline."""
        known = self.expected
        step = step_seconds(known.cost, self.placement, known.hardware, constants, known.execution)
        return step.total / self.placement.images_per_step


def calibrate(measured: "list[Measurement]", source: str) -> Constants:
    """Constants that explain measured times, from a wide prior around the generic ones.

    The prior says that a device's shares move together far more than apart, so one measured cell
    sets their level and many cells their differences (posterior mode, Gauss-Newton; the covariance
    is that of the linearised posterior). Where the roofline misses the measurements by more than its
    usual discrepancy, the intervals grow accordingly.

    Args:
        measured: at least one measurement, all of one device.
        source: what they are, for tables.

    Raises:
        UsageError: without measurements.
    """
    if not measured:
        raise UsageError("no measurement to calibrate from")
    constants = _posterior(measured, replace(GENERIC, source=source))
    misses = np.log([m.predicted(constants) / m.seconds_per_image for m in measured])
    scatter = float(np.sqrt(np.sum(misses**2) / max(1, len(measured) - 1)))
    if scatter > constants.discrepancy:
        constants = _posterior(measured, replace(GENERIC, discrepancy=scatter, source=source))
    return constants


def _posterior(measured: list[Measurement], start: Constants) -> Constants:
    prior = np.log(start.values)
    whiten = np.linalg.cholesky(np.linalg.inv(np.array(spread(PRIOR_SHARED)))).T

    def constants(logarithms: np.ndarray, covariance: Any = start.covariance) -> Constants:
        products, attention, scan, bandwidth, overhead = map(float, np.exp(logarithms))
        return Constants(products, attention, scan, bandwidth, overhead, covariance, start.discrepancy, start.source)

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        guess = constants(logarithms)
        misses = [np.log(m.predicted(guess) / m.seconds_per_image) / start.discrepancy for m in measured]
        return np.concatenate([misses, whiten @ (logarithms - prior)])

    found = least_squares(residuals, prior)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    return constants(found.x, tuple(tuple(map(float, row)) for row in covariance))


def read_measurements(
    table: "pd.DataFrame",
    hardware: str | Hardware,
    *,
    execution: Execution | None = None,
    batch_size: int = DEFAULT_BATCH,
    train_images: int = IMAGENET_IMAGES,
    classes: int = 1000,
) -> list[Measurement]:
    """Measurements from a table with the columns `design` and `images_per_second` or `gpu_hours_per_epoch`.

    `images_per_second` is of all GPUs together. Optional columns say how each row was trained; what
    is missing is taken from the arguments: gpus (1), batch_size, micro_batch_size, classes,
    precision, attention, scan, checkpointing, sharding. Of records, only those that are `done` and
    of this device count.

    Raises:
        UsageError: if a needed column is missing, a value is no positive number, no row is left, or
            a row cannot have been trained so.
    """
    column = next((name for name in (SPEED, HOURS) if name in table), None)
    if "design" not in table or column is None:
        raise UsageError(
            f"calibration needs the columns design and {SPEED} (or {HOURS}); found {', '.join(map(str, table))}"
        )
    device, measured = resolve_hardware(hardware), []
    for number, row in enumerate(table.to_dict("records"), start=1):
        known = {str(key): value for key, value in row.items() if value is not None and value == value}
        if known.get("status", "done") != "done" or not _is_of(device, known):
            continue
        try:
            measured.append(_measurement(known, column, device, execution, batch_size, train_images, classes))
        except UsageError as error:
            raise UsageError(f"calibration, row {number}: {error}") from None
    if not measured:
        raise UsageError(f"calibration: none of the {len(table)} rows is a finished run on this device")
    return measured


def _is_of(hardware: Hardware, row: dict[str, Any]) -> bool:
    """Whether a row names no device, or this one."""
    return row.get("hardware", hardware.name) == hardware.name


def _measurement(
    row: dict[str, Any],
    column: str,
    hardware: Hardware,
    execution: Execution | None,
    batch_size: int,
    train_images: int,
    classes: int,
) -> Measurement:
    value = row.get(column)
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UsageError(f"{column} must be a positive number, not {value!r}")
    own = {name: FUSED_KERNELS.get(row[name], row[name]) for name in EXECUTION_COLUMNS if name in row}
    images = int(row.get("batch_size", batch_size))
    expected = estimate(
        str(row["design"]),
        hardware,
        classes=int(row.get("classes", classes)),
        batch_size=images,
        gpus=int(row["gpus"]) if "gpus" in row else None,
        execution=replace(execution or Execution(), **own) if own else execution,
        train_images=train_images,
    )
    gpus = int(row.get("gpus", 1))
    seconds = gpus / value if column == SPEED else 3600 * value / train_images
    return Measurement(expected, _placement(row, expected, images, column), seconds)


def _placement(row: dict[str, Any], expected: CostEstimate, batch_size: int, column: str) -> Placement:
    """How a row was trained: as it says, or else as the protocol would (hours) or on one GPU (speed)."""
    if "micro_batch_size" not in row and column == HOURS and expected.placement is not None:
        return expected.placement
    gpus = int(row.get("gpus", 1))
    check_divides_over(batch_size, gpus)
    local = batch_size // gpus
    micro = int(row.get("micro_batch_size", expected.placement.images_per_gpu if expected.placement else 1))
    micro = max(1, min(micro, local))
    return Placement(micro, gpus, 1, gpus, micro, -(-local // micro))
