"""What the cells of a study cost, as they are trained: on one device or several, at one patch size or a schedule."""

from dataclasses import dataclass

from scaling.cost.breakdowns import Parameters
from scaling.cost.cost import Cost, cost_of
from scaling.cost.memory import Layout, state_on_gpu
from scaling.cost.roofline import Interval, constants_of, step_seconds
from scaling.cost.shapes import Execution, Head, Scan
from scaling.design import Cell, Data, Design, Hardware, Recipe


@dataclass(frozen=True, slots=True)
class StageCost:
    """A stage of a cell's training: its design, the images it sees, and what they cost."""

    design: Design
    images: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class CellCost:
    """What a cell's own training costs over the stages of its patch schedule; the model is that of the last."""

    stages: tuple[StageCost, ...]
    execution: Execution
    processes: int
    before: "CellCost | None" = None
    """Of the cell that it starts from."""

    @property
    def earlier_training_flops(self) -> int:
        """Forward and backward FLOPs of all pretrainings before; 0 without."""
        return self.before.earlier_training_flops + self.before.training_flops if self.before else 0

    @property
    def final(self) -> Cost:
        """Of the cell's own design, which is trained last and tested."""
        return self.stages[-1].cost

    @property
    def parameters(self) -> Parameters:
        """Of the cell's own design."""
        return self.final.parameters

    @property
    def forward_flops_per_image(self) -> int:
        """Of the cell's own design."""
        return self.final.forward_flops_per_image

    @property
    def images(self) -> int:
        """Images that the whole training goes through."""
        return sum(stage.images for stage in self.stages)

    @property
    def training_flops(self) -> int:
        """Forward and backward FLOPs of the whole training."""
        return self.training_flops_after(self.images)

    @property
    def training_flops_per_image(self) -> int:
        """Mean over the images of all stages."""
        return round(self.training_flops / self.images)

    @property
    def activation_bytes_per_image(self) -> int:
        """Of the largest stage."""
        return max(stage.cost.activation_bytes_per_image for stage in self.stages)

    def training_bytes(self, micro_batch_size: int) -> int:
        """Memory of a training step of the largest stage in one process, without the framework's own."""
        return max(
            state_on_gpu(stage.cost, self.execution, self.processes).total
            + micro_batch_size * stage.cost.peak_bytes_per_image
            for stage in self.stages
        )

    def training_flops_after(self, images: int) -> int:
        """FLOPs that the first so many images of the training take."""
        spent, left = 0, images
        for stage in self.stages:
            seen = min(left, stage.images)
            spent, left = spent + seen * stage.cost.training_flops_per_image, left - seen
        return spent

    def patch_size_after(self, images: int) -> int:
        """Patch size at which the last of the first so many images was seen."""
        seen = 0
        for stage in self.stages:
            seen += stage.images
            if images <= seen:
                return stage.design.patch_size
        return self.stages[-1].design.patch_size


def head_of(cell: Cell) -> Head:
    """The head that a cell's data ask for."""
    return head_for(cell.data, cell.recipe, cell.design.head)


def head_for(data: Data, recipe: Recipe, kind: str | None) -> Head:
    """A head of this kind, as these data and this recipe ask for."""
    return Head(data.classes, kind, data.label_sides, recipe.auxiliary_loss > 0, recipe.detector)


def execution_of(cell: Cell, scan: Scan = "fused") -> Execution:
    """How a cell is trained; `scan` says how an Adventurer's runs."""
    recipe, resources = cell.recipe, cell.resources
    return Execution(
        recipe.precision,
        scan=scan,
        checkpointing=resources.activation_checkpointing,
        ema=recipe.ema_decay is not None,
        sharding=resources.sharding,
    )


def cost_of_cell(cell: Cell, scan: Scan) -> CellCost:
    """Exact cost of a cell; `scan` says how an Adventurer's runs."""
    head, execution = head_of(cell), execution_of(cell, scan)
    return CellCost(
        tuple(
            StageCost(stage.design, stage.steps * cell.recipe.batch_size, cost_of(stage.design, head, execution))
            for stage in cell.stages
        ),
        execution,
        cell.resources.processes,
        cost_of_cell(cell.after, scan) if cell.after else None,
    )


def cell_speed(cost: CellCost, layout: Layout, hardware: Hardware) -> Interval | None:
    """Training images/s of a cell on all GPUs of a layout, without waiting for data; None for a precision they lack.

    Over all stages; the interval is that of fully shared errors, since all run on the same devices.
    """
    if cost.execution.precision not in hardware.peak_flops:
        return None
    seconds = []
    for stage in cost.stages:
        step = step_seconds(stage.cost, layout, hardware, constants_of(hardware), cost.execution)
        speed = Interval.around(layout.gpus * layout.images_per_step / step.total, step.relative_error)
        seconds.append([stage.images / end for end in (speed.estimate, speed.high, speed.low)])
    estimate, fewest, most = (sum(column) for column in zip(*seconds, strict=True))
    return Interval(cost.images / estimate, cost.images / most, cost.images / fewest)
