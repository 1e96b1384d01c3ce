"""A study: a named grid of designs with one data set and one recipe, and the cells it expands to."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from scaling.design.architectures import DesignError, find_architecture, find_shape
from scaling.design.datasets import NOT_IDENTITY, Data, DigitsData
from scaling.design.designs import Design, check_known, check_patch, divisors
from scaling.design.hardware import Hardware
from scaling.design.patterns import alternatives
from scaling.design.pretraining import Pretraining, check_trainings
from scaling.design.recipes import START_NAMES, Measure, Recipe
from scaling.design.resources import Resources, check_images, check_resources
from scaling.design.schedules import TrainingStage, training_stages
from scaling.design.sections import NonNegativeInt, PositiveInt, Section
from scaling.design.sized_recipes import StudyRecipe
from scaling.design.tasks import HEADS_OF_TASK, PADDED_HEADS

STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# Raised when the same specification would no longer give the same result; a new key with a default
# that changes nothing leaves ids alone, since they are made of what differs from the defaults.
CELL_GENERATION = 1
CELL_ID = re.compile("[0-9a-f]{12}")
STREAM_STRIDE = 2**32  # between the seeds of a stage's images and of those of the stage before


class Grid(Section):
    """The axes of a study; its cells are their product and single designs, without what an exclusion removes.

    All four axes are given, or none beside single designs.
    """

    architectures: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    patch_sizes: tuple[PositiveInt, ...] = ()
    input_sizes: tuple[PositiveInt, ...] = ()
    heads: tuple[str, ...] = ()
    designs: Annotated[tuple[str, ...], Field(description="short names beside the product, such as extended ones")] = ()
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)

    @model_validator(mode="after")
    def _axes_agree(self) -> "Grid":
        axes = ("architectures", "sizes", "patch_sizes", "input_sizes")
        missing = [axis for axis in axes if not getattr(self, axis)]
        if missing and (len(missing) < len(axes) or not self.designs):
            raise ValueError(f"grid.{missing[0]}: is missing; give all of {', '.join(axes)}, or designs alone")
        return self


class Exclusion(Section):
    """A rule that removes cells: of designs that match and exceed the length, all or those of some seeds."""

    design: Annotated[str, Field(description="pattern such as 'deit-*/1@*'")] = "*"
    sequence_length_above: NonNegativeInt | None = None
    seeds: Annotated[tuple[NonNegativeInt, ...] | None, Field(min_length=1, description="all if not given")] = None
    reason: str = ""

    def removes(self, name: str, sequence_length: float, seed: int) -> bool:
        """Whether this seed of a design is left out."""
        limit = self.sequence_length_above
        of_seed = self.seeds is None or seed in self.seeds
        return of_seed and matches(name, self.design) and (limit is None or sequence_length > limit)


@dataclass(frozen=True)  # without slots, to keep the id
class Cell:
    """One design and seed of a study, or of one of its pretrainings: the unit that is trained and recorded."""

    study: str
    design: Design
    seed: int
    data: Data
    recipe: Recipe
    measure: Measure
    stage: str | None = None
    """Name of the pretraining it is; None for a cell of the study itself."""
    after: "Cell | None" = None
    """The cell whose checkpoint it starts from."""
    resources: Resources = field(default_factory=Resources)

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits of a hash of everything that determines the result."""
        identity = {
            "generation": CELL_GENERATION,
            "design": str(self.design),
            "seed": self.seed,
            "data": {"name": self.data.name}
            | self.data.model_dump(mode="json", exclude_defaults=True, exclude=set(NOT_IDENTITY)),
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True, exclude={"micro_batch_size"}),
        }
        if self.after is not None:
            identity["after"] = self.after.id
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Short name with the seed, and of a pretraining its name, for tables and messages."""
        return f"{self.design} seed {self.seed}" + (f" ({self.stage})" if self.stage else "")

    @property
    def stream_seed(self) -> int:
        """Seed of the order of training images; every stage sees others than the one before."""
        return self.seed if self.after is None else self.after.stream_seed + STREAM_STRIDE

    @property
    def stages(self) -> tuple[TrainingStage, ...]:
        """The stages of the training: one, or with a patch schedule several, of which the last is of the design."""
        return training_stages(self.design, self.recipe, self.data.epoch_images)

    @property
    def micro_batch_sizes(self) -> list[int]:
        """What it may be trained with, in increasing order: the recipe's, or the divisors of a process's batch."""
        recipe = self.recipe
        sizes = divisors(recipe.batch_size // self.resources.processes)
        return [recipe.micro_batch_size] if recipe.micro_batch_size else sizes

    @property
    def starting_checkpoint(self) -> Path | None:
        """The checkpoint that training starts from, with the design's own names filled in."""
        if self.recipe.start_from is None:
            return None
        path = self.recipe.start_from
        for key in START_NAMES:
            path = path.replace(f"{{{key}}}", str(getattr(self.design, key)))
        return Path(path)


