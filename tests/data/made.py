"""Small data sets in the formats of large ones, made of random images whose labels can be read off their pixels."""

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scaling.design import Study
from scaling.scenes import Scenes
from tests.conftest import small_study

CLASSES = ("ant", "bee", "cow")
TRAIN, TEST = 24, 9


def picture(label: int, number: int, side: int = 20) -> Image.Image:
    """Noise around a grey that tells the class; no two are alike."""
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 40, (side + number % 3, side, 3)) + 70 * label
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def samples(split: str) -> list[tuple[int, int]]:
    """Label and number of each image of a split."""
    count, first = (TRAIN, 0) if split == "train" else (TEST, TRAIN)
    return [(number % len(CLASSES), first + number) for number in range(count)]


def make_folder(root: Path, test: str = "val", ending: str = "png") -> Path:
    for split in ("train", test):
        for label, number in samples(split):
            path = root / split / CLASSES[label] / f"{number:03d}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(label, number), "JPEG" if ending.lower().startswith("j") else "PNG"))
    return root


def rows(split: str) -> dict[str, list[Any]]:
    return {
        "image": [{"bytes": encoded(picture(*sample)), "path": None} for sample in samples(split)],
        "label": [label for label, _ in samples(split)],
    }


def make_parquet(root: Path, test: str = "validation", row_group_size: int | None = None) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "data").mkdir(parents=True)
    for split in ("train", test):
        table, half = pa.table(rows(split)), len(samples(split)) // 2
        for number, part in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(part, root / "data" / f"{split}-{number:05d}-of-00002.parquet", row_group_size)
    return root


def make_shards(root: Path) -> Path:
    """Two shards for each split, by the library's own writer."""
    from webdataset.writer import ShardWriter

    root.mkdir(parents=True)
    for split in ("train", "val"):
        with ShardWriter(f"{root}/my-{split}-%02d.tar", maxcount=14, verbose=0) as writer:
            for label, number in samples(split):
                image = encoded(picture(label, number), "PNG")
                writer.write({"__key__": f"{split}/{number:03d}", "png": image, "cls": str(label)})
    return root


def add_to_tar(path: Path, name: str, content: bytes) -> None:
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def make_mnist(root: Path, train: int = 60_000, test: int = 10_000, compressed: bool = True) -> NDArray[np.uint8]:
    """The four files, empty but for the first image; returns its pixels."""
    root.mkdir(parents=True)
    first = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = np.zeros((count, 28, 28), np.uint8)
        pixels[0] = first
        labels = (np.arange(count) % 10).astype(np.uint8)
        contents = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 0x803, count, 28, 28) + pixels.tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 0x801, count) + labels.tobytes(),
        }
        for name, content in contents.items():
            if compressed:
                (root / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (root / name).write_bytes(content)
    return first


def make_cifar10(root: Path, batch: int = 10_000) -> dict[str, str]:
    """Batches as pickled by the authors; returns the MD5 of each file."""
    import hashlib

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    found = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data = np.zeros((batch, 3072), np.uint8)
        data[0] = random.integers(0, 256, 3072)
        content: dict[str, Any] = {"data": data, "labels": [index % 10 for index in range(batch)]}
        found[name] = pickle.dumps(content, protocol=2)
    found["batches.meta"] = pickle.dumps({"label_names": [f"class {number}" for number in range(10)]})
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.md5(content).hexdigest() for name, content in found.items()}


def labels_of(scenes: Scenes) -> Tensor:
    """Of a batch of classification or segmentation."""
    assert isinstance(scenes.labels, Tensor)
    return scenes.labels


def image_study(path: Path, data: dict[str, Any] | None = None, **changes: Any) -> Study:
    """A study of a nano model on a made data set, by default a tree of image files."""
    about = {"name": "image-folder", "path": str(path), "classes": len(CLASSES), "train_images": TRAIN}
    return small_study(**({"data": about | (data or {})} | changes))
