"""Images with boxes and masks in COCO's format."""

import logging
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scaling.data.annotations import AnnotatedImage, annotated_images, read_annotations
from scaling.data.folders import image_files
from scaling.data.images import DataError, DataSet, Images, UnreadableImageError, shown
from scaling.design import CocoFormatData, DetectionFiles

logger = logging.getLogger(__name__)
COCO_LAYOUT = (
    ("train2017", "annotations/instances_train2017.json"),
    ("val2017", "annotations/instances_val2017.json"),
)


class PackedAnnotations(Sequence[AnnotatedImage]):
    """What is known of each image, in one array: loader processes would copy objects as they count references."""

    def __init__(self, images: Iterable[AnnotatedImage]) -> None:
        parts = [pickle.dumps(each) for each in images]
        self.ends = np.cumsum([0, *map(len, parts)])
        self.content = np.frombuffer(b"".join(parts), np.uint8)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AnnotatedImage]: ...
    def __getitem__(self, index: int | slice) -> AnnotatedImage | Sequence[AnnotatedImage]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return pickle.loads(self.content[self.ends[index] : self.ends[index + 1]].tobytes())  # our own pickles


class AnnotatedFiles(Images):
    """The images that an annotation file lists, in its order.

    Args:
        folder: of the images.
        names: of the files below it, with their sizes in bytes.
        classes: names of the categories, in the order of their ids.
        images: what is known of each.
        digest: of the annotation file.
        listed: images of the split, also those that are left out here.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[tuple[bytes, int]],
        classes: Iterable[str],
        images: Iterable[AnnotatedImage],
        digest: str,
        listed: int,
    ) -> None:
        super().__init__(str(folder), classes, PackedAnnotations(images))
        self.folder, self.digest, self._listed = folder, digest, listed
        self.names, self.sizes = (np.array(values) for values in zip(*names, strict=True))

    @property
    def listed(self) -> int:
        """Images of the split, with those that have nothing to detect."""
        return self._listed

    def name(self, index: int) -> str:
        """Its path below the folder of images."""
        return f"{self.folder.name}/{os.fsdecode(bytes(self.names[index]))}"

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """The file."""
        return (self.folder / os.fsdecode(bytes(self.names[index]))).read_bytes()

    def example(self, index: int) -> tuple[Image.Image, Any]:
        """An image and what is known of it."""
        image, known = self.image(index), self.labels[index]
        if image.size[::-1] != known.sides:
            here, there = (f"{one[1]} x {one[0]}" for one in (image.size[::-1], known.sides))
            raise UnreadableImageError(f"is {here} pixels, its annotations are of {there}")
        return image, known

    def listing(self) -> Iterator[bytes]:
        """Names and sizes, and the digest of the annotations."""
        yield self.digest.encode()
        for name, size in zip(self.names, self.sizes, strict=True):
            yield b"%s\t%d" % (bytes(name), size)


def open_coco(path: Path, data: DetectionFiles) -> DataSet:
    """Read and check the annotations of both splits, and list their images.

    Training images in which there is nothing to detect are left out; how many is said in a warning.

    Raises:
        DataError: for files that are missing or not of COCO's format, and for too many annotations without use.
    """
    splits = COCO_LAYOUT
    if isinstance(data, CocoFormatData):
        splits = (
            (data.train_images_folder, data.train_annotations),
            (data.test_images_folder, data.test_annotations),
        )
    train, test = (
        _open_split(path / folder, path / annotations, data.max_corrupt_share, train)
        for (folder, annotations), train in zip(splits, (True, False), strict=True)
    )
    return DataSet(train, test)


def _open_split(folder: Path, annotations: Path, max_corrupt_share: float, train: bool) -> AnnotatedFiles:
    if not folder.is_dir():
        raise DataError(f"data.path: there is no folder of images {folder}")
    stored, digest = read_annotations(annotations)
    images, wrong = annotated_images(stored)
    _report(annotations, wrong, len(stored["annotations"]), max_corrupt_share)
    files = image_files(folder)
    names = [os.fsencode(each["file_name"]) for each in stored["images"]]
    if missing := [os.fsdecode(name) for name in names if name not in files]:
        raise DataError(f"data.path: {len(missing):,} images of {annotations} are not in {folder}: {shown(missing)}")
    kept = [index for index, each in enumerate(images) if each.teaches or not train]
    if not kept:
        raise DataError(f"data.path: {annotations} has nothing to detect in any of {len(images):,} images")
    if len(kept) < len(images):
        left_out = len(images) - len(kept)
        logger.warning("%s of %s images of %s have nothing to detect, and are left out of training",
                       f"{left_out:,}", f"{len(images):,}", folder)  # fmt: skip
    classes = [each["name"] for each in sorted(stored["categories"], key=lambda each: each["id"])]
    listed = [(names[index], files[names[index]]) for index in kept]
    return AnnotatedFiles(folder, listed, classes, (images[index] for index in kept), digest, len(images))


def _report(annotations: Path, wrong: dict[str, list[int]], count: int, max_corrupt_share: float) -> None:
    """Name the annotations that cannot be used; raise DataError where they are too many."""
    said = [f"{len(ids):,} {fault} (ids {shown(map(str, ids))})" for fault, ids in wrong.items()]
    if (total := sum(map(len, wrong.values()))) > max_corrupt_share * count:
        raise DataError(
            f"data.max_corrupt_share: {total:,} of {count:,} annotations of {annotations} cannot be used, more than "
            f"{max_corrupt_share:g} of them; {'; '.join(said)}"
        )
    for each in said:
        logger.warning("%s: of %s annotations, training leaves out %s", annotations, f"{count:,}", each)
