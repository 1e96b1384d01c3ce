"""Tasks, and the heads that turn a backbone into a model of each."""

from typing import Literal, TypeAlias

Task: TypeAlias = Literal["classification", "segmentation", "detection"]
"""Detection finds boxes and the masks of what is in them: the paper's detection and instance segmentation at once."""

HEADS_OF_TASK: dict[Task, tuple[str, ...]] = {
    "classification": (),
    "segmentation": ("linear", "upernet"),
    "detection": ("cascade",),
}
"""One linear layer on the patch tokens, UperNet, Cascade Mask R-CNN; a classifier reads the class token."""
HEADS = tuple(head for heads in HEADS_OF_TASK.values() for head in heads)
PADDED_HEADS = HEADS_OF_TASK["detection"]
"""Heads whose inputs keep their proportions, and are padded to whole patches."""


def task_of_head(head: str | None) -> Task:
    """The task of a head; without one, classification."""
    found: Task = "classification"
    for task, heads in HEADS_OF_TASK.items():
        found = task if head in heads else found
    return found
