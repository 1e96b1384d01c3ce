"""A question to the estimator: many designs under one setting, each with its budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scaling.cost.budget import Budget, budget
from scaling.cost.cells import execution_of, head_of
from scaling.cost.estimates import DEFAULT_BATCH, IMAGENET_IMAGES, CostEstimate, estimate
from scaling.cost.roofline import Constants
from scaling.cost.shapes import Execution, Head
from scaling.cost.stages import Stage, stages_of
from scaling.design import Cell, Design, Hardware, Study
from scaling.errors import UsageError

IMAGENET_HEAD = Head()


@dataclass(frozen=True, slots=True)
class Row:
    """One design of the answer; `budget` is None where no duration was asked for, or it does not fit."""

    estimate: CostEstimate
    budget: Budget | None
    of_study: bool = False
    stage: str | None = None
    """Name of the pretraining it is, of a study that has some."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is the same for every design asked about; the fields are arguments of `estimate`."""

    hardware: Hardware
    execution: Execution
    head: Head = IMAGENET_HEAD
    batch_size: int = DEFAULT_BATCH
    gpus: int | None = None
    train_images: int = IMAGENET_IMAGES
    price_per_gpu_hour: float | None = None
    constants: Constants | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the execution that hold for a study's cells in place of what the study says."""

    def rows(self, designs: list[Design], epochs: float | None = None, recipe: str | None = None) -> list[Row]:
        """A row for each design, with a budget for so many epochs or a recipe's stages.

        Raises:
            UsageError: as `estimate`, `budget` and `stages_of`; and for a price without a duration.
        """
        if self.price_per_gpu_hour is not None and epochs is None and recipe is None:
            raise UsageError("a price needs a duration: give --epochs, --recipe or --study too")
        return [self._row(design, self._stages(design, epochs, recipe)) for design in designs]

    def study_rows(self, study: Study) -> list[Row]:
        """A row for each design of a study, budgeted for all its seeds and executed as the study says.

        Each cell trains on `gpus`, or on as many as it has processes. Attention and scan are those of the request.
        Pretrainings have rows of their own, since several designs may share one.
        """
        groups: dict[tuple[Design, str | None], list[Cell]] = {}
        for cell in study.all_cells():
            groups.setdefault((cell.design, cell.stage), []).append(cell)
        return [self._cells_row(cells) for cells in groups.values()]

    def _cells_row(self, cells: list[Cell]) -> Row:
        cell = cells[0]
        known = self._stage_of_cell(cell, cell.design, cell.recipe.micro_batch_size)
        # The micro-batch does not change on the way; the last stage, with the most tokens, sets it.
        micro = known.placement.micro_batch_size if known.placement else None
        batches = len(cells) * cell.recipe.batch_size / self.train_images
        several = len(cell.stages) > 1
        stages = [
            Stage(
                f"{len(cells)} cells"
                + (f" of {cell.stage}" if cell.stage else "")
                + f" at patch {each.design.patch_size}" * several,
                each.design,
                each.steps * batches,
            )
            for each in cell.stages
        ]
        found = budget(
            stages,
            lambda stage: known if stage.design == cell.design else self._stage_of_cell(cell, stage.design, micro),
            self.price_per_gpu_hour,
        )
        return Row(known, found, of_study=True, stage=cell.stage)

    def _stage_of_cell(self, cell: Cell, design: Design, micro_batch_size: int | None) -> CostEstimate:
        return estimate(
            design,
            self.hardware,
            head=head_of(cell),
            batch_size=cell.recipe.batch_size,
            gpus=self.gpus or cell.resources.processes,
            micro_batch_size=micro_batch_size,
            execution=replace(
                execution_of(cell, self.execution.scan), attention=self.execution.attention, **self.overrides
            ),
            train_images=self.train_images,
            constants=self.constants,
        )

    def _row(self, design: Design, stages: list[Stage] | None) -> Row:
        if stages is None:
            return Row(self._estimate(design, self.batch_size), None)
        found = budget(stages, self._stage_estimate, self.price_per_gpu_hour)  # first, since its errors name the stage
        return Row(self._estimate(design, stages[-1].batch_size or self.batch_size), found)

    def _stage_estimate(self, stage: Stage) -> CostEstimate:
        try:
            return self._estimate(stage.design, stage.batch_size or self.batch_size)
        except UsageError as error:
            raise UsageError(f"{stage.name} of {stage.design}: {error}") from None

    def _estimate(self, design: Design, batch_size: int) -> CostEstimate:
        return estimate(
            design,
            self.hardware,
            head=self.head,
            batch_size=batch_size,
            gpus=self.gpus,
            execution=self.execution,
            train_images=self.train_images,
            constants=self.constants,
        )

    def _stages(self, design: Design, epochs: float | None, recipe: str | None) -> list[Stage] | None:
        if recipe is not None:
            return stages_of(recipe, design, self.train_images)
        return None if epochs is None else [Stage("training", design, epochs)]
