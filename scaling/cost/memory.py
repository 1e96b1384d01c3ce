"""Peak memory, and what follows from it: micro-batch, accumulation, GPUs and nodes for a batch."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.cost.breakdowns import CommunicationBytes, StateBytes
from scaling.cost.cost import Cost
from scaling.cost.shapes import Count, Execution
from scaling.design import Hardware, divisors
from scaling.errors import UsageError

SAFETY_MARGIN = 0.10  # of a device's memory: framework, workspaces and fragmentation
GRADIENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How one optimiser step lies on GPUs.

    Args:
        gpus: GPUs that share the batch.
        micro_batch_size: images per GPU and forward pass.
        accumulation: forward passes per optimiser step.
    """

    gpus: Count
    micro_batch_size: Count
    accumulation: Count

    @property
    def images_per_step(self) -> Count:
        """Images per GPU and optimiser step."""
        return self.micro_batch_size * self.accumulation


@dataclass(frozen=True, slots=True)
class Placement(Layout):
    """A layout that fits, and what would be the least.

    Args:
        images_per_gpu: largest micro-batch that fits one GPU.
        min_gpus: fewest GPUs that hold the global batch at once, without accumulation.
        min_nodes: nodes of the hardware's size for that many GPUs.
    """

    images_per_gpu: Count
    min_gpus: Count
    min_nodes: Count


def usable_bytes(hardware: Hardware) -> int:
    """Memory that a training step may plan to use."""
    return int((1 - SAFETY_MARGIN) * hardware.memory_bytes)


def state_on_gpu(cost: Cost, execution: Execution, gpus: Count) -> StateBytes:
    """State on one GPU: all of it under DDP; under FSDP a share, and what is gathered.

    FSDP (Zhao et al. 2023) divides weights, gradients, moments and EMA. In the products' precision it
    holds whole the parameters outside the blocks, the block at work and the one being fetched, and
    one block's gradients.
    """
    state = cost.state
    if execution.sharding == "ddp":
        return state
    outside = cost.parameters.total - cost.parameters.blocks
    return StateBytes(
        weights=-(-state.weights // gpus),
        gradients=-(-state.gradients // gpus),
        optimizer=-(-state.optimizer // gpus),
        ema=-(-state.ema // gpus),
        casts=0 * state.casts,
        gathered=execution.element_bytes * (outside + 3 * cost.block_parameters),
    )


def communication_bytes(cost: Cost, gpus: Count, accumulation: Count, execution: Execution) -> CommunicationBytes:
    """Bytes each GPU sends per optimiser step, by ring collectives (Patarasuk and Yuan 2009).

    DDP: one all-reduce of the fp32 gradients, 2 (G - 1) / G x 4 P. FSDP: in every forward pass and its
    backward, two all-gathers of the weights and a reduce-scatter of the gradients,
    (G - 1) / G x (2 e + 4) P each time.
    """
    parameters, share = cost.parameters.total, (gpus - 1) / gpus
    if execution.sharding == "ddp":
        return CommunicationBytes(all_reduce=2 * share * GRADIENT_BYTES * parameters)
    each_pass = share * accumulation * parameters
    return CommunicationBytes(
        all_gather=2 * execution.element_bytes * each_pass, reduce_scatter=GRADIENT_BYTES * each_pass
    )


def largest_micro_batch(cost: Cost, usable: int, execution: Execution, gpus: Count = 1) -> Count:
    """Images that fit one GPU beside its state; 0 or less where not even one does."""
    return (usable - state_on_gpu(cost, execution, gpus).total) // cost.peak_bytes_per_image


def place(
    cost: Cost,
    hardware: Hardware,
    execution: Execution,
    batch_size: int,
    gpus: int | None = None,
    micro_batch_size: int | None = None,
) -> Placement | None:
    """Place a global batch; None where one image, or the micro-batch asked for, does not fit a GPU.

    Without `gpus`, on the fewest whole nodes that hold the batch without accumulation and divide it
    evenly (the paper's Table 6 protocol, made even).

    Raises:
        UsageError: if the batch does not divide over the GPUs asked for, over any number of GPUs
            near those needed, or into the micro-batches asked for.
    """
    usable = usable_bytes(hardware)
    if gpus is not None:
        check_divides_over(batch_size, gpus)
    min_gpus = _fewest_gpus(cost, usable, execution, batch_size)
    if min_gpus is None:
        return None
    chosen = gpus or even_gpus(batch_size, min_gpus, hardware.node_size)
    images = int(largest_micro_batch(cost, usable, execution, chosen))
    local = batch_size // chosen
    if images < (micro_batch_size or 1):
        return None
    if micro_batch_size is None:
        accumulation = next(count for count in divisors(local) if local // count <= images)
    elif local % micro_batch_size:
        raise UsageError(f"micro-batches of {micro_batch_size} do not divide the {local} images of a GPU")
    else:
        accumulation = local // micro_batch_size
    nodes = -(-min_gpus // hardware.node_size)
    return Placement(chosen, local // accumulation, accumulation, images, min_gpus, nodes)


def check_divides_over(batch_size: int, gpus: int) -> None:
    """Raise UsageError, with the nearest numbers that work, unless every GPU gets as many images."""
    if batch_size < 1 or gpus < 1:
        raise UsageError(f"batch size and GPUs must be at least 1, not {batch_size} and {gpus}")
    if batch_size % gpus:
        near = sorted(sorted(divisors(batch_size), key=lambda count: abs(count - gpus))[:2])
        raise UsageError(f"a batch of {batch_size} does not divide over {gpus} GPUs; use {' or '.join(map(str, near))}")


def _fewest_gpus(cost: Cost, usable: int, execution: Execution, batch_size: int) -> int | None:
    """None where one image on each of as many GPUs is too much."""
    return fewest(
        lambda gpus: largest_micro_batch(cost, usable, execution, gpus) >= -(-batch_size // gpus), most=batch_size
    )


def fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The least number up to `most` that is enough, by bisection: more must never be less. None if none is."""
    low, high = 0, most
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def even_gpus(batch_size: int, min_gpus: int, node_size: int) -> int:
    """GPUs for a batch that needs at least so many: the fewest whole nodes that divide it.

    Where none do, the divisor nearest to the nodes needed: from below, else from above.

    Raises:
        UsageError: if that is more than twice the nodes needed.
    """
    needed = -(-min_gpus // node_size) * node_size
    found = divisors(batch_size)
    whole = [gpus for gpus in found if gpus >= needed and gpus % node_size == 0]
    below = [gpus for gpus in found if min_gpus <= gpus <= needed]
    above = [gpus for gpus in found if gpus > needed]
    chosen = whole[0] if whole else below[-1] if below else above[0]
    if chosen > 2 * needed:
        raise UsageError(
            f"a batch of {batch_size} needs {min_gpus} GPUs, but divides over no number of them up to {2 * needed}; "
            "give --gpus, or a batch such as a power of two"
        )
    return chosen
