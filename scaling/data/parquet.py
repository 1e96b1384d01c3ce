"""Parquet files read as they are, row group by row group, from a folder or at a URL; nothing is converted or copied.

A row group is the least that can be read of a Parquet file. So images are shuffled such that few row groups are in use
at a time (`RowGroups`), and every loader process keeps those.
"""

import errno
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from scaling.data.images import DataError, DataSet, Images, RowGroups, numbered_classes
from scaling.data.tables import check_split, encoded_image, splits_of
from scaling.design import ParquetData
from scaling.errors import nearest


@dataclass(frozen=True)
class ParquetFile:
    """What is known of a file once its end and its labels are read."""

    path: str
    size_bytes: int
    footer: pq.FileMetaData
    labels: pa.ChunkedArray

    @property
    def name(self) -> str:
        """Without its folders."""
        return PurePosixPath(self.path).name

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of its columns."""
        return self.footer.schema.to_arrow_schema()


class ParquetImages(Images):
    """Rows of Parquet files, in the order of the files' names."""

    def __init__(self, where: str, files: list[ParquetFile], data: ParquetData) -> None:
        chunks = [chunk for file in files for chunk in file.labels.chunks]
        column = pa.chunked_array(chunks, files[0].labels.type)
        about = f"data.label_column: '{data.label_column}' of {where}"
        if not pa.types.is_integer(column.type):
            raise DataError(f"{about} holds {column.type}, not numbers")
        if column.null_count:
            raise DataError(f"{about} lacks a label in {column.null_count} rows")
        labels = column.to_numpy()
        names = _class_names(files[0].schema, data.label_column)
        super().__init__(where, numbered_classes(where, labels, names), labels.astype(np.int64))
        self.url, self.image_column, self.files = data.path, data.image_column, files
        self.places = [
            (file, number) for file in range(len(files)) for number in range(files[file].footer.num_row_groups)
        ]
        sizes = [files[file].footer.row_group(number).num_rows for file, number in self.places]
        self._row_groups = RowGroups(np.cumsum([0, *sizes]), data.shuffled_row_groups)
        self._kept: OrderedDict[int, pa.Array] = OrderedDict()

    @property
    def row_groups(self) -> RowGroups:
        """Those of all files."""
        return self._row_groups

    def name(self, index: int) -> str:
        """Its file, and its row there."""
        group, row = self.row_groups.find(index)
        file, number = self.places[group]
        footer = self.files[file].footer
        return (
            f"row {sum(footer.row_group(before).num_rows for before in range(number)) + row} of {self.files[file].name}"
        )

    def read(self, index: int) -> bytes:
        """The bytes in its row, of a row group that is read where it is not among those that are kept."""
        group, row = self.row_groups.find(index)
        if group not in self._kept:
            self._kept[group] = self._load(group)
        self._kept.move_to_end(group)
        # Some more than are in use at a time: which of them is done with, the order of their last uses tells roughly.
        if len(self._kept) > self.row_groups.window * 5 // 4 + 1:
            self._kept.popitem(last=False)
        return encoded_image(self._kept[group][row].as_py())

    def listing(self) -> Iterator[bytes]:
        """Names and sizes of the files."""
        for file in self.files:
            yield f"{file.name}\t{file.size_bytes}".encode()

    def _load(self, group: int) -> pa.Array:
        """The images of a row group. The file is opened anew, since processes would share the place they read at."""
        file, number = self.places[group]
        path, footer = self.files[file].path, self.files[file].footer
        try:
            with _open(url_to_fs(self.url)[0], path) as opened:
                reader = pq.ParquetFile(opened, metadata=footer, pre_buffer=False)
                column = reader.read_row_group(number, columns=[self.image_column], use_threads=False).column(0)
                return pa.concat_arrays(column.chunks)
        except FileNotFoundError:
            raise
        except Exception as error:  # every file system has errors of its own
            raise OSError(errno.EIO, f"row group {number} cannot be read: {_reason(error)}", path) from None


def open_parquet(data: ParquetData) -> DataSet:
    """Read the ends and the labels of the files of both splits.

    Raises:
        DataError: for no files, one that is cut off, another schema than the first's, or a column that is not there.
    """
    try:
        system, root = url_to_fs(data.path)
        found = system.glob(root, detail=True) if has_magic(root) else system.find(root, detail=True)
    except Exception as error:  # no such protocol, no package for it, no network: each file system has its own
        raise DataError(f"data.path: {data.path} cannot be listed: {_reason(error)}") from None
    sizes = {path: about["size"] for path, about in sorted(found.items()) if path.endswith(".parquet")}
    if not sizes:
        raise DataError(f"data.path: {data.path}: there is no Parquet file (docs/data.md)")
    return DataSet(*(_split(system, sizes, key, split, data) for key, split in splits_of(data)))


def _split(
    system: fsspec.AbstractFileSystem, sizes: dict[str, int], key: str, split: str, data: ParquetData
) -> ParquetImages:
    known = {path: PurePosixPath(path).stem.split("-")[0] for path in sizes}
    if split not in known.values():  # DATA/train/0000.parquet, as the hub converts
        known = {path: PurePosixPath(path).parent.name for path in sizes}
    check_split(key, split, sorted({*known.values()}), data.path)
    files = [_file(system, path, size, data) for path, size in sizes.items() if known[path] == split]
    for file in files:
        for column in (data.image_column, data.label_column):
            here, first = (each.schema.field(column).type for each in (file, files[0]))
            if here != first:
                raise DataError(f"data.path: '{column}' holds {here} in {file.path}, and {first} in {files[0].name}")
    return ParquetImages(f"{data.path} ({split})", files, data)


def _file(system: fsspec.AbstractFileSystem, path: str, size_bytes: int, data: ParquetData) -> ParquetFile:
    try:
        with _open(system, path) as opened:
            reader = pq.ParquetFile(opened, pre_buffer=False)
            _check_columns(path, reader.schema_arrow, data)
            labels = reader.read(columns=[data.label_column], use_threads=False).column(0)
            return ParquetFile(path, size_bytes, reader.metadata, labels)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data.path: {path} is no Parquet file, or cut off: {_reason(error)}") from None


def _check_columns(path: str, schema: pa.Schema, data: ParquetData) -> None:
    for key in ("image_column", "label_column"):
        if (column := getattr(data, key)) not in schema.names:
            raise DataError(f"data.{key}: {path} has no column '{column}'; {nearest(column, schema.names)}")
    kind = schema.field(data.image_column).type
    inside = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inside) or pa.types.is_large_binary(inside)):
        raise DataError(f"data.image_column: '{data.image_column}' of {path} holds {kind}, not encoded images")


def _open(system: fsspec.AbstractFileSystem, path: str) -> Any:
    """A file without reading ahead: what is read of it is asked for in whole pieces."""
    return system.open(path, "rb", cache_type="none")


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names that `datasets` writes beside a column of classes."""
    with suppress(KeyError, TypeError, ValueError):
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    return None


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
