"""What training a design through all its stages takes: hours, days, energy and money."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.cost.estimates import CostEstimate
from scaling.cost.roofline import Interval
from scaling.cost.stages import Stage
from scaling.errors import UsageError

HOURS_PER_DAY = 24
LARGEST_EPOCHS = 1_000_000
LARGEST_PRICE = 1_000_000  # dollars per GPU-hour


@dataclass(frozen=True, slots=True)
class StageBudget:
    """One stage: its estimate and its GPU-hours."""

    stage: Stage
    estimate: CostEstimate
    gpu_hours: Interval


@dataclass(frozen=True, slots=True)
class Budget:
    """What a whole training takes.

    Args:
        stages: each stage with its hours.
        gpu_hours: their sum. The interval is that of fully shared errors, since all stages run on
            the same device.
        days: each stage on the GPUs of its own estimate, one after another.
        kilowatt_hours: at the boards' power limit, an upper bound without host and cooling.
        dollars: None without a price.
    """

    stages: tuple[StageBudget, ...]
    gpu_hours: Interval
    days: Interval
    kilowatt_hours: Interval
    dollars: Interval | None


def budget(
    stages: list[Stage], estimator: Callable[[Stage], CostEstimate], price_per_gpu_hour: float | None = None
) -> Budget | None:
    """Sum stages up; None where one of them does not fit its GPU.

    Args:
        stages: at least one.
        estimator: gives the estimate of a stage's design with its batch.
        price_per_gpu_hour: in dollars.

    Raises:
        UsageError: for epochs or a price that is not positive.
    """
    if price_per_gpu_hour is not None and not 0 < price_per_gpu_hour <= LARGEST_PRICE:
        raise UsageError(
            f"the price of a GPU-hour must be positive and at most {LARGEST_PRICE:,}, not {price_per_gpu_hour:g}"
        )
    rows = []
    for stage in stages:
        if not 0 < stage.epochs <= LARGEST_EPOCHS:
            raise UsageError(f"epochs must be positive and at most {LARGEST_EPOCHS:,}, not {stage.epochs:g}")
        known = estimator(stage)
        hours = known.gpu_hours(stage.epochs * known.train_images)
        if hours is None:
            return None
        rows.append(StageBudget(stage, known, hours))
    total = _sum([row.gpu_hours for row in rows])
    days = _sum([row.gpu_hours.times(1 / (_gpus(row.estimate) * HOURS_PER_DAY)) for row in rows])
    energy = total.times(rows[0].estimate.hardware.power_watts / 1000)
    return Budget(tuple(rows), total, days, energy, total.times(price_per_gpu_hour) if price_per_gpu_hour else None)


def _gpus(known: CostEstimate) -> int:
    return known.placement.gpus if known.placement else 1


def _sum(intervals: list[Interval]) -> Interval:
    parts = [(interval.estimate, interval.low, interval.high) for interval in intervals]
    return Interval(*(sum(column) for column in zip(*parts, strict=True)))
