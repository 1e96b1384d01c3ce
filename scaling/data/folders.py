"""Trees of image files: SPLIT/CLASS/IMAGE, as ImageNet-1k and many others have them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.images import IMAGE_ENDINGS, DataError, DataSet, Images, shown

TRAIN, TESTS = "train", ("val", "test")
LAYOUT = "a data set has train/CLASS/IMAGE and val/CLASS/IMAGE (docs/data.md)"


class FolderImages(Images):
    """Files below a folder for each class, in the order of their names.

    Names and sizes are in arrays, not lists: loader processes would copy lists page by page as they count references.
    """

    def __init__(
        self,
        root: Path,
        classes: tuple[str, ...],
        labels: NDArray[np.int64],
        names: NDArray[Any],
        sizes: NDArray[np.int64],
    ) -> None:
        super().__init__(str(root), classes, labels)
        self.root, self.names, self.sizes = root, names, sizes

    def name(self, index: int) -> str:
        """Its path below the folder of the data set."""
        return f"{self.root.name}/{os.fsdecode(bytes(self.names[index]))}"

    def read(self, index: int) -> bytes:
        """The file."""
        return (self.root / os.fsdecode(bytes(self.names[index]))).read_bytes()

    def listing(self) -> Iterator[bytes]:
        """Names and sizes; not the split's folder, whose name may be val or test."""
        for name, size in zip(self.names, self.sizes, strict=True):
            yield b"%s\t%d" % (bytes(name), size)


def open_folders(path: Path) -> DataSet:
    """List a tree; classes are numbered in the order of their names.

    Raises:
        DataError: for a folder that is missing, or is empty, or has no folders of classes.
    """
    tests = [path / name for name in TESTS if (path / name).is_dir()]
    if not (path / TRAIN).is_dir() or not tests:
        missing = " or ".join(TESTS) if (path / TRAIN).is_dir() else TRAIN
        raise DataError(f"data.path: {path} has no folder {missing}; {LAYOUT}")
    return DataSet(_list(path / TRAIN), _list(tests[0]))


def _list(root: Path) -> FolderImages:
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        loose = sum(entry.name.lower().endswith(IMAGE_ENDINGS) for entry in os.scandir(root))
        found = f"has {loose:,} images beside each other and no folders of classes" if loose else "is empty"
        raise DataError(f"data.path: {root} {found}; {LAYOUT}")
    names, sizes, counts = [], [], []
    for name in classes:
        files = sorted(_files(root / name, os.fsencode(name) + b"/"))
        names += [file for file, _ in files]
        sizes += [size for _, size in files]
        counts.append(len(files))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise DataError(
            f"data.path: {root}: no images in {shown(empty)}; known endings are {' '.join(IMAGE_ENDINGS)} (any case)"
        )
    labels = np.repeat(np.arange(len(classes)), counts)
    return FolderImages(root, tuple(classes), labels, np.array(names), np.array(sizes))


def image_files(folder: Path) -> dict[bytes, int]:
    """Names, below a folder, of all images in it and in folders of folders, with their sizes in bytes."""
    return dict(_files(folder, b""))


def _files(folder: Path, prefix: bytes) -> Iterator[tuple[bytes, int]]:
    """Names, after a prefix, and sizes of the images of a class, in folders of folders too."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            inside = prefix + os.fsencode(entry.name)
            if entry.is_dir():
                yield from _files(folder / entry.name, inside + b"/")
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                yield inside, entry.stat().st_size
