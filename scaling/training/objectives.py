"""What training minimises: one loss for every task, of whatever a model gives back.

Shapes: B images, K classes, R and C sides of label maps.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from scaling.design import Data, Recipe
from scaling.scenes import IGNORED_LABEL, Instances, Scenes

Labels: TypeAlias = Int[Tensor, "B"] | Float[Tensor, "B K"] | Int[Tensor, "B R C"] | Sequence[Instances]
CASCADE_WEIGHT = 1.75  # of the three stages of a detector, 1 + 1/2 + 1/4


def arguments(scenes: Scenes) -> tuple[Any, ...]:
    """What a model in training is called with: images, and of detection also what is in them."""
    return (scenes.images,) if isinstance(scenes.labels, Tensor) else (scenes.images, scenes.labels)


def objective(outputs: Any, labels: Labels, recipe: Recipe) -> Float[Tensor, ""]:
    """The loss of a micro-batch, in fp32; of equal parts of a batch, the mean is the loss of the whole.

    Args:
        outputs: of a classifier or a segmenter logits; of UperNet with its auxiliary head (logits, auxiliary logits);
            of a detector its losses by name, which are added.
        labels: as in Scenes.
        recipe: label smoothing, and the weight of the auxiliary loss.
    """
    if isinstance(outputs, dict):
        return torch.stack(list(outputs.values())).sum()
    assert isinstance(labels, Tensor), "logits are of classes"
    if isinstance(outputs, tuple):
        logits, auxiliary = outputs
        return cross_entropy(logits, labels, recipe) + recipe.auxiliary_loss * cross_entropy(auxiliary, labels, recipe)
    return cross_entropy(outputs, labels, recipe)


def cross_entropy(logits: Tensor, labels: Tensor, recipe: Recipe) -> Float[Tensor, ""]:
    """Mean over labels; of label maps over all pixels, those that do not count adding nothing.

    So a micro-batch with few labelled pixels does not weigh them more, nor is one without any not a number.
    """
    smoothing = recipe.label_smoothing
    if labels.dim() < 3:
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    total = F.cross_entropy(
        logits.float(), labels, label_smoothing=smoothing, ignore_index=IGNORED_LABEL, reduction="sum"
    )
    return total / labels.numel()


def loss_of_guessing(data: Data, recipe: Recipe) -> float:
    """About what a model loses that has learned nothing yet, in nats."""
    guessed = math.log(data.classes)
    if data.task == "detection":
        # The classes of three stages with the background, and two questions of yes or no: a thing here? its pixel?
        return CASCADE_WEIGHT * math.log(data.classes + 1) + 2 * math.log(2)
    return guessed * (1 + recipe.auxiliary_loss) if data.task == "segmentation" else guessed
