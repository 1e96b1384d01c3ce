"""What a study says about how its cells are carried out; every field is a TOML key."""

from typing import Annotated, Literal

from pydantic import Field

from scaling.design.recipes import Recipe
from scaling.design.sections import NonNegativeInt, PositiveInt, Section
from scaling.design.tasks import Task

Sharding = Literal["ddp", "fsdp"]
"""Whether every process holds all weights, gradients and moments, or its part of them."""


ASKED = ("cpus", "memory_gib", "hours", "growth")
"""Keys for schedulers only."""


class Resources(Section):
    """How a cell is carried out. It changes results by rounding and random draws only: no part of a cell's identity."""

    save_every_minutes: Annotated[float, Field(gt=0, description="at most so much training is lost")] = 10.0
    save_every_steps: Annotated[PositiveInt | None, Field(description="save after so many steps too")] = None
    processes: Annotated[PositiveInt, Field(description="of one cell; on CUDA one for each GPU")] = 1
    nodes: Annotated[PositiveInt, Field(description="machines that the processes of a cell are spread over evenly")] = 1
    sharding: Sharding = "ddp"
    activation_checkpointing: Annotated[bool, Field(description="keep the inputs of blocks only, run them twice")] = (
        False
    )
    compile: Annotated[bool, Field(description="by torch.compile")] = False
    data_workers: Annotated[NonNegativeInt | None, Field(description="of each process, for images in files")] = None
    cpus: Annotated[PositiveInt | None, Field(description="cores that a scheduler is asked for, of each process")] = (
        None
    )
    memory_gib: Annotated[
        float | None, Field(gt=0, description="host memory that a scheduler is asked for, of each process")
    ] = None
    hours: Annotated[float | None, Field(gt=0, description="time limit that a scheduler is asked for, of a job")] = None
    growth: Annotated[
        NonNegativeInt, Field(description="how often a cell out of host memory or time asks for twice as much")
    ] = 2


def check_images(resources: Resources, task: Task, drawn: bool) -> None:
    """Raise ValueError, naming the key, for resources that images of a task, or drawn ones, cannot be trained with."""
    if drawn and resources.data_workers is not None:
        raise ValueError("resources.data_workers: the scenes of digits are drawn, not loaded; remove the key")
    if resources.compile and task == "detection":
        raise ValueError("resources.compile: the shapes inside a detector change with every image; remove the key")


def check_resources(resources: Resources, recipe: Recipe) -> None:
    """Raise ValueError, naming the key, for resources that a recipe cannot be carried out with."""
    processes, batch_size, micro = resources.processes, recipe.batch_size, recipe.micro_batch_size
    if processes % resources.nodes:
        raise ValueError(f"resources.nodes: {resources.nodes} do not divide resources.processes {processes} evenly")
    if batch_size % processes:
        raise ValueError(f"resources.processes: {processes} do not divide recipe.batch_size {batch_size} evenly")
    if micro and batch_size % (micro * processes):
        raise ValueError(
            f"recipe.micro_batch_size: {micro} images for each of {processes} processes do not divide "
            f"recipe.batch_size {batch_size}; use a divisor of {batch_size // processes}"
        )
    if resources.sharding == "ddp":
        return
    for key, unfit in (
        ("stages", bool(recipe.stages)),
        ("ema_decay", recipe.ema_decay is not None),
        ("precision", recipe.precision == "fp16"),
        ("optimizer", recipe.optimizer != "adamw"),
    ):
        if unfit:
            raise ValueError(f"resources.sharding: 'fsdp' cannot train with this recipe.{key}; use sharding = \"ddp\"")
    if resources.processes == 1:
        raise ValueError(
            "resources.sharding: 'fsdp' divides weights between processes; give resources.processes above 1"
        )
