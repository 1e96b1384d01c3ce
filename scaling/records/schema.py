"""The record of one cell: costs, results, status and provenance, with units in the field names."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from scaling.design import ASKED, Augmentation, Cell, DigitsData, Recipe

SCHEMA_VERSION = 1


class Status(StrEnum):
    """What became of a cell. `oom` and `diverged` are results; `failed` is tried again.

    `stopped` is a cell that could not matter any more (`run-grid --stop-hopeless`); it can be continued.

    `unreported` is a published design whose source says what it costs, and not how well it does.
    """

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    OOM = "oom"
    DIVERGED = "diverged"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    FAILED = "failed"
    UNREPORTED = "unreported"


FINISHED = frozenset({Status.DONE, Status.OOM, Status.DIVERGED})


class Record(BaseModel):
    """What was learned of one cell. What is not known is None, never 0 and never a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    cell: str
    """Cell id: a hash of everything that determines the result."""
    stage: str | None = None
    """Name of the pretraining that the cell is; None for a cell of the study itself."""
    study: str
    design: str
    """Short name, such as 'deit-base/16@224'; of a published figure that names no model, 'unnamed/16'."""
    architecture: str | None
    size: str | None
    patch_size: int
    """Pixels per side."""
    input_size: int | None
    """Pixels per side; the short side where images keep their proportions."""
    sequence_length: int | None
    """Patch tokens, (input / patch)^2, or what they are extended to."""
    extended_length: int | None = None
    """Patch tokens after extension; None for a design without."""
    head: str | None = None
    seed: int | None
    task: str
    dataset: str
    source: Literal["measured", "published", "digitised", "estimated"] = "measured"
    reference: str | None = None
    """Tables and figures of the source that state it; None for measured records."""
    status: Status
    error: str | None = None
    """Why the cell is not done, in one line."""

    test_loss: float | None = None
    """Sum of per-example losses over the test set, divided once (nats)."""
    test_loss_standard_error: float | None = None
    """Sampling error of the test set; it does not contain the spread between seeds."""
    test_loss_reading_error: float | None = None
    """Half a pixel of the figure that a loss was read from."""
    mask_test_loss: float | None = None
    """Sum of per-image mask losses over the test set, divided once, of detection; `test_loss` is that of the boxes."""
    mask_test_loss_standard_error: float | None = None
    """Sampling error of the test set, of detection."""
    accuracy: float | None = None
    """Top-1 accuracy, 0 to 1."""
    accuracy_top5: float | None = None
    """Of classification with more than five classes."""
    calibration_error: float | None = None
    """Of classification: expected difference between confidence and accuracy, 15 bins (Guo et al. 2017)."""
    mean_iou: float | None = None
    pixel_accuracy: float | None = None
    box_ap: float | None = None
    """Average precision of boxes over IoU 0.5 to 0.95, 0 to 1."""
    box_ap50: float | None = None
    box_ap75: float | None = None
    mask_ap: float | None = None
    """Average precision of masks over IoU 0.5 to 0.95, 0 to 1."""
    mask_ap50: float | None = None
    mask_ap75: float | None = None
    metric_reading_error: float | None = None
    """Half of the last printed digit of a published metric."""
    test_images: int | None = None

    parameters: int | None = None
    """Total."""
    parameters_without_positions: int | None = None
    parameters_without_embedding_and_head: int | None = None
    """Blocks and final norm: without patch embedding, class token, positions and head."""
    forward_flops_per_image: int | None = None
    """One multiply-add is 2 FLOPs; matrix and convolution products, counted on the model."""
    training_flops_per_image: int | None = None
    """Forward and backward, without recomputation; with a patch schedule the mean over all images."""
    fvcore_forward_flops_per_image: int | None = None
    flops_note: str | None = None
    """Why the two counts differ by more than 1 %, or why there is only one."""
    activation_bytes_per_image: int | None = None
    """Bytes autograd saves for backward, forward and loss, without parameters; an Adventurer's with torch's scan.

    With a patch schedule, of the stage that saves most."""
    peak_memory_bytes_per_image: int | None = None
    """Slope of peak allocated memory over two batch sizes, by the probe before training; CUDA only."""
    peak_host_memory_bytes: int | None = None
    """Largest resident memory of the cell's first process, shared libraries included, without its loaders."""
    estimated_parameters: int | None = None
    """Total, by the closed form; of published records, whose printed number is rounded."""
    estimated_training_flops_per_image: int | None = None
    """By the closed form; of published records, which print none."""
    estimated_gpu_hours_per_epoch: float | None = None
    """By the roofline, on the hardware of the source's own hours; of published records."""
    estimated_forward_flops_per_image: int | None = None
    """By the closed form, before the model was built."""
    estimated_activation_bytes_per_image: int | None = None
    """By the closed form."""
    estimated_images_per_second: float | None = None
    """By the roofline, where the device is one it knows; without waiting for data."""
    memory_needed_bytes: int | None = None
    """Of a training step that would not fit, by the estimate or the probe; by the closed form."""
    tries: int | None = None
    """How often the cell was begun in its last run; above 1 after input or output errors."""

    steps: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    images_seen: int | None = None
    images_per_second: float | None = None
    """Training throughput, data included."""
    training_seconds: float | None = None
    data_seconds: float | None = None
    """Part of training_seconds spent on making batches."""
    evaluation_seconds: float | None = None
    overhead_seconds: float | None = None
    """From the start of the cell's process to its record, less training and evaluation; over all tries."""
    gpu_hours: float | None = None
    """Training only; None on a CPU."""
    gpu_hours_per_epoch: float | None = None
    """As a source prints it; of measured records see gpu_hours."""
    device: str | None = None
    threads: int | None = None
    """Of each process."""
    resources: dict[str, Any] | None = None
    """How it was carried out: processes, sharding, activation checkpointing and more; see docs/studies.md."""
    rolled_back_steps: int | None = None
    """Steps that were undone, once, because the loss exploded; their images were skipped."""
    resume_note: str | None = None
    """Why a checkpoint of an earlier try was not continued from."""
    attention: str | None = None
    """Kernel of a DeiT's attention."""
    scan: str | None = None
    """Kernel of an Adventurer's scan: 'mamba-ssm' or 'torch'."""
    convolution: str | None = None
    """Kernel of an Adventurer's convolution: 'causal-conv1d' or 'torch'."""
    precision: str | None = None
    recipe: dict[str, Any] | None = None
    started_from: dict[str, str] | None = None
    """The checkpoint that training started from: file, sha256, and how positions, patches and head were fitted."""
    started_from_cell: str | None = None
    """Id of the cell whose checkpoint that is; None where it is no cell's."""
    earlier_images_seen: int | None = None
    """Images of all stages before this one. A pretraining that several cells share counts in full for each."""
    earlier_training_flops: float | None = None
    """FLOPs of the trainings of all stages before this one."""
    earlier_training_seconds: float | None = None
    earlier_gpu_hours: float | None = None
    data: dict[str, Any] | None = None
    data_fingerprint: str | None = None
    """Hash of the names and sizes of all images, or of the files' contents; None for scenes that are drawn."""
    versions: dict[str, str] | None = None
    commit: str | None = None
    """Commit of the repository the command was given in; None outside one."""
    finished_at: str | None = None
    """UTC, ISO 8601."""

    @property
    def training_flops(self) -> float | None:
        """FLOPs of this cell's own training."""
        if self.training_flops_per_image is None or self.images_seen is None:
            return None
        return float(self.training_flops_per_image) * self.images_seen

    def costs_until_its_end(self) -> dict[str, float | None]:
        """The fields `earlier_` of a cell that starts from this one: this training and all before it."""
        names = ("images_seen", "training_flops", "training_seconds", "gpu_hours")
        own = {name: getattr(self, name) for name in names}
        if self.started_from_cell is None:
            return {f"earlier_{name}": value for name, value in own.items()}
        before = {name: getattr(self, f"earlier_{name}") for name in names}
        return {
            f"earlier_{name}": None if own[name] is None or before[name] is None else own[name] + before[name]
            for name in names
        }


