"""Figures of the paper and others, drawn from records. Drawing returns a matplotlib Figure and shows nothing."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UsageError, nearest
from scaling.figures.material import FigureError, Material
from scaling.outputs import output_file
from scaling.records import load_records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that can be drawn: its module has `draw(material) -> Figure`."""

    module: str
    title: str
    uses: str | None = None
    """The option it is drawn by: law or base."""


FIGURES = {
    "1": Drawing("figure1", "test loss against patch size, with the fitted laws", "law"),
    "2": Drawing("figure2", "the decoder's impact on segmentation: UperNet against the linear head"),
    "3": Drawing("figure3", "patch scaling against parameter scaling and other axes, over training FLOPs", "base"),
    "4": Drawing("figure4", "input-size scaling at fixed sequence length, and the share of the patch embedding"),
    "equal-cost": Drawing("equal_cost", "every axis from one design over FLOPs, memory and hours", "base"),
    "heatmap": Drawing("heatmap", "result by patch size and model size (Table 4)"),
    "cost": Drawing("costs", "memory and training time against sequence length (Table 6)"),
    "extension": Drawing("extension", "extended tokens against smaller patches (Table 5)"),
    "isoflop": Drawing("isoflop", "patch size against model size along equal training FLOPs"),
    "residuals": Drawing(
        "residuals", "how far points are from their law, and the bands of the law and of a new run", "law"
    ),
    "learning-curves": Drawing("learning_curves", "training loss against images seen, of a run directory"),
}
"""What `figure` draws, by name; numbers are those of the paper."""


def figure(
    source: "pd.DataFrame | str | Path", name: int | str = 1, law: str = "auto", base: str | None = None
) -> "Figure":
    """Draw a figure from records.

    Args:
        source: a table of records, or what `load_records` takes.
        name: of the figure; numbers are those of the paper.
        law: a law of one scale, or 'auto' to choose one for each curve.
        base: short name of the design that comparisons start from.

    Raises:
        UsageError: for a figure that does not exist.
        FigureError: if the records lack what the figure shows.
    """
    check_figure(str(name))  # before records are read
    given = isinstance(source, str | Path)
    table = load_records(source) if given else source
    return draw(Material(table, Path(source) if given else None, law, base), str(name))


def draw(material: Material, name: str) -> "Figure":
    """Draw a figure of `FIGURES`; raises FigureError if the records lack what it shows."""
    return import_module(f"scaling.figures.{FIGURES[name].module}").draw(material)


def check_figure(name: str) -> None:
    """Raise UsageError for a figure that does not exist."""
    if name not in FIGURES:
        raise UsageError(f"no figure '{name}': {nearest(name, FIGURES)}")


def file_name(name: str) -> str:
    """Name of a figure's files, without suffix."""
    return f"figure{name}" if name.isdigit() else name


def save_figure(drawn: "Figure", folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, without dates, so that the same figure is the same file."""
    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    _write(drawn, paths)
    return paths


def write_figure(drawn: "Figure", file: Path) -> None:
    """Write a figure to one file, in the format of its suffix.

    Raises:
        UsageError: for a suffix of no format.
        OutputError: if the file cannot be written.
    """
    check_file(file)
    _write(drawn, [file])


def check_file(file: Path) -> None:
    """Raise UsageError for a file whose suffix is of no format."""
    if file.suffix.lower()[1:] not in FORMATS:
        raise UsageError(
            f"{file}: a figure is written as {', '.join(f'.{kind}' for kind in FORMATS)}, "
            f"not as '{file.suffix or 'a file without a suffix'}'"
        )


def _write(drawn: "Figure", paths: list[Path]) -> None:
    from scaling.figures.style import styled

    layout = drawn.get_layout_engine()
    try:
        with styled():
            for path in paths:
                dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix.lower()[1:])
                with output_file(path) as part:
                    drawn.savefig(part, metadata=dateless)
                drawn.set_layout_engine(None)  # the first has laid it out
    finally:
        drawn.set_layout_engine(layout)


__all__ = [
    "FIGURES",
    "Drawing",
    "FigureError",
    "Material",
    "check_figure",
    "check_file",
    "draw",
    "figure",
    "file_name",
    "save_figure",
    "write_figure",
]
