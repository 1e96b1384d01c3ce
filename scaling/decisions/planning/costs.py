"""What training each design of a space costs, through all stages of its recipe. Shapes: M designs, K stages in all."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.cost import (
    DEFAULT_BATCH,
    Constants,
    Execution,
    Head,
    Request,
    Row,
    StageRow,
    constants_of,
    estimate_arrays,
    find_hardware,
    recipe_names,
    stage_rows,
)
from scaling.cost.shapes import Shape
from scaling.decisions.outcomes import Array
from scaling.design import Design, Hardware
from scaling.errors import UsageError
from scaling.records import load_records

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence, Kind
    from scaling.decisions.planning.question import Question
    from scaling.decisions.planning.space import Model, Space

HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True)
class Training:
    """How every design is trained: by a recipe's stages, or for a number of images."""

    recipes: dict[str, str]
    """Published recipe of each architecture; empty where images are given."""
    images: float | None
    batch_size: int
    words: str

    def stages(self, model: "Model", input_size: int, train_images: int) -> list[StageRow]:
        """Stages of a model at its final input; none where its recipe says nothing of it."""
        if self.images is not None:
            return [StageRow("training", None, self.images / train_images, self.batch_size)]
        recipe = self.recipes.get(model.architecture)
        if recipe is None:
            return []
        return stage_rows(recipe, model.architecture, model.size, input_size, model.head, train_images)


def decide_training(question: "Question", evidence: "Evidence") -> Training:
    """As long as the question says, else as the records, else as the published recipes of their architectures.

    Raises:
        UsageError: where none of them says how long.
    """
    batch = question.batch_size or evidence.batch_size or DEFAULT_BATCH
    if question.epochs is not None:
        return Training({}, question.epochs * question.train_images, batch, f"{question.epochs:g} epochs")
    architectures = {architecture for architecture, _ in evidence.kinds}
    if question.recipe is not None:
        return Training(dict.fromkeys(architectures, question.recipe), None, batch, f"recipe '{question.recipe}'")
    if evidence.has_pretrainings:
        raise UsageError(
            f"{question.study} was trained in stages, and plans do not know what those of another design would cost;\n"
            "give --epochs at the design's own input and patch"
        )
    if evidence.images_seen is not None:
        return Training({}, evidence.images_seen, batch, f"{evidence.images_seen:,.0f} images, as the records were")
    known = {name: name for name in architectures if name in recipe_names()}
    if known and evidence.task in ("", "classification"):
        names = " and ".join(sorted(known))
        return Training(known, None, batch, f"the published recipes of {names}, all stages")
    raise UsageError(f"{question.study} does not say how long its models were trained: give --epochs")


@dataclass(frozen=True)
class Setting:
    """Hardware and execution of a question, resolved (not slotted, for what is cached)."""

    hardware: Hardware
    execution: Execution
    constants: Constants
    head: Head
    question: "Question"

    @cached_property
    def request(self) -> Request:
        """For full estimates of single designs."""
        asked = self.question
        return Request(
            self.hardware,
            self.execution,
            head=self.head,
            gpus=asked.gpus,
            train_images=asked.train_images,
            price_per_gpu_hour=asked.price,
            constants=self.constants,
        )


