"""Images with a label for each pixel: images/SPLIT/NAME.jpg and annotations/SPLIT/NAME.png, as ADE20K is released."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from torch import Tensor

from scaling.data.folders import image_files
from scaling.data.images import BROKEN, DataError, DataSet, Images, UnreadableImageError, shown
from scaling.design import Ade20kData, SegmentationFiles, SegmentationFolderData
from scaling.scenes import IGNORED_LABEL

MAP_MODES = {"1", "L", "P", "I", "I;16"}  # Pillow's, of images with one number for each pixel
STRETCHED = {"L;2": 85, "L;4": 17}  # numbers that a stored 1 becomes
LAYOUT = "a data set has images/SPLIT and annotations/SPLIT (docs/data.md)"


@dataclass(frozen=True)
class Labels:
    """How stored labels are numbered."""

    classes: int
    first: int
    """The label of class 0; what is below it is unlabelled."""
    ignored: int | None

    def classes_of(self, stored: NDArray[Any]) -> Int[Tensor, "R C"]:
        """Numbers of classes from 0, and IGNORED_LABEL; raises ValueError for a label that is neither."""
        labels = torch.from_numpy(stored.astype(np.int64)) - self.first
        unlabelled = labels < 0
        if self.ignored is not None:
            unlabelled |= labels == self.ignored - self.first
        labels[unlabelled] = IGNORED_LABEL
        if int(labels.max()) >= self.classes:
            raise ValueError(
                f"has label {int(labels.max()) + self.first}; classes are {self.first} to "
                f"{self.first + self.classes - 1}"
            )
        return labels


class LabelledPixels(Images):
    """Pairs of files of one name, below a folder of images and one of maps of labels."""

    def __init__(self, root: Path, split: str, numbering: Labels) -> None:
        folders = [root / kind / split for kind in ("images", "annotations")]
        found = [image_files(folder) for folder in folders]
        if not found[0]:
            raise DataError(f"data.path: {folders[0]} has no image")
        maps = {_stem(name): (name, size) for name, size in found[1].items()}
        pairs = [(name, maps.get(_stem(name))) for name in sorted(found[0])]
        if alone := [os.fsdecode(name) for name, pair in pairs if pair is None]:
            raise DataError(f"data.path: {folders[1]} has no map of labels for {shown(alone)}")
        self.sizes = np.array([(found[0][name], pair[1]) for name, pair in pairs if pair])
        self.names = np.array([name for name, _ in pairs])
        super().__init__(
            str(folders[0]), map(str, range(numbering.classes)), np.array([pair[0] for _, pair in pairs if pair])
        )
        self.folders, self.numbering = folders, numbering

    def name(self, index: int) -> str:
        """Its path below the data set."""
        return f"images/{self.folders[0].name}/{os.fsdecode(bytes(self.names[index]))}"

    def read(self, index: int) -> bytes:
        """The image's file."""
        return (self.folders[0] / os.fsdecode(bytes(self.names[index]))).read_bytes()

    def example(self, index: int) -> tuple[Image.Image, Any]:
        """An image, and the class of each of its pixels."""
        image, file = self.image(index), os.fsdecode(bytes(self.labels[index]))
        stored = (self.folders[1] / file).read_bytes()
        try:
            opened = Image.open(io.BytesIO(stored))
            if opened.mode not in MAP_MODES:
                raise ValueError(f"has colours (mode {opened.mode}), not one label for each pixel")
            if opened.size != image.size:
                raise ValueError(
                    f"is {opened.size[0]} x {opened.size[1]} pixels, the image {image.size[0]} x {image.size[1]}"
                )
            return image, self.numbering.classes_of(_numbers(opened))
        except BROKEN as error:
            raise UnreadableImageError(f"annotations/{self.folders[1].name}/{file} {error}") from None

    def listing(self) -> Iterator[bytes]:
        """Names and sizes of both files; not the split's folder."""
        for name, label, (size, label_size) in zip(self.names, self.labels, self.sizes, strict=True):
            yield b"%s\t%d\t%s\t%d" % (bytes(name), size, bytes(label), label_size)


def _numbers(opened: Image.Image) -> NDArray[Any]:
    """The stored numbers: Pillow stretches greys of 2 and 4 bits to 8."""
    layout = opened.tile[0].args if isinstance(opened, ImageFile) and opened.tile else None
    return np.asarray(opened) // STRETCHED.get(str(layout), 1)


def _stem(name: bytes) -> bytes:
    """A name without its ending."""
    return name.rpartition(b".")[0]


def open_label_maps(path: Path, data: SegmentationFiles) -> DataSet:
    """List both splits.

    Raises:
        DataError: for a folder that is missing or empty, or an image without a map of labels.
    """
    names = [("training",), ("validation",)] if isinstance(data, Ade20kData) else [("train",), ("val", "test")]
    numbering = _numbering(data)
    return DataSet(*(LabelledPixels(path, _split(path, known), numbering) for known in names))


def _numbering(data: SegmentationFiles) -> Labels:
    if isinstance(data, SegmentationFolderData):
        return Labels(data.classes, int(data.zero_is_unlabelled), data.ignored_label)
    return Labels(data.classes, first=1, ignored=None)


def _split(path: Path, names: tuple[str, ...]) -> str:
    """The first of these that there is, of images and of annotations."""
    for kind in ("images", "annotations"):
        if not any((path / kind / name).is_dir() for name in names):
            raise DataError(
                f"data.path: {path} has no folder {' or '.join(f'{kind}/{name}' for name in names)}; {LAYOUT}"
            )
    return next(name for name in names if (path / "images" / name).is_dir())
