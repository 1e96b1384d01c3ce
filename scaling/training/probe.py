"""The largest micro-batch that fits a device, found by two trial steps in a fresh process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scaling.cost import CellCost, cost_of_cell, head_of
from scaling.design import Cell, DetectionFiles
from scaling.errors import ScalingError
from scaling.records import Status
from scaling.training.fresh import Failure, FreshProcess
from scaling.training.trials import Steps, Trial, scan_of, start

STEPS = 2  # the first allocates moments and gradients, the second has the peak of all that follow
GIB = 2**30


class DoesNotFitError(ScalingError):
    """Not even the smallest micro-batch fits the device."""


class CellDoesNotFitError(DoesNotFitError):
    """The same of a cell.

    Args:
        reason: in one line.
        cost: of the cell by the closed form, as this installation trains it.
        micro_batch_size: the smallest, which does not fit.
    """

    def __init__(self, reason: str, cost: CellCost, micro_batch_size: int) -> None:
        super().__init__(reason)
        self.cost, self.micro_batch_size = cost, micro_batch_size


@dataclass(frozen=True, slots=True)
class Probe:
    """What fits a device.

    Args:
        micro_batch_size: images per forward pass.
        bytes_per_image: slope of the peak memory from half as many images to these: activations, without model,
            optimiser state and other fixed costs (paper, Table 6). None where it was not measured.
    """

    micro_batch_size: int
    bytes_per_image: int | None


def largest_fitting(candidates: Sequence[int], fits: Callable[[int], bool], guess: int) -> int | None:
    """The largest candidate that fits, each being tried at most once; None where none of those tried does.

    From the guess upwards until one does not fit, or downwards until one does. What is returned has been seen to fit,
    and is the largest that does where fitting is monotone; where it is not, a larger one may have been left out.

    Args:
        candidates: in increasing order.
        fits: tries one.
        guess: where to begin: at the largest candidate that is not above it, or at the smallest.
    """
    below = [candidate for candidate in candidates if candidate <= guess] or list(candidates[:1])
    found = next((candidate for candidate in reversed(below) if fits(candidate)), None)
    if found is None or found != below[-1]:
        return found
    for candidate in candidates[len(below) :]:
        if not fits(candidate):
            break
        found = candidate
    return found


def search(call: Callable[[int, int], Steps | Failure], candidates: Sequence[int], guess: int) -> Probe:
    """Find the largest candidate that fits by trial steps, and measure memory per image at it.

    Raises:
        DoesNotFitError: where memory runs out even at the smallest.
        ScalingError: where the smallest fails for another reason, which more memory would not help.
    """
    peaks: dict[int, int | None] = {}
    failures: list[Failure] = []

    def fits(size: int) -> bool:
        answer = call(size, STEPS)
        if isinstance(answer, Failure):
            failures.append(answer)
            return False
        peaks[size] = answer.peak_bytes
        return True

    found = largest_fitting(candidates, fits, guess)
    if found is None:
        last = failures[-1]
        raise (DoesNotFitError if last.status is Status.OOM else ScalingError)(last.reason)
    half = found // 2
    if half and half not in peaks:
        fits(half)
    small, large = peaks.get(half), peaks[found]
    slope = None if small is None or large is None else round((large - small) / (found - half))
    return Probe(found, slope)


def probe_cell(cell: Cell, device: str, guess: int, memory_bytes: int) -> Probe:
    """The micro-batch for a cell and its memory per image; on a CPU the guess, unmeasured.

    With a patch schedule, of the last stage, whose patches are the most. Of images that keep their proportions, of the
    largest batch that they can make.

    Args:
        cell: what is to be trained.
        device: 'cpu' or 'cuda'.
        guess: what the estimator says fits.
        memory_bytes: most that the cell may take of the GPU.

    Raises:
        CellDoesNotFitError: where it runs out of memory even one image at a time, with what it needed.
        ScalingError: where it fails for another reason.
    """
    if device == "cpu":
        return Probe(guess, None)
    cost, recipe = cost_of_cell(cell, scan_of(device)), cell.recipe
    trial = Trial(
        *(cell.design, head_of(cell), cost.execution, device, memory_bytes, recipe, cell.resources),
        _largest_sides(cell),
    )
    sizes = cell.micro_batch_sizes
    with FreshProcess(partial(start, trial)) as process:
        try:
            return search(process.call, sizes, guess)
        except DoesNotFitError as reason:
            need = f"{_need(cost, sizes[0])}, and may use {memory_bytes / GIB:.1f} GiB: {reason}"
            raise CellDoesNotFitError(need, cost, sizes[0]) from None
        except ScalingError as reason:
            raise ScalingError(f"memory probe: {reason}") from None


def _largest_sides(cell: Cell) -> tuple[int, int] | None:
    """Of a batch of images that keep their proportions, some of which may be upright and others not."""
    if not isinstance(cell.data, DetectionFiles):
        return None
    longest = cell.data.longest(cell.design.input_sides[0])
    return longest, longest


def _need(cost: CellCost, images: int) -> str:
    return f"needs about {cost.training_bytes(images) / GIB:.1f} GiB for {images} image(s) per step"