def describe(cell: Cell) -> dict[str, Any]:
    """The fields of a record that are known before anything is run."""
    design = cell.design
    # Without later keys at their defaults as records had them before, so that old and new ones say the same.
    later = ("stages", "decay", "minimum_learning_rate", "optimizer", "auxiliary_loss", "detector")
    unused = {key for key in later if getattr(cell.recipe, key) == Recipe.model_fields[key].default}
    if isinstance(cell.data, DigitsData):
        unused |= {*Augmentation.model_fields}
    asked = {*ASKED} | ({"nodes"} if cell.resources.nodes == 1 else set())
    return {
        "cell": cell.id,
        "stage": cell.stage,
        "started_from_cell": cell.after.id if cell.after else None,
        "study": cell.study,
        "design": str(design),
        "architecture": design.architecture,
        "size": design.size,
        "patch_size": design.patch_size,
        "input_size": design.input_size,
        "sequence_length": design.sequence_length,
        "extended_length": design.extended_length,
        "head": design.head,
        "seed": cell.seed,
        "task": cell.data.task,
        "dataset": cell.data.name,
        "precision": cell.recipe.precision,
        "batch_size": cell.recipe.batch_size,
        "recipe": cell.recipe.model_dump(mode="json", exclude_none=True, exclude=unused),
        "data": cell.data.model_dump(mode="json"),
        "resources": cell.resources.model_dump(mode="json", exclude_none=True, exclude=asked),
    }
