"""The processes of one cell: how its model lies on them, what they agree on, and what they add up.

With one process everything here does nothing, or what one process would do.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from scaling.data import Share
from scaling.design import Cell
from scaling.errors import UsageError
from scaling.models import backbone_of

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
PATIENCE = timedelta(hours=1)  # of processes that wait for the first to measure the model or to save


def build_accelerator(cell: Cell, device: str, micro_batch_size: int) -> Accelerator:
    """Accelerate with the recipe's precision and accumulation, for the processes that RANK and WORLD_SIZE name."""
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=MIXED_PRECISION[cell.recipe.precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    batch_size, ranks = cell.recipe.batch_size, accelerator.num_processes
    if batch_size % (micro_batch_size * ranks):
        raise UsageError(
            f"recipe.batch_size: {batch_size} images cannot be divided into micro-batches of {micro_batch_size} "
            f"on {ranks} processes"
        )
    accelerator.gradient_accumulation_steps = share_of(cell, accelerator, micro_batch_size).micro_steps
    return accelerator


def share_of(cell: Cell, accelerator: Accelerator, micro_batch_size: int, first_step: int = 0) -> Share:
    """What this process takes of every batch, from a step of the stream on."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    return Share(cell.recipe.batch_size, micro_batch_size, first_step, rank, ranks)


def spread(model: nn.Module, cell: Cell, accelerator: Accelerator) -> nn.Module:
    """The model for all processes: itself for one, DDP, or FSDP2 over blocks (Zhao et al. 2023)."""
    if cell.resources.sharding == "ddp" or accelerator.num_processes == 1:
        return accelerator.prepare_model(model)
    return shard(model, accelerator.device.type, accelerator.num_processes)


def shard(model: nn.Module, device: str, processes: int) -> nn.Module:
    """This process's part of the model, by FSDP2 over blocks; each backward pass sums gradients over processes.

    Summed in the last pass of a step only, they would lie whole on every process until then.
    """
    mesh = init_device_mesh(device, (processes,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def spread_again(model: nn.Module) -> nn.Module:
    """The model after parameters were replaced, which DDP does not notice by itself."""
    if isinstance(model, DistributedDataParallel):
        return DistributedDataParallel(model.module, device_ids=model.device_ids)
    return model


def autocast(model: nn.Module, accelerator: Accelerator) -> AbstractContextManager[None]:
    """The recipe's precision, where accelerate has not wrapped the model in it."""
    return accelerator.autocast() if isinstance(model, FSDPModule) else nullcontext()


def sum_over(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum of every process's values."""
    if accelerator.num_processes > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def agree(wish: int, accelerator: Accelerator) -> int:
    """The largest number that a process wishes for."""
    if accelerator.num_processes == 1:
        return wish
    wishes = torch.tensor(wish, device=accelerator.device)
    dist.all_reduce(wishes, dist.ReduceOp.MAX)
    return int(wishes)


def is_finite(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether every value of a model is finite; the same answer in every process."""
    norm = torch.nn.utils.get_total_norm(list(parameters))
    return bool(torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm))


def part(accelerator: Accelerator) -> bool:
    """Take leave of the other processes; whether this one is the first, and goes on alone."""
    if accelerator.num_processes > 1:
        dist.barrier()
        dist.destroy_process_group()
    return accelerator.is_main_process


def _blocks(model: nn.Module) -> Iterable[nn.Module]:
    backbone = backbone_of(model)
    blocks: Iterable[nn.Module] = getattr(backbone, "blocks", None) or backbone.layers  # pyright: ignore[reportAssignmentType]
    return blocks