def decide_setting(question: "Question", evidence: "Evidence") -> Setting:
    """The hardware, its speeds and how a design is executed on it."""
    hardware = find_hardware(question.hardware)
    if question.memory_bytes is not None:
        hardware = hardware.model_copy(update={"memory_bytes": question.memory_bytes})
    execution = Execution(
        question.precision or hardware.default_precision,  # pyright: ignore[reportArgumentType]
        scan=question.scan,  # pyright: ignore[reportArgumentType]
        checkpointing=question.checkpointing,
        sharding=question.sharding,  # pyright: ignore[reportArgumentType]
    )
    constants = constants_of(hardware)
    if question.calibration is not None:
        from scaling.cost import calibrate, read_measurements  # late: they need scipy

        measured = read_measurements(
            load_records(Path(question.calibration), each_stage=True),
            hardware,
            execution=execution,
            batch_size=question.batch_size or DEFAULT_BATCH,
            train_images=question.train_images,
            classes=evidence.head.classes,
        )
        constants = calibrate(measured, f"{question.calibration}: {len(measured)} measured")
    return Setting(hardware, execution, constants, evidence.head, question)


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Of one training of each design, all stages; arrays (M,). NaN where a design does not fit its GPU."""

    flops: Array
    gpu_hours: Array
    gpu_hours_low: Array
    gpu_hours_high: Array
    days: Array
    forward_flops: Array
    """Per image at the final input."""
    milliseconds: Array
    """Per image of a forward pass in large batches: the forward share of a training step's time."""
    fits: Array
    trainable: Array
    """Whether the recipe says how, and its stages can be cut in such patches."""

    def chosen(self, which: Array) -> "Costs":
        """Of some of the designs."""
        return Costs(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def in_unit(self, unit: str, price: float | None) -> Array:
        """In the unit of a budget."""
        if unit == "flops":
            return self.flops
        return self.gpu_hours * (price or 1.0) if unit == "dollars" else self.gpu_hours


@dataclass(frozen=True, slots=True, eq=False)
class _Stages:
    """Stages of all designs, one after another; arrays (K,)."""

    design: Array
    input_size: Array
    epochs: Array
    batch_size: Array
    final: Array


def cost_space(space: "Space", training: Training, setting: Setting) -> Costs:
    """Costs of every design of a space.

    Raises:
        UsageError: for a batch that does not divide over the GPUs, or a precision that the hardware lacks.
    """
    asked, size = setting.question, len(space)
    stages = _stages_of_all(space, training, asked.train_images)
    whole = space.patch_size[stages.design]
    divides = (stages.input_size % whole == 0) | space.padded[stages.design]
    trainable = np.bincount(stages.design, minlength=size) > 0
    trainable &= np.bincount(stages.design, ~divides, minlength=size) == 0
    stages = _Stages(**{field.name: getattr(stages, field.name)[divides] for field in fields(stages)})
    sums = {name: np.zeros(size) for name in ("flops", "gpu_hours", "gpu_hours_low", "gpu_hours_high", "days")}
    finals = {name: np.full(size, np.nan) for name in ("forward_flops", "milliseconds")}
    fits = trainable.copy()
    for rows, found in _estimates(space, stages, setting):
        where, epochs = stages.design[rows], stages.epochs[rows]
        fits[where[~found["fits"]]] = False
        sums["flops"] += _summed(where, epochs * asked.train_images * found["training_flops_per_image"], size)
        for suffix in ("", "_low", "_high"):
            hours = epochs * found[f"gpu_hours_per_epoch{suffix}"]
            sums[f"gpu_hours{suffix}"] += _summed(where, hours, size)
        hours = epochs * found["gpu_hours_per_epoch"]
        sums["days"] += _summed(where, hours / found["gpus"] / HOURS_PER_DAY, size)
        last = stages.final[rows]
        finals["forward_flops"][where[last]] = found["forward_flops_per_image"][last]
        share = found["forward_flops_per_image"] / found["training_flops_per_image"]
        finals["milliseconds"][where[last]] = (1000 * share / found["images_per_second_per_gpu"])[last]
    return Costs(**sums, **finals, fits=fits, trainable=trainable)


def _summed(where: Array, values: Array, size: int) -> Array:
    return np.bincount(where, values, minlength=size)


def _stages_of_all(space: "Space", training: Training, train_images: int) -> _Stages:
    """Every stage of every design; models and inputs are few, so recipes are looked up once for each."""
    curves, first = np.unique(space.curves, return_index=True)
    found: list[tuple[int, StageRow, bool]] = []
    for curve, place in zip(curves, first, strict=True):
        model, side = space.models[space.model[place]], int(space.input_size[place])
        rows = training.stages(model, side, train_images)
        found += [(int(curve), row, row is rows[-1]) for row in rows]
    of_curve = space.curves
    parts: dict[str, list[Array]] = {field.name: [] for field in fields(_Stages)}
    order = np.argsort(of_curve, kind="stable")
    starts = np.searchsorted(of_curve[order], np.arange(len(curves) + 1))
    for curve, row, last in found:
        designs = order[starts[curve] : starts[curve + 1]]
        own = space.input_size[designs] if row.input_size is None else np.full(len(designs), float(row.input_size))
        batch = row.batch_size or training.batch_size
        for name, value in (("epochs", row.epochs), ("batch_size", batch), ("final", last)):
            parts[name].append(np.full(len(designs), value))
        parts["design"].append(designs)
        parts["input_size"].append(own)
    empty = {"design": int, "final": bool}
    return _Stages(
        **{
            name: np.concatenate(values) if values else np.zeros(0, empty.get(name, float))
            for name, values in parts.items()
        }
    )


def _estimates(space: "Space", stages: _Stages, setting: Setting) -> Iterator[tuple[Array, dict[str, Any]]]:
    """Estimates of the stages of each architecture, head and batch size, with their places among the stages."""
    kinds = [(model.architecture, model.head) for model in space.models]
    for kind in dict.fromkeys(kinds):
        of_kind = np.array([each == kind for each in kinds])[space.model[stages.design]]
        for batch in np.unique(stages.batch_size[of_kind]):
            rows = np.flatnonzero(of_kind & (stages.batch_size == batch))
            shape = space.chosen(stages.design[rows]).shape(stages.input_size[rows])
            found = _estimate(kind, shape, int(batch), setting)
            yield rows, {field.name: getattr(found, field.name) for field in fields(found)}


def _estimate(kind: "Kind", shape: Shape, batch: int, setting: Setting) -> Any:
    architecture, head = kind
    return estimate_arrays(
        architecture,
        shape,
        setting.hardware,
        head=replace(setting.head, kind=head),
        batch_size=batch,
        gpus=setting.question.gpus,
        execution=setting.execution,
        train_images=setting.question.train_images,
        constants=setting.constants,
    )


def full_estimate(design: Design, training: Training, setting: Setting) -> Row:
    """Everything `scaling estimate` says of one design, trained so.

    Raises:
        UsageError: for a design that the recipe says nothing of.
    """
    recipe = training.recipes.get(design.architecture)
    epochs = None if training.images is None else training.images / setting.question.train_images
    request = replace(setting.request, batch_size=training.batch_size)
    return request.rows([design], epochs, recipe)[0]
