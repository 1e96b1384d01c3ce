"""CIFAR and MNIST, the files as their authors distribute them."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from scaling.data.images import ArrayImages, DataError, DataSet

CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
MNIST_FILES = {"train": "train", "test": "t10k"}
IDX_IMAGES, IDX_LABELS = (0x803, 3), (0x801, 1)  # magic number (unsigned bytes, dimensions), dimensions


def open_cifar(path: Path, name: str) -> DataSet:
    """Read CIFAR's pickles, whose checksums torchvision compares first, so that nothing else is unpickled.

    Raises:
        DataError: for files that are missing, or not the authors'.
    """
    kind = CIFAR[name]
    root = path.parent if path.name == kind.base_folder else path
    folder = root / kind.base_folder
    files = {*map(tuple, (*kind.train_list, *kind.test_list)), (kind.meta["filename"], kind.meta["md5"])}
    missing = sorted(file for file, _ in files if not (folder / file).is_file())
    if missing:
        raise DataError(f"data.path: there is no {folder / missing[0]}; unpack {kind.filename} in {root}")
    for file, checksum in sorted(files):
        if not check_integrity(folder / file, checksum):
            raise DataError(f"data.path: {folder / file} is not the authors' file (another MD5); unpack it again")
    splits = []
    for train, listed in ((True, kind.train_list), (False, kind.test_list)):
        read = kind(root, train=train)
        labels = np.array(read.targets, dtype=np.int64)
        where = f"{folder} ({'train' if train else 'test'})"
        splits.append(ArrayImages(where, read.classes, labels, read.data, [folder / file for file, _ in listed]))
    return DataSet(*splits)


def open_mnist(path: Path) -> DataSet:
    """Read MNIST's idx files, compressed or not, in the folder itself or where torchvision puts them.

    Raises:
        DataError: for files that are missing, cut off or not of this format.
    """
    return DataSet(*(_mnist_split(path, prefix) for prefix in MNIST_FILES.values()))


def _mnist_split(path: Path, prefix: str) -> ArrayImages:
    files = [_find(path, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    pixels, labels = _idx(files[0], *IDX_IMAGES), _idx(files[1], *IDX_LABELS)
    if len(pixels) != len(labels):
        raise DataError(f"data.path: {files[0]} has {len(pixels):,} images, {files[1].name} {len(labels):,} labels")
    return ArrayImages(f"{path} ({prefix})", map(str, range(10)), labels.astype(np.int64), pixels, files)


def _find(path: Path, name: str) -> Path:
    for folder in (path, path / "MNIST" / "raw"):
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    raise DataError(f"data.path: {path} has no {name}.gz; the authors' four files belong there")


def _idx(file: Path, magic: int, dimensions: int) -> NDArray[np.uint8]:
    """The array of an idx file: a magic number and sizes as big-endian integers, then bytes."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        found, *shape = np.frombuffer(content, ">i4", 1 + dimensions)
        if found != magic:
            raise ValueError("it is of another kind")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"data.path: {file} is not an idx file, or cut off ({error})") from None
