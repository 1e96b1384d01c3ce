"""Hugging Face data sets on disk, through `datasets`: Parquet files, or a saved data set.

Rows are read from Arrow files mapped into memory, which `datasets` makes of Parquet files once, in its cache, so that
they are shuffled as a whole; `parquet.py` reads Parquet files as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.images import DataError, DataSet, Images, numbered_classes
from scaling.design import HuggingFaceData, TableData
from scaling.errors import nearest


class TableImages(Images):
    """Rows of a table, with an encoded image in one column and a class number in another."""

    def __init__(self, where: str, table: Any, data: HuggingFaceData, files: list[Path]) -> None:
        for key in ("image_column", "label_column"):
            if (column := getattr(data, key)) not in table.column_names:
                raise DataError(f"data.{key}: {where} has no column '{column}'; {nearest(column, table.column_names)}")
        # Of this column alone: `datasets` would decode all images too.
        labels = np.asarray(table.select_columns(data.label_column).with_format("numpy")[:][data.label_column])
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"data.label_column: '{data.label_column}' of {where} holds {labels.dtype}, not numbers")
        names = getattr(table.features[data.label_column], "names", None)
        super().__init__(where, numbered_classes(where, labels, names), labels.astype(np.int64))
        # As stored: `datasets` would decode a column that it knows to be of images.
        self.column = table.select_columns(data.image_column).with_format("arrow")
        self.files = files

    def name(self, index: int) -> str:
        """Its row."""
        return f"row {index} of {self.where}"

    def read(self, index: int) -> bytes:
        """The bytes in its row, or the file that the row names."""
        return encoded_image(self.column[index].column(0)[0].as_py())

    def listing(self) -> Iterator[bytes]:
        """Names and sizes of the files."""
        for file in self.files:
            yield f"{file.name}\t{file.stat().st_size}".encode()


def open_table(path: Path, data: HuggingFaceData) -> DataSet:
    """Open both splits of a data set on disk.

    Raises:
        DataError: where `datasets` is not installed, or for a split or column that is not there.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError(
            "data.name: huggingface needs the package datasets; pip install 'patch-scaling[data]'"
        ) from None
    datasets.disable_progress_bars()
    opened = _saved(path, data, datasets) if (path / "dataset_dict.json").is_file() else _parquet(path, data, datasets)
    return DataSet(*opened)


def _saved(path: Path, data: HuggingFaceData, datasets: Any) -> Iterator[TableImages]:
    splits = datasets.load_from_disk(str(path))
    for key, split in splits_of(data):
        check_split(key, split, splits.keys(), path)
        yield TableImages(f"{path}/{split}", splits[split], data, sorted((path / split).glob("*.arrow")))


def _parquet(path: Path, data: HuggingFaceData, datasets: Any) -> Iterator[TableImages]:
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise DataError(
            f"data.path: {path} holds neither Parquet files nor a saved data set with splits (docs/data.md)"
        )
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(file.stem.split("-")[0], []).append(file)
    for key, split in splits_of(data):
        check_split(key, split, by_split.keys(), path)
        names = list(map(str, by_split[split]))
        try:
            table = datasets.Dataset.from_parquet(names)
        except Exception as error:  # of datasets or of pyarrow, for files that are broken in any way
            cause = str(error.__cause__ or error).splitlines()[0]
            raise DataError(f"data.path: the Parquet files of {path}/{split} cannot be read: {cause}") from None
        yield TableImages(f"{path}/{split}", table, data, by_split[split])


def encoded_image(value: Any) -> bytes:
    """The bytes in a row's value, or of the file that it names; none where there is neither."""
    if isinstance(value, dict):
        path = value.get("path")
        value = Path(path).read_bytes() if value.get("bytes") is None and path else value.get("bytes")
    return value or b""


def splits_of(data: TableData) -> Iterator[tuple[str, str]]:
    """The keys of both splits, and the names that the study gives them."""
    for key in ("train_split", "test_split"):
        yield key, getattr(data, key)


def check_split(key: str, split: str, known: Any, path: Path | str) -> None:
    """Raise DataError for a split that is not among those that are known."""
    if split not in known:
        raise DataError(f"data.{key}: {path} has no split '{split}'; {nearest(split, known)}")
