"""What a design reached: its loss or metric, averaged over seeds, and how much seeds differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.errors import ScalingError, UsageError, nearest
from scaling.laws import Link

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


class CompareError(ScalingError):
    """Records that cannot be compared, with what is missing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A column of results. Inside, values are logarithms: of a loss, or of the odds of an error."""

    column: str
    label: str
    link: Link
    assumed_noise: float
    """Standard deviation between seeds where no design has two: of the loss, relative; of a rate, in points."""

    @property
    def is_loss(self) -> bool:
        """Whether lower is better."""
        return self.link == "none"

    def possible(self, values: Array) -> Array:
        """Which values have an inner form: positive losses, and rates between 0 and 1 without the ends."""
        return np.isfinite(values) & (values > 0) & ((values < 1) | self.is_loss)

    def inner(self, values: Array) -> Array:
        """Logarithms of a loss, or of the odds of an error; lower is better."""
        return np.log(values) if self.is_loss else np.log((1 - values) / values)

    def outer(self, inner: Array) -> Array:
        """Back to the unit of the column."""
        return np.exp(inner) if self.is_loss else 1 / (1 + np.exp(inner))

    def gain(self, value: Array, base: Array) -> Array:
        """How much better: points of a rate, or what is taken off a loss."""
        return base - value if self.is_loss else 100 * (value - base)

    def inner_error(self, value: float, error: float) -> float:
        """A small error of a value as an error of its inner form."""
        return error / value if self.is_loss else error / (value * (1 - value))

    def assumed(self, value: float, noise: float) -> float:
        """Inner standard deviation for an assumed noise, see `assumed_noise`."""
        return noise if self.is_loss else self.inner_error(value, noise / 100)


OUTCOMES = {
    outcome.column: outcome
    for outcome in (
        Outcome("accuracy", "accuracy", "accuracy", 0.1),
        Outcome("mean_iou", "mean IoU", "accuracy", 0.3),
        Outcome("box_ap", "box AP", "accuracy", 0.2),
        Outcome("mask_ap", "mask AP", "accuracy", 0.2),
        Outcome("test_loss", "test loss", "none", 0.005),
    )
}
"""In the order in which one is chosen. Assumed noises are round numbers of the order that repeated trainings on
ImageNet, ADE20K and COCO show."""


def find_outcome(table: "pd.DataFrame", y: str | None) -> Outcome:
    """The outcome asked for, or the first that the records have.

    Raises:
        UsageError: for a column that is no outcome.
        CompareError: if no record has one, with what became of them.
    """
    if y is not None and y not in OUTCOMES:
        raise UsageError(f"--y '{y}': {nearest(y, OUTCOMES)}")
    for column, outcome in OUTCOMES.items():
        if y in (None, column) and column in table and table[column].notna().any():
            return outcome
    became = table["status"].value_counts().to_dict() if "status" in table else {}
    words = f" ({', '.join(f'{count} {status}' for status, count in became.items())})" if became else ""
    raise CompareError(f"none of the {len(table)} records has {y or 'a loss or a metric'}{words}; nothing to compare")


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """How much seeds differ, on the inner scale of an outcome."""

    estimate: Callable[[float], float]
    """Standard deviation of one seed at a value."""
    degrees_of_freedom: int | None
    """Of its estimate from repeats; None where it is assumed."""
    words: str
    given: bool = False
    """Whether the user said it."""


def seed_noise(values: dict[str, Array], outcome: Outcome, assumed: float | None) -> SeedNoise:
    """Noise from the repeats of all designs, or as assumed where there are none.

    Args:
        values: each design's results, one per seed.
        outcome: of the values.
        assumed: the user's noise, see `Outcome.assumed_noise`; overrides repeats.
    """
    repeated = [outcome.inner(each) for each in values.values() if len(each) > 1]
    freedom = sum(len(each) - 1 for each in repeated)
    if freedom and assumed is None:
        variance = sum(float(np.sum((each - each.mean()) ** 2)) for each in repeated) / freedom
        spread = float(np.sqrt(variance))
        words = f"seeds differ by {spread:.2%} of the {'loss' if outcome.is_loss else 'odds of an error'}"
        return SeedNoise(lambda _: spread, freedom, f"{words} (standard deviation, {freedom} degrees of freedom)")
    noise = outcome.assumed_noise if assumed is None else assumed
    shown = f"{noise:.2%}" if outcome.is_loss else f"{noise:g} points"
    why = "assumed (--seed-noise)" if assumed is None else "as given"
    words = f"noise between seeds {why}: {shown}"
    return SeedNoise(lambda value: outcome.assumed(value, noise), None, words, given=assumed is not None)
