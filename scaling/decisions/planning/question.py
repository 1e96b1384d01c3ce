"""What is asked of a plan: a budget, hardware, limits and where to look. Plain values, so that it can be repeated."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scaling.cost import DEFAULT_HARDWARE, IMAGENET_IMAGES
from scaling.decisions.planning.amounts import Budget
from scaling.errors import UsageError
from scaling.laws.surface import DRAWS

EXTRAPOLATION = 2.0
LARGEST_DRAWS = 16 * DRAWS
POSITIVE = {
    **{name: name for name in ("gpus", "price", "epochs", "train_images", "batch_size", "seed_noise", "target")},
    **{"deadline_days": "deadline", "memory_bytes": "memory-per-gpu", "extrapolation": "extrapolate"},
    **{"inference_flops": "inference-budget", "inference_milliseconds": "inference-budget"},
}
"""Fields that must be positive and finite, with the option that sets each."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question to `plan`; None where the records or the hardware decide.

    Args:
        study: where the laws come from: what `load_records` takes.
        outcome: what is predicted, such as 'accuracy' or 'test_loss'; by default the first that records have.
        task: of the records, where they have several; by default the one with most results.
        budget: of one training, all its stages.
        deadline_days: for it, on `gpus`.
        target: the rate, or the loss, to be reached; designs are then ranked by cost.
        inference_flops: at most so many FLOPs for the forward pass of one image.
        inference_milliseconds: at most so long for it on the hardware, in large batches.
        hardware: name of a device.
        gpus: that one training runs on; by default the fewest whole nodes that hold its batch.
        memory_bytes: of a GPU, instead of the hardware's.
        price: dollars per GPU-hour.
        precision: 'fp32', 'bf16' or 'fp16'; by default the device's best.
        checkpointing: keep only block inputs for backward.
        scan: 'fused' or 'recomputed', of state-space models.
        sharding: 'ddp' or 'fsdp'.
        calibration: table of measured speeds.
        batch_size: global; by default the recipe's, or 1,024.
        epochs: of `train_images`; by default each design is trained as the records were.
        recipe: published recipe whose stages are counted.
        train_images: in one epoch.
        architectures, sizes, patch_sizes, input_sizes: where to look; by default what the records have, every
            named size, and every divisor of the input.
        free_sizes: look at every width and depth between the named sizes too.
        only, without: patterns of designs that are looked at, or not.
        extrapolation: factor beyond the records' range of any scale within which designs are considered.
        seed_noise: standard deviation between seeds, as in `compare`.
        hold_out: expression over columns of records that the laws must not see.
        draws: of the laws.
        seed: of the draws.
    """

    study: str = "paper"
    outcome: str | None = None
    task: str | None = None
    budget: Budget | None = None
    deadline_days: float | None = None
    target: float | None = None
    inference_flops: float | None = None
    inference_milliseconds: float | None = None
    hardware: str = DEFAULT_HARDWARE
    gpus: int | None = None
    memory_bytes: int | None = None
    price: float | None = None
    precision: str | None = None
    checkpointing: bool = False
    scan: str = "fused"
    sharding: str = "ddp"
    calibration: str | None = None
    batch_size: int | None = None
    epochs: float | None = None
    recipe: str | None = None
    train_images: int = IMAGENET_IMAGES
    architectures: tuple[str, ...] | None = None
    sizes: tuple[str, ...] | None = None
    patch_sizes: tuple[int, ...] | None = None
    input_sizes: tuple[int, ...] | None = None
    free_sizes: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    extrapolation: float = EXTRAPOLATION
    seed_noise: float | None = None
    hold_out: str | None = None
    draws: int = DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, option in POSITIVE.items():
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{option.replace('_', '-')} {value} must be more than nothing, and finite")
        if self.sharding == "fsdp" and self.gpus is None:
            raise UsageError("--sharding fsdp shards over how many GPUs? Add --gpus or --nodes")
        if self.budget is not None and self.budget.unit == "dollars" and self.price is None:
            raise UsageError(f"--budget {self.budget} needs --price, the dollars of one GPU-hour")
        if self.deadline_days is not None and self.gpus is None:
            raise UsageError(f"--deadline of {self.deadline_days:g} days on how many GPUs? Add --gpus or --nodes")
        if self.epochs is not None and self.recipe is not None:
            raise UsageError("--epochs and --recipe each say how long to train; give one")
        if self.recipe is not None and self.batch_size is not None:
            raise UsageError("--batch-size: the recipe says its batch sizes; give --epochs for one of your own")
        if not self.extrapolation >= 1:
            raise UsageError(f"--extrapolate {self.extrapolation:g}: a factor of at least 1 (1: inside the data alone)")
        if not 1 <= self.draws <= LARGEST_DRAWS:
            raise UsageError(f"draws must be 1 to {LARGEST_DRAWS:,}, not {self.draws}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Question":
        """The question that `to_json` wrote.

        Raises:
            UsageError: for values that are not of a question.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"not a question of this version: unknown key '{unknown[0]}'")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise UsageError(f"not a question of a plan: {place}: {problem['msg'].lower()}") from None
