"""What the cells of a study cost, as they are trained: one device each."""

from scaling.cost.cost import Cost, cost_of
from scaling.cost.memory import Layout
from scaling.cost.roofline import Interval, constants_of, step_seconds
from scaling.cost.shapes import Execution, Head, Scan
from scaling.design import Cell, Hardware


def head_of(cell: Cell) -> Head:
    """The head that a cell's data ask for."""
    return Head(cell.data.classes, dense=cell.design.head is not None, label_sides=cell.data.label_sides)


def cost_of_cell(cell: Cell, scan: Scan) -> Cost:
    """Exact cost of a cell; `scan` says how an Adventurer's runs."""
    return cost_of(cell.design, head_of(cell), Execution(cell.recipe.precision, scan=scan))


def cell_images(cell: Cell) -> int:
    """Images that training a cell goes through."""
    return cell.recipe.training_steps(cell.data.epoch_images) * cell.recipe.batch_size


def cell_speed(cell: Cell, cost: Cost, hardware: Hardware, micro_batch_size: int) -> Interval | None:
    """Training images/s of a cell on one device, without waiting for data; None for a precision it lacks."""
    execution = Execution(cell.recipe.precision)
    if execution.precision not in hardware.peak_flops:
        return None
    accumulation = cell.recipe.batch_size // micro_batch_size
    layout = Layout(1, micro_batch_size, accumulation)
    step = step_seconds(cost, layout, hardware, constants_of(hardware), execution)
    return Interval.around(layout.images_per_step / step.total, step.relative_error)
