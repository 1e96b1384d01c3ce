"""Loading images: processor time per image, waiting of a training, opening of large data sets, memory.

python -m benchmarks.data      # rewrites its own page; about five minutes on two idle cores

Images are made: JPEG files of 500 x 375 pixels and about the size of ImageNet's. Rates are of processor time of one
core, which other work on the machine changes little; only the waiting of a training is by the clock.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from benchmarks.pages import write_page
from scaling.data import Share, held_out_batches, open_data, training_batches
from scaling.data.folders import FolderImages
from scaling.data.loading import HeldOutImages, Order, load
from scaling.data.parquet import ParquetImages
from scaling.data.transforms import of_image_alone, training_transform
from scaling.design import Cell, build_study, parse_data
from scaling.training.cells import never
from scaling.training.loop import Task, train
from scaling.training.parallel import build_accelerator
from scaling.training.resume import Position

CLASSES, TRAIN, TEST, IMAGENET = 4, 160, 160, 1_281_167
BATCHES, WAITING = 8, {"steps": 8, "batch_size": 16}
TABLE_GROUPS, GROUP_IMAGES = 60, 100  # of a table; 100 images for a row group, as the hub has them
BEGUN, COUNTED = 30, 90  # batches of a table
LISTED = 20_000  # empty files, to time the opening
DEIT = {"augmentation": "rand-m9-mstd0.5-inc1", "crop_scale": [0.08, 1.0], "horizontal_flip": 0.5,
        "random_erasing": 0.25, "mixup": 0.8, "cutmix": 1.0}  # fmt: skip
ADVENTURER = {"augmentation": "three-augment", "crop_scale": [0.08, 1.0], "horizontal_flip": 0.5, "color_jitter": 0.3,
              "repeated_augmentation": 3}  # fmt: skip
RECIPES: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, 224),
    "Adventurer's pretraining": (ADVENTURER, 128),
    "DeiT's": (DEIT, 224),
}


def make_images(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", TEST)):
        for number in range(count):
            smooth = Image.fromarray(random.integers(0, 256, (24, 32, 3)).astype(np.uint8)).resize((500, 375))
            grain = random.integers(-20, 20, (375, 500, 3))
            pixels = (np.asarray(smooth).astype(int) + grain).clip(0, 255).astype(np.uint8)
            path = root / split / f"class{number % CLASSES}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=85)


def cell_of(root: Path, recipe: dict[str, Any], design: str, data: dict[str, Any] | None = None) -> Cell:
    data = data or {"name": "image-folder", "path": str(root), "classes": CLASSES, "train_images": TRAIN}
    recipe = {**WAITING, "learning_rate": 1e-3, **recipe}
    values = {"name": "bench", "data": data, "grid": {"designs": [design]}, "recipe": recipe}
    return build_study(values).cells()[0]


def cpu_seconds(*loaders: Iterable[Any]) -> list[float]:
    """Processor seconds for an image, the median over batches that the loaders make in turn."""
    iterators = [iter(loader) for loader in loaders]
    taken: list[list[float]] = [[] for _ in loaders]
    for _ in range(BATCHES + 1):  # the first is not counted
        for iterator, times in zip(iterators, taken, strict=True):
            started = time.process_time()
            images = len(next(iterator)[0])
            times.append((time.process_time() - started) / images)
    return [statistics.median(times[1:]) for times in taken]


def ours(cell: Cell) -> Iterable[Any]:
    return ((scenes.images, scenes.labels) for scenes in training_batches(cell, Share(8, 8), workers=0))


def plain(cell: Cell, root: Path, side: int) -> Iterable[Any]:
    """The same transforms in torchvision's folder and torch's loader, shuffled, without mixing."""
    folder = ImageFolder(str(root / "train"), training_transform(cell.recipe, side))
    while True:
        yield from torch.utils.data.DataLoader(folder, 8, shuffle=True, num_workers=0, drop_last=True)


def rates(root: Path) -> list[tuple[str, ...]]:
    rows = []
    for name, (recipe, side) in RECIPES.items():
        cell = cell_of(root, recipe, f"deit-nano/16@{side}")
        mine, theirs = (1 / seconds for seconds in cpu_seconds(ours(cell), plain(cell, root, side)))
        rows.append((name, str(side), f"{mine:.0f}", f"{theirs:.0f}", f"{mine / theirs:.2f}"))
        print(*rows[-1], flush=True)
    return rows


def waiting(root: Path) -> list[tuple[str, ...]]:
    """Share of the seconds of a training that it waits for images, with one loader process beside one thread."""
    torch.set_num_threads(1)
    rows = []
    for design, recipe in (("deit-tiny/16@224", DEIT), ("deit-tiny/16@128", ADVENTURER), ("deit-nano/16@64", {})):
        cell = cell_of(root, recipe, design)
        torch.manual_seed(0)
        load_before = os.getloadavg()[0]
        position = Position()
        with tempfile.TemporaryDirectory() as folder:
            accelerator = build_accelerator(cell, "cpu", 16)
            train(Task(cell, accelerator, 16, Path(folder), time.time(), lambda *_: None, never), position)
        images = position.step * 16
        rows.append(
            (
                design,
                f"{images / position.seconds:.0f}",
                f"{position.data_seconds / position.seconds:.1%}",
                f"{load_before:.1f}",
            )
        )
        print(*rows[-1], flush=True)
    return rows


def opening(folder: Path) -> list[tuple[str, ...]]:
    for split, count in (("train", LISTED), ("val", CLASSES)):
        for number in range(count):
            path = folder / split / f"n{number % CLASSES:08d}"
            path.mkdir(parents=True, exist_ok=True)
            (path / f"n{number % CLASSES:08d}_{number}.JPEG").touch()
    data = parse_data({"name": "image-folder", "path": str(folder), "classes": CLASSES, "train_images": LISTED})
    started = time.process_time()
    found = open_data(data)  # pyright: ignore[reportArgumentType]
    listed = time.process_time() - started
    assert found.fingerprint
    hashed = time.process_time() - started - listed
    images = found.train
    assert isinstance(images, FolderImages)
    size = (images.names.nbytes + images.sizes.nbytes + images.labels.nbytes) / LISTED
    scale = IMAGENET / LISTED
    return [(f"{listed * scale:.1f}", f"{hashed * scale:.1f}", f"{size * IMAGENET / 2**20:.0f} MiB")]


def tables(root: Path, folder: Path) -> list[tuple[str, ...]]:
    """The same images as a table of so many row groups: one epoch's bytes from where they are stored, without decoding.

    Read directly by Parquet, and by way of `datasets`, whose conversion is not counted.
    """
    write_table(root, folder)
    values = {"path": str(folder), "classes": CLASSES, "train_images": TABLE_GROUPS * GROUP_IMAGES}
    stored = sum(path.stat().st_size for path in folder.glob("train*")) / values["train_images"]
    rows, rates = [], []
    for name in ("huggingface", "parquet"):
        images = open_data(parse_data({"name": name, **values})).train  # pyright: ignore[reportArgumentType]
        order = Order(len(images), 0, 8, row_groups=images.row_groups)
        read, started = _bytes_read(), time.process_time()
        for place in range(len(images)):
            images.read(order.at(place))
        rates.append(len(images) / (time.process_time() - started))
        ratio = (_bytes_read() - read) / len(images) / stored
        kept = sum(group.nbytes for group in images._kept.values()) if isinstance(images, ParquetImages) else 0
        rows.append(
            (name, f"{rates[-1]:,.0f}", f"{rates[-1] / rates[0]:.2f}", f"{ratio:.2f}", f"{kept / 2**20:.0f} MiB")
        )
        print(*rows[-1], flush=True)
    cells = [cell_of(root, {}, "deit-nano/16@224", {"name": name, **values}) for name in ("huggingface", "parquet")]
    arrow, direct = map(steady_rate, cells)
    rows.append(("both, with decoding to 224 pixels", f"{direct:.0f}", f"{direct / arrow:.2f}", "-", "-"))
    return rows


def steady_rate(cell: Cell) -> float:
    """Decoded images per second of one core, after the first row groups are read."""
    batches = iter(ours(cell))
    for _ in islice(batches, BEGUN):
        pass
    started = time.process_time()
    images = sum(len(images) for images, _ in islice(batches, COUNTED))
    return images / (time.process_time() - started)


def write_table(root: Path, folder: Path) -> None:
    """Some of the made images over and over, in row groups."""
    group = sorted((root / "train").rglob("*.JPEG"), key=lambda file: int(file.stem))[:GROUP_IMAGES]
    labels = [int(file.parent.name.removeprefix("class")) for file in group]
    table = pa.table({"image": [{"bytes": file.read_bytes(), "path": None} for file in group], "label": labels})
    folder.mkdir()
    for split, groups in (("train", TABLE_GROUPS), ("validation", 1)):
        with pq.ParquetWriter(folder / f"{split}-00000-of-00001.parquet", table.schema) as writer:
            for _ in range(groups):
                writer.write_table(table)


def _bytes_read() -> int:
    """Bytes this process asked the system for, from the cache or not; maps of files are not counted."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def worker_memory(root: Path) -> list[tuple[str, ...]]:
    """Memory of a loader process of its own, early and late, with an index as long as ImageNet's."""
    data = cell_of(root, {}, "deit-nano/16@64").data
    few = open_data(data).train  # pyright: ignore[reportArgumentType]
    assert isinstance(few, FolderImages)
    many = np.resize(np.arange(len(few)), IMAGENET)
    images = FolderImages(few.root, few.classes, few.labels[many], few.names[many], few.sizes[many])
    random = np.random.default_rng(0)
    transform = training_transform(cell_of(root, {}, "deit-nano/16@64").recipe, 64)
    batches = load(
        HeldOutImages(images, 8, of_image_alone(transform)),
        random.integers(0, IMAGENET - 8, 200),
        images,
        0.0,
        workers=1,
    )
    sizes = []
    for _ in islice(batches, 5):
        pass
    for count in (0, 55):
        for _ in islice(batches, count):
            pass
        worker = max(psutil.Process().children(), key=lambda child: child.memory_info().rss)
        sizes.append(worker.memory_full_info().uss / 2**20)
    return [(f"{IMAGENET:,}", *(f"{size:.0f} MiB" for size in sizes))]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "images"
        make_images(root)
        size = sum(path.stat().st_size for path in root.rglob("*.JPEG")) / (TRAIN + TEST) / 1000
        batches = held_out_batches(cell_of(root, {}, "deit-nano/16@224"), 8, workers=0)
        (tested,) = cpu_seconds((scenes.images,) for scenes in batches)
        pages = [
            (
                f"Images per second of one core, from JPEG files of {size:.0f} kB, 500 x 375",
                ("augmentation", "input", "ours", "torchvision's folder, same transforms", "ratio"),
                [*rates(root), ("testing", "224", f"{1 / tested:.0f}", "-", "-")],
            ),
            (
                "Waiting of a training on one core for images, with one loader process on the other",
                ("design", "images/s", "waiting (target 5%)", "load average before (2 cores)"),
                waiting(root),
            ),
            (
                f"Reading an epoch of {TABLE_GROUPS} row groups of {GROUP_IMAGES} images, one process",
                ("read as", "images/s of a core", "ratio", "bytes asked for / stored", "kept in memory"),
                tables(root, Path(temporary) / "table"),
            ),
            (
                f"Opening a folder of ImageNet's length (from {LISTED:,} files, on a local disk, cached)",
                ("listing, s of a core", "fingerprint, s of a core", "index in memory"),
                opening(Path(temporary) / "many"),
            ),
            (
                "Memory of a loader process of its own",
                ("images in the index", "after 5 batches", "after 60 batches"),
                worker_memory(root),
            ),
        ]
        write_page("data", "Loading images", pages)


if __name__ == "__main__":
    main()
