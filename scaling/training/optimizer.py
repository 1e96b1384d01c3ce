"""AdamW with the recipe's schedule: linear warm-up, then a cosine, a line or steps."""

import math

from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scaling.design import Decay, Recipe
from scaling.models import Replaced

DETECTION_STEPS = (8, 11)  # of 12 epochs


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """AdamW; biases, norms, positions and class tokens are not decayed.

    With `layer_decay` each block learns at so much of the next one's rate, and the embedding at the least
    (Bao et al. 2022, 'BEiT', by timm).
    """
    undecayed: set[str] = model.no_weight_decay()  # pyright: ignore[reportCallIssue, reportAssignmentType]
    rate = recipe.peak_learning_rate
    if recipe.layer_decay is None:
        groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=undecayed)
    else:
        groups = param_groups_layer_decay(model, recipe.weight_decay, undecayed, layer_decay=recipe.layer_decay)
        for group in groups:
            group["lr"] = rate * group.pop("lr_scale")
    if recipe.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(groups, lr=rate, betas=recipe.betas)
    return AdamW(groups, lr=rate, betas=recipe.betas, fused=True)


def replace_parameters(optimizer: Optimizer, replaced: Replaced) -> None:
    """Train other parameters in the place of some, with their settings; all others keep their moments.

    The new ones start without moments, and with AdamW's bias correction of a first step: moments of another shape
    would have to be resized with them, and a second moment is no linear function of the kernel.
    """
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(parameter, parameter) for parameter in group["params"]]
    for parameter in replaced:
        optimizer.state.pop(parameter, None)


def learning_rate_factor(step: int, steps: int, warmup: int, decay: Decay = "cosine", least: float = 0.0) -> float:
    """Factor on the learning rate at optimiser step `step` (from 0): rises linearly, then falls.

    A cosine and a line fall from the end of the warm-up to `least`; the two steps of the usual 12 epochs of detection
    are at shares of the whole training.
    """
    if step < warmup:
        return (step + 1) / warmup
    if decay == "steps":
        return 0.1 ** sum(12 * step >= epoch * steps for epoch in DETECTION_STEPS)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    left = 1 - done if decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return least + (1 - least) * left


def build_schedule(optimizer: Optimizer, recipe: Recipe, epoch_images: int | None) -> LambdaLR:
    """The recipe's schedule, to be stepped once per optimiser step."""
    steps, warmup = recipe.training_steps(epoch_images), recipe.warmup(epoch_images)
    least = recipe.minimum_learning_rate / recipe.peak_learning_rate
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warmup, recipe.decay, least))
