"""The test: summed per-example losses divided once, with their standard error, and the metrics."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassJaccardIndex

from scaling.scenes import IGNORED_LABEL, Scenes

CALIBRATION_BINS = 15  # of confidence, of equal width (Guo et al. 2017)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a test set; the metrics that do not apply to the task are None."""

    test_loss: float
    test_loss_standard_error: float
    accuracy: float | None
    accuracy_top5: float | None
    """None with five classes or fewer."""
    calibration_error: float | None
    """Expected difference between confidence and accuracy (Guo et al. 2017)."""
    mean_iou: float | None
    pixel_accuracy: float | None
    images: int


def mean_and_error(sums_N: Float[Tensor, "N"], counts_N: Float[Tensor, "N"]) -> tuple[float, float]:
    """Mean loss per label and its standard error, over N images in float64.

    Images are the independent units: with labels counted per image (pixels), the mean is a ratio
    of sums and its error that of a ratio estimator (Cochran, Sampling Techniques, 2.11).
    """
    sums, counts = sums_N.double(), counts_N.double()
    images, total = len(sums), counts.sum()
    mean = sums.sum() / total
    spread = (sums - mean * counts).square().sum() * images / (images - 1)
    return float(mean), float(spread.sqrt() / total)


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Scenes], classes: int, dense: bool, device: torch.device
) -> Evaluation:
    """Evaluate on every scene; how batches are cut, also a short last one, changes nothing."""
    model.eval()
    accuracy = MulticlassAccuracy(classes, average="micro").to(device)
    overlap = MulticlassJaccardIndex(classes).to(device) if dense else None
    top5 = MulticlassAccuracy(classes, top_k=5, average="micro").to(device) if not dense and classes > 5 else None
    calibration = None if dense else MulticlassCalibrationError(classes, CALIBRATION_BINS).to(device)
    of_logits = [metric for metric in (accuracy, top5, overlap) if metric is not None]
    sums, counts = [], []
    for scenes in batches:
        labels = scenes.labels.to(device)
        logits = model(scenes.images.to(device)).float()
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED_LABEL)
        sums.append(losses.double().view(len(labels), -1).sum(1))
        counts.append((labels != IGNORED_LABEL).double().view(len(labels), -1).sum(1))
        for metric in of_logits:
            metric.update(logits, labels)
        if calibration is not None:
            calibration.update(logits.softmax(1), labels)  # of logits it guesses by their range whether they are
    mean, error = mean_and_error(torch.cat(sums).cpu(), torch.cat(counts).cpu())
    right = float(accuracy.compute())
    return Evaluation(
        test_loss=mean,
        test_loss_standard_error=error,
        accuracy=None if dense else right,
        accuracy_top5=_value(top5),
        calibration_error=_value(calibration),
        mean_iou=_value(overlap),
        pixel_accuracy=right if dense else None,
        images=sum(map(len, sums)),
    )


def _value(metric: Metric | None) -> float | None:
    return None if metric is None else float(metric.compute())
