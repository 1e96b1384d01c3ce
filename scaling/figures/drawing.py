"""Draw several figures to files, side by side in processes where there are many."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from scaling.design import DesignError
from scaling.figures import FigureError, Material, draw, file_name, save_figure
from scaling.laws import FitError

FEW = 3  # figures, for which a process of its own takes longer than it saves
MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Outputs:
    """What became of one figure: its files, or why it could not be drawn."""

    name: str
    paths: tuple[Path, ...]
    problem: str | None = None


def draw_to_files(material: Material, name: str, folder: Path) -> Outputs:
    """Draw one figure as PNG, PDF and SVG."""
    try:
        return Outputs(name, tuple(save_figure(draw(material, name), folder, file_name(name))))
    except (FigureError, FitError, DesignError) as error:  # what these records cannot show
        return Outputs(name, (), str(error))


def draw_all(material: Material, names: list[str], folder: Path) -> Iterator[Outputs]:
    """Draw figures in their order, each as soon as it and those before it are done."""
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    if len(names) <= FEW or processes == 1:
        yield from (draw_to_files(material, name, folder) for name in names)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(draw_to_files, material, name, folder) for name in names]
        yield from (job.result() for job in jobs)
