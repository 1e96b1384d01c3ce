import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torch import Tensor, nn

from scaling.data import Scenes
from scaling.errors import ScalingError
from scaling.scenes import IGNORED_LABEL
from scaling.training.average_precision import AveragePrecision
from scaling.training.evaluate import evaluate
from scaling.training.task_tests import mean_and_error
from tests.models.detection.scenes import detector, squares_and_discs

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


@pytest.mark.parametrize("guessed", [0, 2])
def test_a_class_without_examples_counts_in_mean_iou_where_it_is_predicted(guessed: int) -> None:
    labels = torch.tensor([[0, 0], [0, 1]]).repeat(2, 1, 1)
    labels[0, 0, 0] = IGNORED_LABEL
    found = labels.clamp(min=0)
    found[1, 1, 1] = guessed
    logits = F.one_hot(found, 3).permute(0, 3, 1, 2).float()
    result = evaluate(Replay(logits), batches(labels, 2), 3, "segmentation", CPU)
    overlap = [5 / (6 if guessed == 0 else 5), 1 / 2, *([0.0] if guessed == 2 else [])]
    assert result.mean_iou == pytest.approx(sum(overlap) / len(overlap))


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
    few = evaluate(
        Replay(torch.randn(9, 5, generator=random)), batches(torch.arange(9) % 5, 4), 5, "classification", CPU
    )
    assert few.accuracy_top5 is None
    assert few.calibration_error is not None
    dense = torch.randn(9, 7, 6, 6, generator=random)
    found = evaluate(
        Replay(dense), batches(torch.randint(0, 7, (9, 6, 6), generator=random), 4), 7, "segmentation", CPU
    )
    assert (found.accuracy_top5, found.calibration_error) == (None, None)


def test_mean_iou_over_the_labelled_pixels_is_a_brute_force_count() -> None:
    """Of images whose labels are larger than the logits, with a class that is neither labelled nor predicted."""
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(7, 5, 3, 4, generator=random)
    logits[:, 4] = -20
    labels = torch.randint(0, 4, (7, 6, 8), generator=random)
    labels[torch.rand(labels.shape, generator=random) < 0.3] = IGNORED_LABEL
    result = evaluate(Replay(logits), batches(labels, 3), 5, "segmentation", CPU)
    finer = F.interpolate(logits, size=(6, 8), mode="bilinear")
    counts = torch.zeros(5, 5)
    total = 0.0
    for image, y, x in (labels != IGNORED_LABEL).nonzero().tolist():
        truth, values = int(labels[image, y, x]), finer[image, :, y, x]
        counts[truth, int(values.argmax())] += 1
        total -= float(values.double().log_softmax(0)[truth])
    overlap = [counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in range(4)]
    assert result.mean_iou == pytest.approx(float(torch.stack(overlap).mean()), rel=1e-5)
    assert result.pixel_accuracy == pytest.approx(float(counts.trace() / counts.sum()), rel=1e-6)
    assert result.test_loss == pytest.approx(total / float(counts.sum()), rel=1e-5)


def test_a_test_set_without_a_labelled_pixel_is_refused() -> None:
    labels = torch.full((4, 6, 6), IGNORED_LABEL)
    with pytest.raises(ScalingError, match="no labelled pixel"):
        evaluate(Replay(torch.zeros(4, 3, 6, 6)), batches(labels, 2), 3, "segmentation", CPU)


def test_a_detector_is_tested_by_the_losses_of_each_image_and_by_what_it_finds() -> None:
    model = detector().eval()
    images, instances = squares_and_discs(6)
    result = evaluate(
        model, [Scenes(images[:4], instances[:4]), Scenes(images[4:], instances[4:])], 2, "detection", CPU
    )
    with torch.no_grad():
        losses = model.losses_per_image(images, instances)
        found = model(images, [each.sides for each in instances])
    masks = losses.pop("masks").double()
    boxes = torch.stack(list(losses.values())).sum(0).double()
    assert result.test_loss == pytest.approx(float(boxes.mean()), rel=1e-5)
    assert result.test_loss_standard_error == pytest.approx(float(boxes.std() / np.sqrt(6)), rel=1e-4)
    assert result.mask_test_loss == pytest.approx(float(masks.mean()), rel=1e-5)
    assert result.mask_test_loss_standard_error == pytest.approx(float(masks.std() / np.sqrt(6)), rel=1e-4)
    precision = AveragePrecision(2)
    precision.update(instances, found)
    assert result.box_ap == precision.compute().box_ap
    assert result.test_images == 6
    assert result.accuracy is None


def test_one_image_alone_has_no_standard_error() -> None:
    result = evaluate(Replay(torch.randn(1, 5)), batches(torch.tensor([2]), 1), 5, "classification", CPU)
    assert result.test_loss > 0
    assert result.test_loss_standard_error is None
