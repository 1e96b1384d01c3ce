"""Refine the roofline's constants from measured times."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from scaling.cost.cost import Cost
from scaling.cost.memory import Layout
from scaling.cost.roofline import GENERIC, Constants, spread, step_seconds
from scaling.cost.shapes import Execution
from scaling.design import Hardware
from scaling.errors import UsageError

PRIOR_SHARED = 0.5  # a device may well reach half or twice the generic shares
LARGEST_SHARE = 2.0  # of a data sheet's rate; clocks above the nominal explain a little over 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured time: GPU-seconds per image of a cost laid out on a device's GPUs."""

    name: str
    cost: Cost
    layout: Layout
    hardware: Hardware
    execution: Execution
    seconds_per_image: float

    def predicted(self, constants: Constants) -> float:
        """GPU-seconds per image by the roofline."""
        step = step_seconds(self.cost, self.layout, self.hardware, constants, self.execution)
        return step.total / self.layout.images_per_step


def calibrate(measured: list[Measurement], source: str) -> Constants:
    """Constants that explain measured times, from a wide prior around the generic ones.

    The prior says that a device's shares move together far more than apart, so one measured cell
    sets their level and many cells their differences (posterior mode by least squares; the
    covariance is that of the linearised posterior). Where the roofline misses the measurements by
    more than its usual discrepancy, the intervals grow accordingly.

    Args:
        measured: at least one measurement, all of one device.
        source: what they are, for tables.

    Raises:
        UsageError: without measurements, or with times that no such device can reach.
    """
    if not measured:
        raise UsageError("no measurement to calibrate from")
    constants = _posterior(measured, replace(GENERIC, source=source))
    misses = np.log([m.predicted(constants) / m.seconds_per_image for m in measured])
    scatter = float(np.sqrt(np.sum(misses**2) / max(1, len(measured) - 1)))
    if scatter > constants.discrepancy:
        constants = _posterior(measured, replace(GENERIC, discrepancy=scatter, source=source))
    if max(constants.products, constants.attention, constants.bandwidth) > LARGEST_SHARE:
        fastest = min(measured, key=lambda one: one.seconds_per_image / one.predicted(constants))
        raise UsageError(
            f"the measured times mean {constants.products:.3g} times the peak rate, most of all {fastest.name} at "
            f"{1 / fastest.seconds_per_image:.4g} images/s per GPU; check units, gpus and hardware"
        )
    return constants


def _posterior(measured: list[Measurement], start: Constants) -> Constants:
    prior = np.log(start.values)
    whiten = np.linalg.cholesky(np.linalg.inv(np.array(spread(PRIOR_SHARED)))).T

    def constants(logarithms: np.ndarray, covariance: Any = start.covariance) -> Constants:
        products, attention, scan, bandwidth, overhead, network = map(float, np.exp(logarithms))
        return Constants(
            products, attention, scan, bandwidth, overhead, network, covariance, start.discrepancy, start.source
        )

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        guess = constants(logarithms)
        misses = [np.log(m.predicted(guess) / m.seconds_per_image) / start.discrepancy for m in measured]
        return np.concatenate([misses, whiten @ (logarithms - prior)])

    found = least_squares(residuals, prior)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    symmetric = (covariance + covariance.T) / 2
    return constants(found.x, tuple(tuple(map(float, row)) for row in symmetric))


def efficiency_toml(hardware: str, constants: Constants) -> str:
    """Constants as a table [hardware.NAME.efficiency] of a study, so that they need not be fitted again."""
    names = ("products", "attention", "scan", "bandwidth", "step_overhead_seconds", "network")
    values = [f"{name} = {value:.4g}" for name, value in zip(names, constants.values, strict=True)]
    rows = ["  [" + ", ".join(f"{number:.6f}" for number in row) + "]," for row in constants.covariance]
    source = constants.source.replace("\\", "/").replace('"', "'")
    return "\n".join(
        [f"[hardware.{hardware}.efficiency]", *values, "covariance = [", *rows, "]", f'source = "{source}"']
    )
