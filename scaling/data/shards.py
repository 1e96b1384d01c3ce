"""WebDataset tar shards with random access: an index of where each image lies, made when they are opened.

Streams of shards can be shuffled in a buffer only; with an index the order is that of any other data set, and exact.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scaling.data.images import IMAGE_ENDINGS, DataError, DataSet, Images, numbered_classes
from scaling.design import WebDatasetData

CLASS_ENDING = ".cls"


class _Sample(NamedTuple):
    """An image in a shard."""

    key: bytes
    shard: int
    offset: int
    size: int
    label: int


class ShardImages(Images):
    """Images inside tar files, in the order of the shards' names and of the samples in them."""

    def __init__(self, shards: list[Path], samples: list[_Sample]) -> None:
        where = f"{shards[0]} and {len(shards) - 1} more shards" if len(shards) > 1 else str(shards[0])
        keys, numbers, offsets, sizes, labels = zip(*samples, strict=True)
        label_N = np.array(labels)
        super().__init__(where, numbered_classes(where, label_N), label_N)
        self.shards, self.keys = shards, np.array(keys)
        self.numbers, self.offsets, self.sizes = map(np.array, (numbers, offsets, sizes))

    def name(self, index: int) -> str:
        """Its shard and key."""
        return f"{self.shards[self.numbers[index]].name}:{bytes(self.keys[index]).decode()}"

    def read(self, index: int) -> bytes:
        """The member of the tar file."""
        with self.shards[self.numbers[index]].open("rb") as file:
            file.seek(int(self.offsets[index]))
            return file.read(int(self.sizes[index]))

    def listing(self) -> Iterator[bytes]:
        """Keys, sizes and labels of all images, however they are spread over shards."""
        for row in sorted(zip(self.keys, self.sizes, self.labels, strict=True)):
            yield b"%s\t%d\t%d" % row


def open_shards(path: Path, data: WebDatasetData) -> DataSet:
    """Index the shards of both splits.

    Raises:
        DataError: for no shards, one that is cut off or compressed, or a sample without image or class.
    """
    return DataSet(*(_index(path, pattern, key) for key, pattern in _patterns(data)))


def _patterns(data: WebDatasetData) -> Iterator[tuple[str, str]]:
    for key in ("train_shards", "test_shards"):
        yield key, getattr(data, key)


def _index(path: Path, pattern: str, key: str) -> ShardImages:
    shards = sorted(path.glob(pattern))
    if not shards:
        raise DataError(f"data.{key}: no file of {path} matches '{pattern}'")
    samples = []
    for number, shard in enumerate(shards):
        try:
            samples += _samples(shard, number)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(f"data.path: {shard} is cut off, or no uncompressed tar file ({error})") from None
    if not samples:
        raise DataError(f"data.path: {shards[0]}: there is no image in the {len(shards)} shards of '{pattern}'")
    return ShardImages(shards, samples)


def _samples(shard: Path, number: int) -> Iterator[_Sample]:
    """The samples of a shard: files of one name before the first dot."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            stem, dot, ending = name.partition(".")
            key, ending = folder + slash + stem, (dot + ending).lower()
            if ending in IMAGE_ENDINGS:
                images[key] = member
            elif ending == CLASS_ENDING and (file := tar.extractfile(member)):
                labels[key] = _label(file.read(), shard, member.name)
    for key in sorted(images.keys() ^ labels.keys()):
        lacks = f"{CLASS_ENDING} file" if key in images else "image"
        raise DataError(f"data.path: {shard}: sample '{key}' has no {lacks}")
    for key, member in images.items():
        yield _Sample(key.encode(), number, member.offset_data, member.size, labels[key])


def _label(text: bytes, shard: Path, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"data.path: {shard}: {name} holds {text[:20]!r}, not the number of a class") from None
