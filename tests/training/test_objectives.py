"""One loss for every task, against sums by hand, and against what untrained models lose."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.cost import Head
from scaling.data.digits import DigitStream
from scaling.design import Design, Detector, DigitsData, Recipe
from scaling.scenes import IGNORED_LABEL, Scenes
from scaling.training.building import build_for
from scaling.training.objectives import arguments, loss_of_guessing, objective

PLAIN = Recipe(steps=1, batch_size=1, learning_rate=1e-3)
FEW = Detector(strides=(2, 4, 8), proposals=32, sampled_regions=16)


def maps(count: int = 4) -> tuple[Tensor, Tensor]:
    """Logits of 3 classes, and labels a third of which do not count."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count, 5, 7), generator=random)
    labels[torch.rand(labels.shape, generator=random) < 1 / 3] = IGNORED_LABEL
    return torch.randn(count, 3, 5, 7, generator=random), labels


def test_unlabelled_pixels_add_nothing_to_the_sum_over_all() -> None:
    logits, labels = maps()
    of_pixels = [
        -float(F.log_softmax(logits[b, :, y, x], 0)[labels[b, y, x]])
        for b, y, x in (labels != IGNORED_LABEL).nonzero().tolist()
    ]
    assert float(objective(logits, labels, PLAIN)) == pytest.approx(sum(of_pixels) / labels.numel(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_batch_is_the_mean_over_its_equal_parts(smoothing: float) -> None:
    recipe = PLAIN.model_copy(update={"label_smoothing": smoothing, "auxiliary_loss": 0.4})
    logits, labels = maps(6)
    labels[2:4] = IGNORED_LABEL
    outputs = (logits, logits.flip(0))
    whole = objective(outputs, labels, recipe)
    parts = [objective(tuple(each[i : i + 2] for each in outputs), labels[i : i + 2], recipe) for i in (0, 2, 4)]
    assert float(whole) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-5)


def test_a_batch_without_labelled_pixels_teaches_nothing() -> None:
    logits = maps()[0].requires_grad_()
    loss = objective(logits, torch.full((4, 5, 7), IGNORED_LABEL), PLAIN)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_auxiliary_loss_has_its_weight() -> None:
    logits, labels = maps()
    recipe = PLAIN.model_copy(update={"auxiliary_loss": 0.4})
    both = float(objective((logits, 2 * logits), labels, recipe))
    alone = [float(objective(each, labels, recipe)) for each in (logits, 2 * logits)]
    assert both == pytest.approx(alone[0] + 0.4 * alone[1])


def test_losses_of_a_detector_are_added() -> None:
    scenes = Scenes(torch.zeros(1, 3, 4, 4), [])
    assert float(objective({"masks": torch.tensor(0.5), "boxes": torch.tensor(2.0)}, scenes.labels, PLAIN)) == 2.5
    assert len(arguments(scenes)) == 2


def test_half_precision_logits_are_summed_in_single() -> None:
    logits, labels = maps()
    single, half = (objective(each, labels, PLAIN) for each in (logits, logits.bfloat16()))
    assert half.dtype is torch.float32
    assert float(half) == pytest.approx(float(single), rel=0.02)


@pytest.mark.parametrize(
    ("task", "name", "auxiliary"),
    [
        ("classification", "deit-nano/8@48", 0.0),
        ("segmentation", "deit-nano/8@48+linear", 0.0),
        ("segmentation", "deit-nano/8@48+upernet", 0.4),
        ("detection", "deit-nano/8@48+cascade", 0.0),
    ],
)
def test_an_untrained_model_loses_about_what_guessing_does(task: str, name: str, auxiliary: float) -> None:
    data = DigitsData(task=task, canvas=48, digits=1 if task == "classification" else 3)  # pyright: ignore[reportArgumentType]
    recipe = PLAIN.model_copy(update={"auxiliary_loss": auxiliary})
    torch.manual_seed(0)
    head = Head(data.classes, Design.parse(name).head, data.label_sides, auxiliary > 0, FEW)
    model = build_for(Design.parse(name), head, recipe).train()
    scenes = DigitStream(data, 0, 48).batch(0, 8)
    loss = float(objective(model(*arguments(scenes)), scenes.labels, recipe).detach())
    assert math.isclose(loss, loss_of_guessing(data, recipe), rel_tol=0.2)