def with_earlier_stages(cells: Iterable[Cell]) -> list[Cell]:
    """The cells and, once each, all that they start from: first the first stages, those of the study itself last."""
    stages = [list(cells)]
    while earlier := {cell.after.id: cell.after for cell in stages[0] if cell.after is not None}:
        stages.insert(0, list(earlier.values()))
    return [cell for stage in stages for cell in stage]


_HEAD = re.compile(r"\+(?!extend=)\w+")


def matches(name: str, pattern: str) -> bool:
    """Whether a short name matches a shell pattern, with alternatives in braces; it may leave the head out."""
    names = (name, _HEAD.sub("", name))
    return any(fnmatchcase(each, one) for one in alternatives(pattern) for each in names)


class Study(Section):
    """A grid of designs with one data set, task and recipe; see docs/studies.md for the keys."""

    name: Annotated[str, Field(pattern=STUDY_NAME)]
    description: str = ""
    data: Data
    grid: Grid
    exclude: tuple[Exclusion, ...] = ()
    recipe: StudyRecipe
    pretraining: tuple[Pretraining, ...] = ()
    """Stages before the study's own recipe, in order."""
    measure: Measure = Measure()
    resources: Resources = Resources()
    hardware: dict[str, Hardware] = Field(default_factory=dict)
    """Devices of your own, by name, for `scaling estimate --hardware`."""

    @model_validator(mode="after")
    def _is_runnable(self) -> "Study":
        self._check_axes()
        check_images(self.resources, self.data.task, drawn=all(isinstance(data, DigitsData) for data in self.data_sets))
        designs = list(self._designs())
        if not designs:
            raise ValueError("exclude: the rules leave no cell; loosen one")
        if len(set(designs)) < len(designs):
            twice = next(design for index, design in enumerate(designs) if design in designs[:index])
            raise ValueError(f"grid.designs: {twice} is in the grid twice")
        check_trainings(designs, self.pretraining, self.recipe, self.data)
        for size in {design.size for design in designs}:
            for recipe in (*(stage.recipe for stage in self.pretraining), self.recipe):
                check_resources(self.resources, recipe.of_size(size))
        names = [self._name(*axes) for axes in product(*self._axes())] + list(self.grid.designs)
        for index, rule in enumerate(self.exclude):
            if not any(matches(name, rule.design) for name in names):
                raise ValueError(f"exclude[{index}].design: '{rule.design}' matches no design, such as {names[0]}")
            if unknown := set(rule.seeds or ()) - set(self.grid.seeds):
                seeds = ", ".join(map(str, self.grid.seeds))
                raise ValueError(f"exclude[{index}].seeds: {min(unknown)} is no seed of the grid; there are {seeds}")
        return self

    @property
    def data_sets(self) -> list[Data]:
        """What is trained on in any stage, each once."""
        every = [*(stage.data or self.data for stage in self.pretraining), self.data]
        return [data for index, data in enumerate(every) if data not in every[:index]]

    def cells(self) -> list[Cell]:
        """Every cell of the study itself, in the order of the axes."""
        return [cell for design in self._designs() for cell in self._cells_of(design)]

    def all_cells(self) -> list[Cell]:
        """The cells of the pretrainings too, each once; every cell comes after the one it starts from."""
        return with_earlier_stages(self.cells())

    def _cells_of(self, design: Design) -> Iterator[Cell]:
        """A design's cells, one for each of its seeds, with those that they start from."""
        recipe = self.recipe.of_size(design.size)
        stages = [(stage, stage.recipe.of_size(design.size), stage.design_of(design)) for stage in self.pretraining]
        for seed in self._seeds_of(str(design), design.sequence_length):
            before = None
            for stage, its_recipe, its_design in stages:
                before = Cell(
                    *(self.name, its_design, seed, stage.data or self.data, its_recipe, self.measure),
                    *(stage.name, before, self.resources),
                )
            yield Cell(self.name, design, seed, self.data, recipe, self.measure, None, before, self.resources)

    def _heads(self) -> tuple[str | None, ...]:
        return self.grid.heads or HEADS_OF_TASK[self.data.task][:1] or (None,)

    def _designs(self) -> Iterator[Design]:
        for axes in product(*self._axes()):
            architecture, size, patch_size, input_size, head = axes
            rows = -(-input_size // patch_size) if head in PADDED_HEADS else input_size / patch_size
            if not self._seeds_of(self._name(*axes), rows**2):
                continue
            with _at(f"grid.patch_sizes[{self.grid.patch_sizes.index(patch_size)}]"):
                check_patch(patch_size, input_size, head)
            yield Design(architecture, size, patch_size, input_size, head)
        for index, name in enumerate(self.grid.designs):
            with _at(f"grid.designs[{index}]"):
                design = self._single(name)
            if self._seeds_of(name, design.sequence_length):
                yield design

    def _seeds_of(self, name: str, sequence_length: float) -> list[int]:
        """The seeds of a design that no rule removes."""
        return [
            seed
            for seed in self.grid.seeds
            if not any(rule.removes(name, sequence_length, seed) for rule in self.exclude)
        ]

    def _single(self, name: str) -> Design:
        """A design given by name, if the study can train it."""
        design = Design.parse(name)
        if design.head not in (HEADS_OF_TASK[self.data.task] or (None,)):
            fix = f"+{self._heads()[0]}" if self._heads()[0] else "no head"
            raise DesignError(f"{design}: the task is {self.data.task}; use {fix}")
        if not isinstance(design.input_size, int):
            raise DesignError(f"{design}: the inputs of a study are square")
        return design

    def _axes(self) -> tuple[tuple[Any, ...], ...]:
        grid = self.grid
        return grid.architectures, grid.sizes, grid.patch_sizes, grid.input_sizes, self._heads()

    @staticmethod
    def _name(architecture: str, size: str, patch_size: int, input_size: int, head: str | None) -> str:
        """Short name of a combination that need not be a legal design."""
        return f"{architecture}-{size}/{patch_size}@{input_size}" + (f"+{head}" if head else "")

    def _check_axes(self) -> None:
        if self.data.task == "classification" and self.grid.heads:
            raise ValueError("grid.heads: classification reads the class token; remove the key")
        for axis, values in self.grid:
            for index, value in enumerate(values):
                if value in values[:index]:
                    raise ValueError(f"grid.{axis}[{index}]: {value} is given twice")
        for index, name in enumerate(self.grid.architectures):
            with _at(f"grid.architectures[{index}]"):
                find_architecture(name)
            for position, size in enumerate(self.grid.sizes):
                with _at(f"grid.sizes[{position}]"):
                    find_shape(name, size)
        for index, head in enumerate(self.grid.heads):
            with _at(f"grid.heads[{index}]"):
                check_known(f"head of {self.data.task}", head, HEADS_OF_TASK[self.data.task])


@contextmanager
def _at(path: str) -> Iterator[None]:
    """Turn a design error into a value error that names the place in the study."""
    try:
        yield
    except DesignError as error:
        raise ValueError(f"{path}: {error}") from None
