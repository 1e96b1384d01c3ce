"""AdamW with the recipe's schedule: linear warm-up, then a cosine to zero or the least rate."""

import math

from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scaling.design import Recipe
from scaling.models import Replaced


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


def learning_rate_factor(step: int, steps: int, warmup: int, least: float = 0.0) -> float:
    """Factor on the learning rate at optimiser step `step` (from 0): rises linearly, then a half cosine to `least`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def build_schedule(optimizer: Optimizer, steps: int, warmup: int, least: float = 0.0) -> LambdaLR:
    """Schedule to be stepped once per optimiser step; `least` is the share of the rate where it ends."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warmup, least))
