"""Looking at running cells now and then, and finding those that cannot matter; see docs/hopeless.md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.design import Augmentation, Cell
from scaling.grid.board import Board, Row
from scaling.records import RecordError, RunDirectory, Status

if TYPE_CHECKING:
    from scaling.laws.hopeless import Rival

LOOKS = 10  # at a cell in its whole training, evenly
SHAPES_LOSS = (*Augmentation.model_fields, "label_smoothing", "drop_path", "ema_decay", "auxiliary_loss", "detector")
"""Keys of a recipe with which training losses mean something else, or else of the test loss."""


@dataclass
class Judge:
    """Finds hopeless cells among the running ones of a run directory."""

    run: RunDirectory
    board: Board
    looks: dict[str, int] = field(default_factory=dict)
    """Tenths of its training at which each cell was last looked at."""
    final_losses: dict[str, float] = field(default_factory=dict)
    """Of finished cells, as far as they were needed."""

    def find(self, cells: Iterable[str]) -> tuple[str, str] | None:
        """Of these cells the first that is due, if it is hopeless, and why; one is judged, so that a call is short."""
        for cell in cells:
            row = self.board.rows[cell]
            look = math.floor(row.share_done * LOOKS)
            if look <= self.looks.get(cell, 0):
                continue
            self.looks[cell] = look
            if look < LOOKS and _may_be_stopped(row.job.cell):
                why = self._judge(row)
                return (cell, why) if why else None
        return None

    def _judge(self, row: Row) -> str | None:
        from scaling.laws.hopeless import EARLIEST, find_hopeless  # late: only who asks for it pays for it

        if row.share_done < EARLIEST:
            return None
        try:
            images, losses = _arrays(self.run.learning_curve(row.job.cell.id))
            rivals = self._rivals(row.job.cell)
        except (RecordError, OSError):  # it goes on; who reads the curve next will name what is wrong with it
            return None
        cost = row.job.training_flops_of_all_stages
        found = find_hopeless(row.job.cell.name, images, losses, row.job.cost.images, cost, rivals)
        return str(found) if found else None

    def _rivals(self, cell: Cell) -> "list[Rival]":
        """The finished designs whose training losses can be compared with a cell's, and of which its seed is one."""
        from scaling.laws.hopeless import Rival

        rows: dict[str, list[Row]] = {}
        for row in self.board.rows.values():
            if row.status is Status.DONE and _compares(row.job.cell, cell):
                rows.setdefault(str(row.job.cell.design), []).append(row)
        return [
            Rival(design, seeds[0].job.training_flops_of_all_stages, tuple(map(self._final_loss, seeds)))
            for design, seeds in rows.items()
            if cell.seed in {row.job.cell.seed for row in seeds}
        ]

    def _final_loss(self, row: Row) -> float:
        from scaling.laws.hopeless import final_loss

        cell = row.job.cell.id
        if cell not in self.final_losses:
            images, losses = _arrays(self.run.learning_curve(cell))
            self.final_losses[cell] = final_loss(images, losses, row.job.cost.images)
        return self.final_losses[cell]


def _may_be_stopped(cell: Cell) -> bool:
    """Not a stage of a chain, whose checkpoint others need or whose loss began elsewhere, nor a patch schedule."""
    return cell.stage is None and cell.after is None and cell.recipe.start_from is None and not cell.recipe.stages


def _compares(other: Cell, cell: Cell) -> bool:
    if other.recipe.start_from is not None:
        return False  # what its checkpoint cost is not known
    same = all(getattr(other.recipe, key) == getattr(cell.recipe, key) for key in SHAPES_LOSS)
    return same and other.stage is None and other.design.head == cell.design.head and other.design != cell.design


def _arrays(curve: list[tuple[int, float]]) -> tuple[Any, Any]:
    """Images seen and losses, as arrays."""
    images, losses = zip(*curve, strict=True) if curve else ((), ())
    return np.array(images, dtype=float), np.array(losses, dtype=float)
