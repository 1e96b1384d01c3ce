import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from scaling.data import Scenes
from scaling.training.evaluate import evaluate
from scaling.training.task_tests import mean_and_error

CPU = torch.device("cpu")


class Replay(nn.Module):
    """A 'model' whose logits are given: image i holds the number of its row."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].long()]


def batches(labels: Tensor, batch_size: int) -> list[Scenes]:
    parts = zip(numbered(len(labels)).split(batch_size), labels.split(batch_size), strict=True)
    return [Scenes(images, labels) for images, labels in parts]


def numbered(count: int) -> Tensor:
    return torch.arange(count).float()[:, None, None, None].expand(-1, 3, 4, 4)


def test_classification_loss_equals_numpy_for_any_batch_size() -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(37, 5, generator=random), torch.randint(0, 5, (37,), generator=random)
    losses = -log_softmax(logits.double().numpy(), axis=1)[np.arange(37), labels.numpy()]
    for batch_size in (1, 8, 10, 37, 64):
        result = evaluate(Replay(logits), batches(labels, batch_size), 5, "classification", CPU)
        assert result.test_loss == pytest.approx(losses.mean(), rel=1e-6)
        assert result.test_loss_standard_error == pytest.approx(losses.std(ddof=1) / np.sqrt(37), rel=1e-5)
        assert result.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
        assert result.mean_iou is None
        assert result.test_images == 37


def test_segmentation_metrics_equal_numpy() -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(9, 4, 6, 6, generator=random)
    labels = torch.randint(0, 4, (9, 6, 6), generator=random)
    result = evaluate(Replay(logits), batches(labels, 4), 4, "segmentation", CPU)
    flat = logits.permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    truth, guess = labels.flatten().numpy(), flat.argmax(1)
    losses = -log_softmax(flat, axis=1)[np.arange(len(truth)), truth]
    overlap = [((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum() for k in range(4)]
    assert result.test_loss == pytest.approx(losses.mean(), rel=1e-6)
    assert result.mean_iou == pytest.approx(np.mean(overlap), rel=1e-5)
    assert result.pixel_accuracy == pytest.approx((truth == guess).mean(), rel=1e-6)
    assert result.accuracy is None


def test_unlabelled_pixels_do_not_count() -> None:
    random = torch.Generator().manual_seed(2)
    sums, counts = torch.rand(500, generator=random) * 40, torch.randint(10, 50, (500,), generator=random).float()
    mean, error = mean_and_error(sums, counts)
    assert mean == pytest.approx(float(sums.double().sum() / counts.double().sum()))
    draws = torch.randint(0, 500, (4000, 500), generator=random)  # bootstrap over images as the oracle
    spread = (sums[draws].sum(1) / counts[draws].sum(1)).std()
    assert error == pytest.approx(float(spread), rel=0.06)


def test_top_5_and_calibration_equal_numpy() -> None:
    random = torch.Generator().manual_seed(3)
    logits, labels = 2 * torch.randn(200, 8, generator=random), torch.randint(0, 8, (200,), generator=random)
    result = evaluate(Replay(logits), batches(labels, 64), 8, "classification", CPU)
    chances = np.exp(log_softmax(logits.double().numpy(), axis=1))
    truth, confidence = labels.numpy(), chances.max(1)
    right = chances.argmax(1) == truth
    bins = np.ceil(confidence * 15)
    apart = [abs(right[bins == one].sum() - confidence[bins == one].sum()) for one in np.unique(bins)]
    assert result.calibration_error == pytest.approx(sum(apart) / 200, rel=1e-5)
    five = (np.argsort(-chances, axis=1)[:, :5] == truth[:, None]).any(1).mean()
    assert result.accuracy == pytest.approx(right.mean())
    assert result.accuracy_top5 == pytest.approx(five)


def test_five_classes_have_no_top_5_and_pixels_no_calibration() -> None:
    random = torch.Generator().manual_seed(4)
    few = evaluate(Replay(torch.randn(9, 5, generator=random)), batches(torch.arange(9) % 5, 4), 5, "classification", CPU)
    assert few.accuracy_top5 is None
    assert few.calibration_error is not None
    dense = torch.randn(9, 7, 6, 6, generator=random)
    found = evaluate(Replay(dense), batches(torch.randint(0, 7, (9, 6, 6), generator=random), 4), 7, "segmentation", CPU)
    assert (found.accuracy_top5, found.calibration_error) == (None, None)
