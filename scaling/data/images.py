"""Labelled images with random access, whatever they are stored in."""

import hashlib
import io
import struct
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scaling.errors import UsageError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
SIXTEEN_TO_EIGHT_BITS = 257  # 65,535 becomes 255
# What Pillow raises for files that are no images, or are cut off or broken inside.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class DataError(UsageError):
    """Data that are not there, or are not what the study says."""


class UnreadableImageError(Exception):
    """One image that cannot be decoded, and why."""


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Runs of images that are stored together, and read together only."""

    starts: NDArray[np.int64]
    """(G + 1,) index of the first image of each, and the number of all images."""
    window: int
    """How many are in use at a time."""

    def find(self, index: int) -> tuple[int, int]:
        """The row group of an image, and its place there."""
        group = int(np.searchsorted(self.starts, index, "right")) - 1
        return group, index - int(self.starts[group])

    def shuffle(self, random: np.random.Generator) -> NDArray[np.int64]:
        """An order of all images that goes through the row groups once, in a random order.

        The images of a row group are spread at random over the `window` row groups from its own on, the last over the
        first ones too; so at any place, images come from as many row groups. Of no more than `window`, they are
        shuffled as a whole.
        """
        sizes = np.diff(self.starts)
        groups = random.permutation(len(sizes)).repeat(sizes)
        places = groups + min(self.window, len(sizes)) * random.random(len(groups))
        return np.argsort(places % len(sizes), kind="stable")


class Images(ABC):
    """The images of a split in a fixed order, with what is true of each.

    Args:
        where: what to call the split in messages.
        classes: their names, by number.
        labels: N numbers of classes, or for dense tasks where the labels of each image are.
    """

    def __init__(self, where: str, classes: Iterable[str], labels: Sequence[Any] | NDArray[Any]) -> None:
        self.where, self.classes = where, tuple(classes)
        self.labels: Any = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def listed(self) -> int:
        """Images that the data set has; some of them may have nothing to learn from, and not be here."""
        return len(self)

    @property
    def row_groups(self) -> RowGroups | None:
        """Images that can be read together only; None where each is read by itself."""
        return None

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call an image in messages."""

    @abstractmethod
    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """An encoded image, or its pixels; raises OSError where the storage fails."""

    def example(self, index: int) -> tuple[Image.Image, Any]:
        """An image with the number of its class; data sets of dense tasks give what is true of its pixels.

        Raises:
            UnreadableImageError: if either cannot be decoded, or they do not go together.
            OSError: if the storage fails.
        """
        return self.image(index), int(self.labels[index])

    @abstractmethod
    def listing(self) -> Iterator[bytes]:
        """Lines that change when the images do: names and sizes, or digests."""

    def image(self, index: int) -> Image.Image:
        """An image in RGB.

        Raises:
            UnreadableImageError: if it cannot be decoded.
            OSError: if the storage fails.
        """
        found = self.read(index)
        try:
            with warnings.catch_warnings():  # Pillow warns of odd metadata, which change no pixel
                warnings.simplefilter("ignore", UserWarning)
                opened = Image.fromarray(found) if isinstance(found, np.ndarray) else Image.open(io.BytesIO(found))
                return _eight_bits(opened).convert("RGB")
        except BROKEN as error:
            reason = str(error).partition("<")[0].strip() or type(error).__name__  # without the buffer's address
            raise UnreadableImageError(reason) from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image with 8 bits a channel; Pillow would cut off what is brighter than its 255.

    Raises:
        UnreadableImageError: for pixels without a known range.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # older versions of Pillow
        return Image.fromarray(np.round(np.asarray(image) / SIXTEEN_TO_EIGHT_BITS).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnreadableImageError(f"pixels of mode {image.mode} have no known range; save 8 or 16 bits a channel")
    return image


class ArrayImages(Images):
    """Images held in memory: (N, H, W) or (N, H, W, 3) pixels, read from `files`."""

    def __init__(
        self,
        where: str,
        classes: Iterable[str],
        labels: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        files: Iterable[Path],
    ) -> None:
        super().__init__(where, classes, labels)
        self.pixels, self.files = pixels, tuple(files)

    def name(self, index: int) -> str:
        """Its number."""
        return f"image {index}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """Its pixels."""
        return self.pixels[index]

    def listing(self) -> Iterator[bytes]:
        """Digests of the files."""
        for path in self.files:
            with path.open("rb") as file:
                yield f"{path.name}\t{hashlib.file_digest(file, 'sha256').hexdigest()}".encode()


@dataclass(frozen=True)
class DataSet:
    """The images to train on and those to test on, of the same classes."""

    train: Images
    test: Images

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of a hash of what both splits list."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for line in split.listing():
                digest.update(line + b"\n")
            digest.update(b"\n")
        return digest.hexdigest()[:16]


def shown(names: Iterable[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def numbered_classes(where: str, labels: NDArray[np.int64], names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Names of the classes that occur, for labels that are numbers.

    Raises:
        DataError: for numbers that do not run from 0 without a gap.
    """
    found = np.unique(labels)
    if len(found) and (found[0] != 0 or found[-1] != len(found) - 1):
        raise DataError(
            f"data.path: {where}: its {len(found)} classes are numbered {found[0]} to {found[-1]}; "
            f"number them 0 to {len(found) - 1}"
        )
    known = list(names or ())
    return tuple(known[number] if number < len(known) else str(number) for number in found)
