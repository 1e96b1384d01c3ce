"""Open a data set of any kind, and check it against what the study says of it."""

from functools import lru_cache
from pathlib import Path

from scaling.data.archives import open_cifar, open_mnist
from scaling.data.coco import open_coco
from scaling.data.folders import open_folders
from scaling.data.images import DataError, DataSet, shown
from scaling.data.label_maps import open_label_maps
from scaling.data.parquet import open_parquet
from scaling.data.shards import open_shards
from scaling.data.tables import open_table
from scaling.design import (
    Cifar10Data,
    Cifar100Data,
    Data,
    DetectionFiles,
    DigitsData,
    Files,
    HuggingFaceData,
    MnistData,
    ParquetData,
    SegmentationFiles,
    WebDatasetData,
)

PARTS = {"imagenet": "image-folder", "ade20k": "segmentation-folder", "coco": "coco-format"}
"""The format of a part of a data set whose counts are fixed."""


def open_data(data: Files, anew: bool = False) -> DataSet:
    """The training and test images of a study's data.

    Args:
        data: where they are, and what there should be.
        anew: look again at what this process has opened before.

    Raises:
        DataError: in one line, for data that are missing, empty, of one class, of other classes in testing than in
            training, or not what the study says.
    """
    if anew:
        _opened.cache_clear()
    return _opened(data)  # pyright: ignore[reportArgumentType] frozen sections have a hash


@lru_cache(maxsize=4)  # a listing takes seconds; a cell asks more than once, and a study may have several data sets
def _opened(data: Files) -> DataSet:
    found = open_parquet(data) if isinstance(data, ParquetData) else _open_folder(data)
    _check(found, data)
    return found


def _open_folder(data: Files) -> DataSet:
    path = Path(data.path).expanduser()
    if not path.is_dir():
        raise DataError(f"data.path: {path}: there is no such folder (looked for {path.absolute()})")
    try:
        return _open(path, data)
    except OSError as error:  # no permission, or a link that leads nowhere
        raise DataError(f"data.path: {error.filename or path} cannot be read ({error.strerror or error})") from None


def data_fingerprint(data: Data) -> str | None:
    """The fingerprint of a study's data, opened and checked; None for scenes that are drawn.

    Raises:
        DataError: as `open_data`.
    """
    return None if isinstance(data, DigitsData) else open_data(data).fingerprint


def _open(path: Path, data: Files) -> DataSet:
    if isinstance(data, WebDatasetData):
        return open_shards(path, data)
    if isinstance(data, HuggingFaceData):
        return open_table(path, data)
    if isinstance(data, SegmentationFiles):
        return open_label_maps(path, data)
    if isinstance(data, DetectionFiles):
        return open_coco(path, data)
    if isinstance(data, MnistData):
        return open_mnist(path)
    return open_cifar(path, data.name) if isinstance(data, Cifar10Data | Cifar100Data) else open_folders(path)


def _check(found: DataSet, data: Files) -> None:
    train, test = found.train, found.test
    for split in (train, test):
        if not len(split):
            raise DataError(f"data.path: {split.where} has no image")
    if len(train.classes) == 1 and data.task == "classification":
        raise DataError(f"data.path: {train.where} has one class, '{train.classes[0]}'; a classifier needs two")
    if train.classes != test.classes:
        lines = [
            f"only in {here.where}: {shown(only)}"
            for here, there in ((train, test), (test, train))
            if (only := sorted({*here.classes} - {*there.classes}))
        ]
        raise DataError(f"data.path: training and testing have other classes; {'; '.join(lines)}")
    for key, count in (("classes", len(train.classes)), ("train_images", train.listed)):
        said = getattr(data, key)
        if count != said:
            fixed = type(data).model_fields[key].default == said
            fix = f"{data.name} has {said:,}" if fixed else f"the study says {said:,}: write {key} = {count}"
            part = f"; for a part of it use name = '{PARTS[data.name]}'" if data.name in PARTS else ""
            raise DataError(f"data.{key}: there are {count:,} in {train.where}, {fix}{part}")
