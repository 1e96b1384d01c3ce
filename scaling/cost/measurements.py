"""Measured speeds from a table: a user's own, or the records of a study."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from scaling.cost.calibration import Measurement
from scaling.cost.cost import cost_of
from scaling.cost.estimates import DEFAULT_BATCH, DEFAULT_CLASSES, IMAGENET_IMAGES, estimate
from scaling.cost.hardware import check_precision, resolve_hardware
from scaling.cost.memory import Layout, check_divides_over
from scaling.cost.shapes import Execution, Head
from scaling.design import DATA_SECTIONS, Design, Detector, Hardware, parse_data
from scaling.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SPEED, HOURS = "images_per_second", "gpu_hours_per_epoch"
EXECUTION_COLUMNS = ("precision", "attention", "scan", "checkpointing", "sharding")
# What records call the kernels that they ran.
KERNELS = {"sdpa": "fused", "flash-attn": "fused", "mamba-ssm": "fused", "torch": "recomputed"}
OF_DETECTOR, OF_DATA = "recipe.detector.", "data."
Valid = TypeVar("Valid")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]


def _or_of_record(name: str, column: str) -> Any:
    """A column of the user's own, or the one in which records of a study say the same."""
    return Field(validation_alias=AliasChoices(name, column))


class _HeadRow(BaseModel):
    """What a row says of its head; columns of other names are of no concern here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    design: str
    classes: Whole | None = None
    auxiliary_loss: Annotated[float, Field(validation_alias="recipe.auxiliary_loss")] = 0.0


class _Row(_HeadRow):
    """What a row says of its training."""

    images_per_second: Positive | None = None
    gpu_hours_per_epoch: Positive | None = None
    gpus: Whole | None = None
    batch_size: Whole | None = None
    micro_batch_size: Whole | None = None
    precision: str | None = None
    attention: str | None = None
    scan: str | None = None
    checkpointing: Annotated[bool | None, _or_of_record("checkpointing", "resources.activation_checkpointing")] = None
    sharding: Annotated[str | None, _or_of_record("sharding", "resources.sharding")] = None
    ema_decay: Annotated[float | None, Field(validation_alias="recipe.ema_decay")] = None
    processes: Annotated[Whole, Field(validation_alias="resources.processes")] = 1
    gpu_hours: float | None = None
    """Of a record; None on a CPU."""
    status: str = "done"
    hardware: str | None = None
    device: str | None = None
    images_seen: Positive | None = None
    training_seconds: Positive | None = None
    data_seconds: Annotated[float, Field(ge=0)] | None = None

    @property
    def devices(self) -> int:
        """GPUs as the row says, or one for each process of a record; a CPU is one device for all of its processes."""
        return self.gpus or (1 if self.gpu_hours is None else self.processes)

    def speed(self) -> float | None:
        """Images per second on all GPUs; of a record without the time spent waiting for data."""
        if self.images_seen and self.training_seconds and self.data_seconds is not None:
            return self.images_seen / (self.training_seconds - self.data_seconds)
        return self.images_per_second


def read_measurements(
    table: "pd.DataFrame",
    hardware: str | Hardware,
    *,
    execution: Execution | None = None,
    batch_size: int = DEFAULT_BATCH,
    train_images: int = IMAGENET_IMAGES,
    classes: int = DEFAULT_CLASSES,
) -> list[Measurement]:
    """Measurements from a table with the columns `design` and `images_per_second` or `gpu_hours_per_epoch`.

    `images_per_second` is of all GPUs together. Optional columns say how each row was trained; what
    is missing is taken from the arguments: gpus (1), batch_size, micro_batch_size, classes,
    precision, attention, scan, checkpointing, sharding. Records of a study say it all. Only rows
    that are `done` count, were trained at one patch size, and name this hardware, or the device torch knows it by,
    or none.

    Raises:
        UsageError: if a needed column is missing, a value cannot be, no row is left, or a row
            cannot have been trained so.
    """
    if "design" not in table or not {SPEED, HOURS} & set(table):
        raise UsageError(
            f"calibration needs the columns design and {SPEED} (or {HOURS}); found {', '.join(map(str, table))}"
        )
    device = resolve_hardware(hardware)
    settings = execution or Execution(device.default_precision)
    measured, elsewhere = [], set()
    for number, values in enumerate(table.to_dict("records"), start=1):
        known = _known(values)
        try:
            row = _parse(known)
            if row.status != "done" or "recipe.stages" in known:  # a patch schedule's speed is no design's
                continue
            if not _is_of(device, row):
                elsewhere.add(row.hardware or row.device)
                continue
            head = recorded_head(known, classes)
            measured.append(_measurement(row, head, device, settings, batch_size, train_images))
        except UsageError as error:
            raise UsageError(f"calibration, row {number}: {error}") from None
    if not measured:
        where = f"; they ran on {', '.join(sorted(map(str, elsewhere)))}: give its --hardware" if elsewhere else ""
        raise UsageError(
            f"calibration: none of the {len(table)} rows is a finished run on {device.name or 'the device'}{where}"
        )
    return measured


def recorded_head(values: dict[Any, Any], classes: int = DEFAULT_CLASSES) -> Head:
    """The head of a row; records of a study say it in their columns data.* and recipe.*.

    Args:
        values: of the row's columns, `design` among them.
        classes: of a row that does not say them.

    Raises:
        UsageError: for a design or a value that cannot be.
    """
    known = _known(values)
    row = _valid(_HeadRow.model_validate, known)
    found = Head(
        row.classes or classes,
        Design.parse(row.design).head,
        auxiliary=row.auxiliary_loss > 0,
        detector=_valid(Detector.model_validate, _under(OF_DETECTOR, known), OF_DETECTOR),
    )
    if row.classes is None and known.get("data.name") in DATA_SECTIONS:
        data = _valid(parse_data, _under(OF_DATA, known), OF_DATA)
        return replace(found, classes=data.classes, label_sides=data.label_sides)
    return found


def _known(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items() if value is not None and value == value}


def _parse(known: dict[str, Any]) -> _Row:
    return _valid(_Row.model_validate, known)


def _valid(model: Callable[[dict[str, Any]], Valid], known: dict[str, Any], place: str = "") -> Valid:
    """What a model makes of these values; the first that it refuses is named by its column."""
    try:
        return model(known)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    loc = (part for part in problem["loc"] if part != known.get("name"))  # the kind of data is in no column's name
    name = place + ".".join(map(str, loc))
    if problem["type"] == "missing":
        raise UsageError(f"{name}: missing")
    raise UsageError(f"{name}: {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")


def _is_of(hardware: Hardware, row: _Row) -> bool:
    """Whether a row names this hardware; or its device, where it is known what torch calls it; or neither."""
    if row.hardware is not None:
        return row.hardware == hardware.name
    return row.device is None or not hardware.torch_names or row.device in hardware.torch_names


def _under(place: str, known: dict[str, Any]) -> dict[str, Any]:
    """What the columns of a nested table hold, by key; a table has lists as text."""
    columns = {name.removeprefix(place): value for name, value in known.items() if name.startswith(place)}
    return {key: _list(place + key, value) if str(value).startswith("[") else value for key, value in columns.items()}


def _list(column: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError(f"{column}: {text!r}: not a list such as [1, 2]") from None


def _measurement(
    row: _Row, head: Head, hardware: Hardware, settings: Execution, batch_size: int, train_images: int
) -> Measurement:
    own = {name: getattr(row, name) for name in EXECUTION_COLUMNS if getattr(row, name) is not None}
    execution = replace(settings, **{name: KERNELS.get(value, value) for name, value in own.items()})
    execution = replace(execution, ema=execution.ema or row.ema_decay is not None)
    check_precision(hardware, execution.precision)
    design, speed = Design.parse(row.design), row.speed()
    if speed is None and row.gpu_hours_per_epoch is None:
        raise UsageError(f"{SPEED} or {HOURS}: missing")
    by_hours = speed is None
    protocol = estimate(
        design,
        hardware,
        head=head,
        batch_size=row.batch_size or batch_size,
        # Hours are of the whole protocol, a speed is of the GPUs that the row names.
        gpus=None if by_hours and row.devices == 1 else row.devices,
        execution=execution,
    )
    seconds = 3600 * (row.gpu_hours_per_epoch or 0) / train_images if speed is None else row.devices / speed
    layout = protocol.placement if row.micro_batch_size is None else _layout(row, row.batch_size or batch_size)
    if layout is None:
        raise UsageError(f"it cannot have been trained so: {protocol.misfit}")
    return Measurement(row.design, cost_of(design, head, execution), layout, hardware, execution, seconds)


def _layout(row: _Row, batch_size: int) -> Layout:
    """As the row says it was trained."""
    check_divides_over(batch_size, row.devices)
    local, micro = batch_size // row.devices, row.micro_batch_size or 1
    if local % micro:
        raise UsageError(f"micro_batch_size: {micro} does not divide the {local} images of a GPU")
    return Layout(row.devices, micro, local // micro)
