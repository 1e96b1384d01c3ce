"""What is tested of a model, task by task: losses of each image, and metrics by torchmetrics and COCO's evaluation.

Shapes: N images of the test set, B images of a batch, K classes, R and C sides of label maps.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassJaccardIndex

from scaling.errors import ScalingError
from scaling.models import CascadeMaskRCNN
from scaling.models.heads import resized
from scaling.scenes import IGNORED_LABEL, Scenes
from scaling.training.average_precision import AveragePrecision
from scaling.training.windows import Windows

CALIBRATION_BINS = 15  # of confidence, of equal width (Guo et al. 2017)
MASK_LOSS = "masks"  # of a detector; its other losses are of boxes


class Losses:
    """Losses of images, summed over what is labelled in each."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(self, sums_B: Float[Tensor, "B"], counts_B: Float[Tensor, "B"]) -> None:
        """Those of a batch: sums over its labels, and how many there are."""
        self._sums.append(sums_B.double().cpu())
        self._counts.append(counts_B.double().cpu())

    def mean_and_error(self) -> tuple[float, float | None]:
        """Mean loss per label and its standard error, which one image alone does not have.

        Raises:
            ScalingError: where nothing is labelled.
        """
        counts = torch.cat(self._counts)
        if not counts.any():
            raise ScalingError("the test set has no labelled pixel")
        mean, error = mean_and_error(torch.cat(self._sums), counts)
        return mean, error if len(counts) > 1 else None


def mean_and_error(sums_N: Float[Tensor, "N"], counts_N: Float[Tensor, "N"]) -> tuple[float, float]:
    """Mean loss per label and its standard error, over N images in float64.

    Images are the independent units: with labels counted per image (pixels), the mean is a ratio
    of sums and its error that of a ratio estimator (Cochran, Sampling Techniques, 2.11).
    """
    sums, counts = sums_N.double(), counts_N.double()
    images, total = len(sums), counts.sum()
    mean = sums.sum() / total
    spread = (sums - mean * counts).square().sum() * images / max(1, images - 1)
    return float(mean), float(spread.sqrt() / total)


class ClassifierTest:
    """Cross-entropy, top-1, top-5 where there are more than five classes, and calibration."""

    def __init__(self, classes: int) -> None:
        self._losses = Losses()
        self._metrics: dict[str, Metric] = {"accuracy": MulticlassAccuracy(classes, average="micro")}
        if classes > 5:
            self._metrics["accuracy_top5"] = MulticlassAccuracy(classes, top_k=5, average="micro")
        self._calibration = MulticlassCalibrationError(classes, CALIBRATION_BINS)

    def update(self, model: nn.Module, scenes: Scenes) -> None:
        """Add the images of a batch."""
        assert isinstance(scenes.labels, Tensor), "a classifier's labels are numbers"
        logits = model(scenes.images).float()
        losses = F.cross_entropy(logits, scenes.labels, reduction="none")
        self._losses.add(losses, torch.ones_like(losses))
        for metric in self._metrics.values():
            metric.to(logits.device).update(logits, scenes.labels)
        # Of logits it guesses by their range whether they are.
        self._calibration.to(logits.device).update(logits.softmax(1), scenes.labels)

    def results(self) -> dict[str, float | None]:
        """Over all images so far."""
        mean, error = self._losses.mean_and_error()
        metrics = self._metrics | {"calibration_error": self._calibration}
        values = {name: float(metric.compute()) for name, metric in metrics.items()}
        return {"test_loss": mean, "test_loss_standard_error": error, **values}


class SegmenterTest:
    """Cross-entropy of labelled pixels, mean IoU and pixel accuracy, at the label maps' own sides."""

    def __init__(self, classes: int, windows: Windows | None) -> None:
        self._losses, self._windows = Losses(), windows
        self._metrics: dict[str, Metric] = {
            "mean_iou": MulticlassJaccardIndex(classes, ignore_index=IGNORED_LABEL),
            "pixel_accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=IGNORED_LABEL),
        }

    def update(self, model: nn.Module, scenes: Scenes) -> None:
        """Add the images of a batch."""
        labels = scenes.labels
        assert isinstance(labels, Tensor), "a segmenter's labels are maps"
        found = self._windows.logits(model, scenes.images) if self._windows else model(scenes.images).float()
        logits = resized(found, (labels.shape[1], labels.shape[2]))
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED_LABEL)
        self._losses.add(losses.double().flatten(1).sum(1), (labels != IGNORED_LABEL).double().flatten(1).sum(1))
        predicted = logits.argmax(1)
        for metric in self._metrics.values():
            metric.to(logits.device).update(predicted, labels)

    def results(self) -> dict[str, float | None]:
        """Over all images so far."""
        mean, error = self._losses.mean_and_error()
        values = {name: float(metric.compute()) for name, metric in self._metrics.items()}
        return {"test_loss": mean, "test_loss_standard_error": error, **values}


class DetectorTest:
    """Losses of boxes and of masks, and the average precision of both."""

    def __init__(self, classes: int) -> None:
        self._boxes, self._masks = Losses(), Losses()
        self._precision = AveragePrecision(classes)

    def update(self, model: nn.Module, scenes: Scenes) -> None:
        """Add the images of a batch."""
        assert isinstance(model, CascadeMaskRCNN), "boxes and masks are a detector's"
        assert not isinstance(scenes.labels, Tensor), "a detector's labels are instances"
        losses, detections = model.test(scenes.images, scenes.labels)
        of_masks = losses.pop(MASK_LOSS)
        ones = torch.ones_like(of_masks)
        self._masks.add(of_masks, ones)
        self._boxes.add(torch.stack(list(losses.values())).sum(0), ones)
        self._precision.update(scenes.labels, detections)

    def results(self) -> dict[str, float | None]:
        """Over all images so far."""
        boxes, masks = self._boxes.mean_and_error(), self._masks.mean_and_error()
        return {
            **dict(zip(("test_loss", "test_loss_standard_error"), boxes, strict=True)),
            **dict(zip(("mask_test_loss", "mask_test_loss_standard_error"), masks, strict=True)),
            **asdict(self._precision.compute()),
        }
