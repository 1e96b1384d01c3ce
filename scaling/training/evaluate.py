"""The test: summed losses of images divided once, with their standard error, and the metrics of the task."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from scaling.design import Cell, SegmentationFiles, Task
from scaling.scenes import Scenes
from scaling.training.task_tests import ClassifierTest, DetectorTest, SegmenterTest
from scaling.training.windows import Windows


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a test set, named as in a record; the metrics that do not apply to the task are None."""

    test_loss: float
    test_loss_standard_error: float | None
    """None of one image."""
    test_images: int
    accuracy: float | None = None
    accuracy_top5: float | None = None
    """None with five classes or fewer."""
    calibration_error: float | None = None
    """Expected difference between confidence and accuracy (Guo et al. 2017)."""
    mean_iou: float | None = None
    pixel_accuracy: float | None = None
    mask_test_loss: float | None = None
    mask_test_loss_standard_error: float | None = None
    box_ap: float | None = None
    box_ap50: float | None = None
    box_ap75: float | None = None
    mask_ap: float | None = None
    mask_ap50: float | None = None
    mask_ap75: float | None = None


@runtime_checkable
class TaskTest(Protocol):
    """Gathers what a model makes of scenes."""

    def update(self, model: nn.Module, scenes: Scenes) -> None:
        """Add the scenes of a batch, which are on the model's device."""

    def results(self) -> dict[str, float | None]:
        """Fields of an Evaluation, over all scenes so far."""
        ...


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Scenes],
    classes: int,
    task: Task,
    device: torch.device,
    windows: Windows | None = None,
) -> Evaluation:
    """Evaluate on every scene; how batches are cut, also a short last one, changes nothing.

    Args:
        model: with the head of the task, on the device.
        batches: the test set.
        classes: outputs, and labels.
        task: what is tested.
        device: where.
        windows: in which images are segmented; whole images by default.

    Raises:
        ScalingError: for label maps without a labelled pixel.
    """
    model.eval()
    test = _test_of(task, classes, windows)
    images = 0
    for scenes in batches:
        test.update(model, scenes.to(device))
        images += len(scenes)
    return Evaluation(test_images=images, **test.results())  # pyright: ignore[reportArgumentType]


def windows_of(cell: Cell, at_once: int) -> Windows | None:
    """The windows that a cell's images are tested in, so many at once; None for whole images."""
    slides = isinstance(cell.data, SegmentationFiles) and cell.data.inference == "slide"
    return Windows(cell.design.input_sides, at_once) if slides else None


def _test_of(task: Task, classes: int, windows: Windows | None) -> TaskTest:
    if task == "segmentation":
        return SegmenterTest(classes, windows)
    return DetectorTest(classes) if task == "detection" else ClassifierTest(classes)
