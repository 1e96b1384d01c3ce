"""Peak memory, and what follows from it: micro-batch, accumulation, GPUs and nodes for a batch."""

from dataclasses import dataclass

from scaling.cost.cost import Cost
from scaling.cost.shapes import Count, Execution
from scaling.design import Hardware
from scaling.errors import UsageError

SAFETY_MARGIN = 0.10  # of a device's memory: framework, workspaces and fragmentation
GRADIENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Placement:
    """How a global batch lies on GPUs.

    Args:
        images_per_gpu: largest micro-batch that fits one GPU.
        min_gpus: fewest GPUs that hold the global batch at once, without accumulation.
        min_nodes: nodes of the hardware's size for that many GPUs.
        gpus: GPUs the estimate is for.
        micro_batch_size: images per GPU and forward pass.
        accumulation: forward passes per optimiser step.
    """

    images_per_gpu: Count
    min_gpus: Count
    min_nodes: Count
    gpus: Count
    micro_batch_size: Count
    accumulation: Count

    @property
    def images_per_step(self) -> Count:
        """Images per GPU and optimiser step."""
        return self.micro_batch_size * self.accumulation


def usable_bytes(hardware: Hardware) -> int:
    """Memory that a training step may plan to use."""
    return int((1 - SAFETY_MARGIN) * hardware.memory_bytes)


def state_bytes_per_gpu(cost: Cost, execution: Execution, gpus: Count) -> Count:
    """State on one GPU: all of it under DDP; under FSDP a share, and two gathered blocks.

    FSDP (Zhao et al. 2023) divides weights, gradients, moments and EMA, and holds the block at work
    and the one being fetched in the products' precision.
    """
    if execution.sharding == "ddp":
        return cost.state.total
    gathered = 2 * cost.block_parameters * execution.element_bytes
    return (cost.state.total - cost.state.casts) / gpus + gathered


def communication_bytes(cost: Cost, gpus: Count, accumulation: Count, execution: Execution) -> Count:
    """Bytes each GPU sends per optimiser step, by ring collectives (Patarasuk and Yuan 2009).

    DDP: one all-reduce of the fp32 gradients, 2 (G - 1) / G x 4 P. FSDP: in every forward pass and its
    backward, two all-gathers of the weights and a reduce-scatter of the gradients,
    (G - 1) / G x (2 e + 4) P each time.
    """
    parameters, share = cost.parameters.total, (gpus - 1) / gpus
    if execution.sharding == "ddp":
        return 2 * share * GRADIENT_BYTES * parameters
    return share * accumulation * (2 * execution.element_bytes + GRADIENT_BYTES) * parameters


def largest_micro_batch(cost: Cost, usable: int, execution: Execution, gpus: Count = 1) -> Count:
    """Images that fit one GPU beside its state; 0 or less where not even one does."""
    return (usable - state_bytes_per_gpu(cost, execution, gpus)) // cost.peak_bytes_per_image


def place(
    cost: Cost, hardware: Hardware, execution: Execution, batch_size: int, gpus: int | None = None
) -> Placement | None:
    """Place a global batch; None where one image does not fit a GPU.

    Without `gpus`, on the fewest whole nodes that hold the batch without accumulation and divide it
    evenly (the paper's Table 6 protocol, made even).

    Raises:
        UsageError: if the batch does not divide over the GPUs asked for.
    """
    usable = usable_bytes(hardware)
    min_gpus = _fewest_gpus(cost, usable, execution, batch_size)
    if gpus is not None:
        check_divides_over(batch_size, gpus)
    if min_gpus is None and gpus is None:
        return None
    chosen = gpus or _even_gpus(batch_size, min_gpus or 1, hardware.node_size)
    images = int(largest_micro_batch(cost, usable, execution, chosen))
    if images < 1 or min_gpus is None:
        return None
    local = batch_size // chosen
    accumulation = next(count for count in range(1, local + 1) if local % count == 0 and local // count <= images)
    nodes = -(-min_gpus // hardware.node_size)
    return Placement(images, min_gpus, nodes, chosen, local // accumulation, accumulation)


def check_divides_over(batch_size: int, gpus: int) -> None:
    """Raise UsageError, with the nearest numbers that work, unless every GPU gets as many images."""
    if batch_size < 1 or gpus < 1:
        raise UsageError(f"batch size and GPUs must be at least 1, not {batch_size} and {gpus}")
    if batch_size % gpus:
        fitting = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
        near = sorted(sorted(fitting, key=lambda count: abs(count - gpus))[:2])
        raise UsageError(f"a batch of {batch_size} does not divide over {gpus} GPUs; use {' or '.join(map(str, near))}")


def _fewest_gpus(cost: Cost, usable: int, execution: Execution, batch_size: int) -> int | None:
    """Bisect, since more GPUs never hold less; None where one image on each of as many GPUs is too much."""

    def holds(gpus: int) -> bool:
        return largest_micro_batch(cost, usable, execution, gpus) >= -(-batch_size // gpus)

    low, high = 0, batch_size
    if not holds(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _even_gpus(batch_size: int, min_gpus: int, node_size: int) -> int:
    """Fewest whole nodes that divide the batch; or, for a batch smaller than that, the next divisor."""
    whole = range(-(-min_gpus // node_size) * node_size, batch_size + 1, node_size)
    anyhow = range(min_gpus, batch_size + 1)
    return next(gpus for gpus in (*whole, *anyhow) if batch_size % gpus == 0)
