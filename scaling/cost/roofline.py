"""How long a training step takes: a roofline with six constants, and how far it can be trusted.

Work that a GPU does one kernel after another adds up:

    step = micro-steps x (micro-batch x image + overhead) + optimizer + exposed communication
    image = products / (s_products P) + attention / (s_attention P) + scan / (s_scan P) + traffic / (s_bandwidth W)

P is the data sheet's peak for the precision, W its memory bandwidth. Attention and scan count what
fused kernels compute a second time. Exact FLOPs and bytes carry the dependence on the design, the
shares s only the device; docs/estimating.md says what they were fitted to and how wrong they were.
"""

import math
from dataclasses import dataclass

from scaling.cost.cost import Cost
from scaling.cost.memory import Layout, communication_bytes
from scaling.cost.shapes import Count, Execution, larger
from scaling.design import Hardware

UPDATE_BYTES = 28  # AdamW reads weight, gradient and two moments, and writes weight and moments
EMA_BYTES = 12  # reads weight and average, and writes the average
BACKWARD_SHARE = 2 / 3  # of a training step's products; gradients travel meanwhile

# Standard deviations of natural logarithms.
SHARED = 0.25  # of the four shares of a device, together
ALONE = (0.05, 0.05, 0.2, 0.4, 1.0, 0.5)  # of each constant by itself
DISCREPANCY = 0.06  # of a measured cell from the fitted roofline: Table 6 4.8 %, RTX 3090 3.2 % (docs/estimating.md)
INTERVAL = 1.96  # standard deviations: 95 %

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Constants:
    """Shares of a device's rates, their uncertainty, and where they come from.

    Args:
        products: share of peak in matrix products.
        attention: share of peak in attention scores and their product with V.
        scan: share of peak in the state-space scan and its convolution.
        bandwidth: share of memory bandwidth.
        step_overhead_seconds: per forward and backward pass, whatever its size.
        network: share of the rates between devices.
        covariance: of the natural logarithms of the six, in this order.
        discrepancy: standard deviation of the log of a measured time from the roofline's.
        source: what they were fitted to.
    """

    products: float
    attention: float
    scan: float
    bandwidth: float
    step_overhead_seconds: float
    network: float
    covariance: Matrix
    discrepancy: float
    source: str

    @property
    def values(self) -> tuple[float, ...]:
        """The six constants in the order of the covariance."""
        return self.products, self.attention, self.scan, self.bandwidth, self.step_overhead_seconds, self.network


def spread(shared: float) -> Matrix:
    """Covariance of the logarithms when all shares move together by `shared`, and each a little alone."""
    places = range(len(ALONE))
    return tuple(
        tuple(shared**2 * (row < 4 and column < 4) + ALONE[row] ** 2 * (row == column) for column in places)
        for row in places
    )


GENERIC = Constants(
    products=0.45,
    attention=0.45,
    scan=0.45,
    bandwidth=0.7,
    step_overhead_seconds=0.005,
    network=0.7,
    covariance=spread(SHARED),
    discrepancy=DISCREPANCY,
    source="generic: no measurement of this device",
)


def constants_of(hardware: Hardware) -> Constants:
    """The constants measured on a device, or the generic ones."""
    known = hardware.efficiency
    if known is None:
        return GENERIC
    return Constants(
        known.products,
        known.attention,
        known.scan,
        known.bandwidth,
        known.step_overhead_seconds,
        known.network,
        known.covariance or spread(known.uncertainty or SHARED),
        DISCREPANCY,
        known.source,
    )


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds of one optimiser step on each GPU, by what they are spent on."""

    products: Count
    attention: Count
    scan: Count
    memory: Count
    overhead: Count
    optimizer: Count
    communication: Count
    relative_error: Count
    """Standard deviation of the natural logarithm of the total."""

    @property
    def total(self) -> Count:
        """Sum of the parts."""
        work = self.products + self.attention + self.scan + self.memory
        return work + self.overhead + self.optimizer + self.communication


def step_seconds(
    cost: Cost, layout: Layout, hardware: Hardware, constants: Constants, execution: Execution
) -> StepSeconds:
    """Time of one optimiser step of a cost laid out on GPUs."""
    peak, images = hardware.peak_flops[execution.precision], layout.images_per_step
    training, again = cost.training, cost.recomputed
    scan = training.scan + again.scan + training.convolution + again.convolution
    attention = training.attention + again.attention
    products = training.total + again.total - scan - attention
    bandwidth = constants.bandwidth * hardware.bandwidth_bytes_per_second
    updated = (UPDATE_BYTES + EMA_BYTES * execution.ema) * cost.parameters.total
    updated = updated / (layout.gpus if execution.sharding == "fsdp" else 1)
    parts = (
        images * products / (constants.products * peak),
        images * attention / (constants.attention * peak),
        images * scan / (constants.scan * peak),
        (images * cost.traffic_bytes_per_image) / bandwidth,
        layout.accumulation * constants.step_overhead_seconds,
    )
    optimizer = updated / bandwidth
    sent = _sending_seconds(cost, layout, hardware, constants, execution)
    hidden = _overlap(sum(parts[:4]), layout, execution)
    communication = larger(0.0, sent - hidden)
    total = sum(parts) + optimizer + communication
    products, attention, scan, memory, overhead = (part / total for part in parts)
    sensitivity = (products, attention, scan, memory + optimizer / total, overhead, (communication > 0) * sent / total)
    return StepSeconds(*parts, optimizer, communication, _relative_error(sensitivity, constants))


def _sending_seconds(
    cost: Cost, layout: Layout, hardware: Hardware, constants: Constants, execution: Execution
) -> Count:
    inside = layout.gpus <= hardware.node_size
    rate = inside * hardware.link_bytes_per_second + (1 - inside) * hardware.network_bytes_per_second
    return communication_bytes(cost, layout.gpus, layout.accumulation, execution).total / (constants.network * rate)


def _overlap(work: Count, layout: Layout, execution: Execution) -> Count:
    """Work behind which communication hides: FSDP's all along, DDP's in the last micro-step's backward."""
    return work if execution.sharding == "fsdp" else BACKWARD_SHARE * work / layout.accumulation


def _relative_error(sensitivity: tuple[Count, ...], constants: Constants) -> Count:
    """Propagate the constants' covariance to the log of the total, and add the roofline's own discrepancy.

    What hides less communication when it is faster is taken at its full share, which errs on the wide side.
    """
    variance = constants.discrepancy**2
    for row, left in zip(constants.covariance, sensitivity, strict=True):
        for covariance, right in zip(row, sensitivity, strict=True):
            variance = variance + left * covariance * right
    return variance**0.5


@dataclass(frozen=True, slots=True)
class Interval:
    """A positive quantity with its 95 % interval, symmetric on a log scale."""

    estimate: Count
    low: Count
    high: Count

    @classmethod
    def around(cls, estimate: Count, relative_error: Count) -> "Interval":
        """The interval of a log-normal quantity."""
        factor = math.e ** (INTERVAL * relative_error)
        return cls(estimate, estimate / factor, estimate * factor)

    def times(self, factor: Count) -> "Interval":
        """The same in another unit."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)


def interval_fields(name: str, value: Interval | None) -> dict[str, Count | None]:
    """NAME, NAME_low and NAME_high of plain values; None where there is no interval."""
    if value is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}
