"""AdamW with the recipe's schedule: linear warm-up, then a cosine to zero."""

import math

from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scaling.design import Recipe
from scaling.models import Replaced


def build_optimizer(model: nn.Module, recipe: Recipe) -> AdamW:
    """AdamW; biases, norms, positions and class tokens are not decayed."""
    undecayed: set[str] = model.no_weight_decay()  # pyright: ignore[reportCallIssue, reportAssignmentType]
    groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=undecayed)
    return AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def replace_parameters(optimizer: Optimizer, replaced: Replaced) -> None:
    """Train other parameters in the place of some, with their settings; all others keep their moments.

    The new ones start without moments, and with AdamW's bias correction of a first step: moments of another shape
    would have to be resized with them, and a second moment is no linear function of the kernel.
    """
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(parameter, parameter) for parameter in group["params"]]
    for parameter in replaced:
        optimizer.state.pop(parameter, None)


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate at optimiser step `step` (from 0): rises linearly, then a half cosine."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def build_schedule(optimizer: AdamW, steps: int, warmup: int) -> LambdaLR:
    """Schedule to be stepped once per optimiser step."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warmup))
