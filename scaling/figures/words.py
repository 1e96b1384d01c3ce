"""Words of figures: titles of panels, labels of axes, captions."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "deit": "DeiT",
    "adventurer": "Adventurer",
    "imagenet-1k": "ImageNet-1k",
    "ade20k": "ADE20K",
    "coco": "COCO",
    "upernet": "UperNet",
}
LOSS_UNITS = {"classification": "nats", "segmentation": "nats per pixel"}  # other tasks add up losses of several kinds
SCALE_LABELS = {
    "patch_size": "Patch size (pixels)",
    "input_size": "Input size (pixels)",
    "parameters": "Parameters",
    "images_seen": "Images seen",
}
TITLE_CHARACTERS = 44  # that fit over a panel
CAPTION_CHARACTERS = 62  # of a caption that fit under a panel


def written(value: Any) -> str:
    """A name as it is usually written."""
    return NAMES.get(str(value), str(value).replace("-", " "))


def words(group: Mapping[str, Any], size: str | None = None) -> tuple[list[str], list[str]]:
    """What a panel shows, and the design that it shows it for; what is missing is left out.

    Args:
        group: design columns that the panel's records share, with their values.
        size: the model size, where the panel has one.
    """
    known = {key: value for key, value in group.items() if value is not None and value == value}
    shown = " ".join(written(known[key]) for key in ("dataset", "task") if key in known)
    design = []
    if "architecture" in known:
        design.append(written(known["architecture"]) + (f"-{size.capitalize()}" if size else ""))
    elif "architecture" in group:
        design.append("model not named")
    if "input_size" in known:
        design.append(f"{int(known['input_size'])}×{int(known['input_size'])} input")
    if "extended_length" in known:
        design.append(f"extended to {int(known['extended_length'])} tokens")
    if "head" in known:
        design.append(f"{written(known['head'])} head")
    parts = [known.get("study"), shown[:1].upper() + shown[1:]]
    return [": ".join(filter(None, parts))] * any(parts), design


def titles(panels: Iterable[tuple[list[str], list[str]]]) -> list[str]:
    """Such as 'Segmentation, DeiT, 24×24 input'; all on two lines where one is too long for a panel."""
    panels = list(panels)
    whole = [", ".join(first + second) for first, second in panels]
    if max(map(len, whole)) <= TITLE_CHARACTERS:
        return whole
    halves = [[textwrap.fill(", ".join(half), TITLE_CHARACTERS) for half in panel if half] for panel in panels]
    return ["\n".join(half) for half in halves]


def loss_label(table: "pd.DataFrame", loss: str = "Test loss") -> str:
    """A loss with its unit, where the records are of one task that has one."""
    tasks = set(table["task"]) if "task" in table else set()
    unit = LOSS_UNITS.get(str(tasks.pop())) if len(tasks) == 1 else None
    return f"{loss} ({unit})" if unit else loss


def add_caption(figure: Figure, parts: Iterable[str], columns: float) -> None:
    """Write what a reader must know under a figure of so many columns."""
    text = "; ".join(part for part in parts if part)
    figure.supxlabel(textwrap.fill(text, int(CAPTION_CHARACTERS * columns)), fontsize=6.5, color="0.3")
