"""What is trained of a cell: built afresh or as a checkpoint says, and put into one."""

from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object, set_seed
from timm.models.vision_transformer import VisionTransformer
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LambdaLR

from scaling.cost import Head, head_of
from scaling.design import Cell, Design, Recipe
from scaling.models import PlainBackbone, build_model, change_patch_size, load_checkpoint
from scaling.records import RunDirectory
from scaling.training.measure import Example
from scaling.training.optimizer import build_optimizer, build_schedule, replace_parameters
from scaling.training.parallel import spread, spread_again
from scaling.training.random_states import random_states, set_random_states
from scaling.training.resume import Position, Saved

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
RANK_STRIDE = 1_000_003  # between the seeds of processes, so that each drops other paths


@dataclass(slots=True)
class Training:
    """What changes with every step of a training."""

    model: nn.Module
    """As it lies on the processes."""
    optimizer: AcceleratedOptimizer
    schedule: LambdaLR
    average: ModelEmaV3 | None

    def change_patch_size(self, patch_size: int, accelerator: Accelerator) -> None:
        """Go on with smaller patches; the average of the weights too."""
        replaced = change_patch_size(accelerator.unwrap_model(self.model), patch_size)
        replace_parameters(self.optimizer, replaced)
        if self.average is not None:
            change_patch_size(self.average.module, patch_size)
        self.model = spread_again(self.model)


def model_of(cell: Cell, design: Design | None = None) -> nn.Module:
    """The untrained model of a cell, or of the design of one of its stages; blocks are not run twice."""
    return build_for(design or cell.design, head_of(cell), cell.recipe)


def build_for(design: Design, head: Head, recipe: Recipe) -> nn.Module:
    """The untrained model of a design with a head, as a recipe trains it."""
    return build_model(
        design,
        head.classes,
        head.label_sides,
        recipe.drop_path,
        recipe.position_init,
        recipe.flip,
        head.auxiliary,
        head.detector,
    )


def example_of(cell: Cell) -> Example:
    """What one image of a cell and its label look like."""
    return Example.of(cell.design, head_of(cell))


def starting_checkpoint(cell: Cell, folder: Path) -> Path | None:
    """The checkpoint that training starts from: of the cell before, beside the cell's own folder, or the recipe's."""
    if cell.after is None:
        return cell.starting_checkpoint
    return RunDirectory(folder.parents[1]).checkpoint(cell.after.id)


def checkpoint_activations(model: nn.Module, cell: Cell) -> None:
    """Keep the inputs of blocks only, if the study says so."""
    for module in model.modules():
        if isinstance(module, VisionTransformer | PlainBackbone):
            module.set_grad_checkpointing(cell.resources.activation_checkpointing)


def begin(
    cell: Cell, accelerator: Accelerator, position: Position, saved: Saved | None, start: Path | None
) -> Training:
    """A training at its start, or where a checkpoint left it.

    Args:
        cell: what is trained.
        accelerator: of this process.
        position: how far it is; it learns what the training started from.
        saved: what it continues from, if anything.
        start: weights for the start, if any.
    """
    rank, recipe = accelerator.process_index, cell.recipe
    set_seed(cell.seed)
    model = model_of(cell, _design_after(cell, position.step))
    if saved is not None:
        model.load_state_dict(saved.weights)
    elif start is not None:
        # Patches shrink between stages, so that a kernel may need to be fitted where nobody asked for it.
        resize = recipe.resize_patches or ("flexivit" if cell.after else None)
        position.started_from = load_checkpoint(model, start, resize, recipe.new_head).to_json()
    checkpoint_activations(model, cell)
    model.to(accelerator.device)
    average = ModelEmaV3(model, recipe.ema_decay) if recipe.ema_decay is not None else None
    if cell.resources.compile:
        model.compile()
    spread_model = spread(model, cell, accelerator)
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, recipe, cell.data.epoch_images)
    set_seed(cell.seed + RANK_STRIDE * rank)
    if saved is not None:
        _restore(saved, cell, accelerator, spread_model, schedule, average)
    prepared = accelerator.prepare_optimizer(optimizer)
    assert isinstance(prepared, AcceleratedOptimizer)
    return Training(spread_model, prepared, schedule, average)


def _restore(
    saved: Saved,
    cell: Cell,
    accelerator: Accelerator,
    model: nn.Module,
    schedule: LambdaLR,
    average: ModelEmaV3 | None,
) -> None:
    """All but the weights; a process that there was none of draws from a seed of its own."""
    state, rank = saved.state, accelerator.process_index
    set_optimizer_state_dict(
        model, schedule.optimizer, state["optimizer"], options=StateDictOptions(full_state_dict=True)
    )
    schedule.load_state_dict(state["schedule"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    if average is not None:
        average.module.load_state_dict(state["average"])
    if rank < len(state["random"]):
        set_random_states(state["random"][rank], accelerator.device)
    else:
        set_seed(cell.seed + RANK_STRIDE * rank + saved.position.step)


def capture(training: Training, accelerator: Accelerator, position: Position) -> Saved:
    """Everything that a training goes on from; every process calls it, and the first one has it whole."""
    state = {
        "optimizer": get_optimizer_state_dict(training.model, training.optimizer.optimizer, options=WHOLE),
        "schedule": training.schedule.state_dict(),
        "scaler": accelerator.scaler and accelerator.scaler.state_dict(),
        "average": training.average and training.average.module.state_dict(),
        "random": gather_object([random_states(accelerator.device)]),
    }
    return Saved(replace(position), _whole_weights(training.model), state)


def plain_model(training: Training, cell: Cell, accelerator: Accelerator) -> nn.Module:
    """The trained model, or the average of its weights, on one device; of a sharded one in the first process only."""
    if training.average is not None:
        return training.average.module
    if not isinstance(training.model, FSDPModule):
        return accelerator.unwrap_model(training.model)
    weights = _whole_weights(training.model)
    model = model_of(cell)
    if accelerator.is_main_process:
        model.load_state_dict(weights)
    return model.to(accelerator.device)


def _whole_weights(model: nn.Module) -> dict[str, Tensor]:
    values = get_model_state_dict(model, options=WHOLE)
    return {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}


def _design_after(cell: Cell, step: int) -> Design:
    """The design that was trained in the last of so many steps, or will be in the first."""
    return next(stage.design for stage in reversed(cell.stages) if stage.first_step < max(step, 1))
