"""Parquet files read as they are: the same images as by way of Arrow, in an order that few row groups are read for."""

import logging
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import DataError, Share, held_out_batches, open_data, training_batches
from scaling.data.images import Images, RowGroups
from scaling.data.loading import Order
from scaling.data.parquet import ParquetImages
from scaling.design import Cell, Files, StudyError, parse_data
from tests.data import made
from tests.data.test_formats import refused
from tests.data.test_loading import EVERYTHING, same, stream

ROWS, WINDOW = 3, 2  # of 24 images, eight row groups


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made.make_parquet(tmp_path / "tables", row_group_size=ROWS)


@pytest.fixture
def in_memory(root: Path) -> Iterator[str]:
    """The same files at a URL that is no path."""
    memory = fsspec.filesystem("memory")
    memory.put(str(root / "data"), "/tables/data", recursive=True)
    yield "memory://tables"
    memory.rm("/tables", recursive=True)


def parquet(path: Path | str, **changes: Any) -> Files:
    values = {"name": "parquet", "path": str(path), "classes": 3, "train_images": made.TRAIN}
    return parse_data(values | {"shuffled_row_groups": WINDOW} | changes)  # pyright: ignore[reportReturnType]


def cell_of(path: Path | str, data: dict[str, Any] | None = None, **changes: Any) -> Cell:
    about = {"name": "parquet", "path": str(path), "shuffled_row_groups": WINDOW}
    return made.image_study(Path(), data=about | (data or {}), **changes).cells()[0]


def images_of(path: Path | str) -> ParquetImages:
    found = open_data(parquet(path)).train
    assert isinstance(found, ParquetImages)
    return found


def contents(images: Images) -> list[tuple[int, bytes]]:
    return [(int(images.labels[index]), images.image(index).tobytes()) for index in range(len(images))]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 9))
def test_every_image_comes_once_and_near_its_row_group(sizes: list[int], window: int, seed: int) -> None:
    groups = RowGroups(np.cumsum([0, *sizes]), window)
    order = groups.shuffle(np.random.default_rng(seed))
    assert sorted(order) == list(range(sum(sizes)))
    numbers = [groups.find(int(index)) for index in order]
    assert [int(groups.starts[group]) + row for group, row in numbers] == order.tolist()
    # Between the first and the last image of a row group, on a ring, come those of fewer than 2 x window others.
    for group in {group for group, _ in numbers}:
        places = [place for place, (other, _) in enumerate(numbers) if other == group]
        gaps = np.diff([*places, places[0] + len(order)])
        rest = np.roll(np.array([other for other, _ in numbers]), -(places[int(gaps.argmax())] + 1))
        inside = rest[int(gaps.max()) - 1 :]
        assert len(set(inside.tolist())) <= 2 * window


def test_few_row_groups_are_shuffled_as_a_whole() -> None:
    """Each image is as often at each place; 600 shuffles of 12."""
    groups = RowGroups(np.array([0, 4, 8, 12]), 16)
    places = np.zeros((12, 12))
    for seed in range(600):
        places[np.arange(12), groups.shuffle(np.random.default_rng(seed))] += 1
    assert ((places - 50) ** 2 / 50).sum() < 200  # chi squared of 121 degrees; its 99.999 % quantile is 195


def test_any_place_has_images_of_as_many_row_groups() -> None:
    """Also the first and the last ones of an epoch."""
    order = RowGroups(np.arange(0, 40_001, 100), 16).shuffle(np.random.default_rng(0)) // 100
    for start in range(0, 40_000, 1600):
        assert 20 <= len(set(order[start : start + 1600].tolist())) <= 33
        assert len(set(order[start : start + 100].tolist())) >= 13


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_workers_micro_batches_and_processes_change_nothing(changes: dict[str, Any], root: Path) -> None:
    cell = cell_of(root, **changes)
    whole = stream(cell, 8, Share(8, 8))  # 64 images: past two ends of an epoch
    assert same(stream(cell, 8, Share(8, 8), workers=2), whole)
    assert same(stream(cell, 64, Share(8, 1)), whole)
    parts = [list(islice(training_batches(cell, Share(8, 2, rank=rank, ranks=2), 1), 16)) for rank in (0, 1)]
    dealt = [part[step] for step in range(16) for part in parts]
    assert torch.equal(torch.cat([batch.images for batch in dealt]), whole.images)
    late = stream(cell, 3, Share(8, 8, first_step=5))
    assert torch.equal(late.images, whole.images[40:])
    assert torch.equal(made.labels_of(late), made.labels_of(whole)[40:])


def test_training_images_come_in_the_order_of_their_row_groups(root: Path) -> None:
    cell, images = cell_of(root), images_of(root)
    order = Order(made.TRAIN, cell.stream_seed, 8, row_groups=images.row_groups)
    expected = [int(images.labels[order.at(place)]) for place in range(48)]
    assert made.labels_of(stream(cell, 6, Share(8, 8))).tolist() == expected


def test_an_epoch_reads_each_row_group_about_once_and_keeps_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"image": [b"%d" % row for row in range(800)], "label": np.arange(800) % 3})
    for split in ("train", "validation"):
        pq.write_table(rows, tmp_path / f"{split}.parquet", row_group_size=20)
    images = open_data(parquet(tmp_path, shuffled_row_groups=4, train_images=800)).train
    assert isinstance(images, ParquetImages)
    loads: list[int] = []
    load = images._load
    monkeypatch.setattr(images, "_load", lambda group: (loads.append(group), load(group))[1])
    order = Order(800, 0, 8, row_groups=images.row_groups)
    for place in range(800):
        assert images.read(order.at(place)) == b"%d" % order.at(place)
        assert len(images._kept) <= 6
    assert set(loads) == set(range(40))
    assert len(loads) <= 40 + 4  # those that the epoch begins and ends with


def test_it_has_the_images_classes_and_fingerprint_of_the_same_files_by_way_of_arrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(made.CLASSES))})
    for split in ("train", "validation"):
        table = datasets.Dataset.from_dict(made.rows(split), features=features)
        table.to_parquet(tmp_path / "tables" / f"{split}-00000-of-00001.parquet")
    values = {"path": str(tmp_path / "tables"), "classes": 3, "train_images": made.TRAIN}
    direct, converted = (open_data(parse_data({"name": name} | values)) for name in ("parquet", "huggingface"))  # pyright: ignore[reportArgumentType]
    assert contents(direct.train) == contents(converted.train)
    assert contents(direct.test) == contents(converted.test)
    assert direct.train.classes == converted.train.classes == made.CLASSES
    assert direct.fingerprint == converted.fingerprint


def test_a_folder_a_pattern_and_urls_are_the_same_data(root: Path, in_memory: str) -> None:
    places = [root, f"{root}/data/*.parquet", f"{root}/*/*-of-00002.parquet", f"file://{root}", in_memory,
              f"{in_memory}/data/*"]  # fmt: skip
    found = [open_data(parquet(place)) for place in places]
    assert len({each.fingerprint for each in found}) == 1
    first = contents(found[0].train)
    assert sorted(first) == sorted(
        (label, made.picture(label, number).tobytes()) for label, number in made.samples("train")
    )
    assert all(contents(each.train) == first for each in found)


def test_a_split_may_be_the_name_of_a_folder(root: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        for number in range(2):
            target = tmp_path / "converted" / "default" / split / f"{number:04d}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "data" / f"{split}-{number:05d}-of-00002.parquet", target)
    assert contents(images_of(tmp_path / "converted")) == contents(images_of(root))


def test_loader_processes_read_at_urls_too(root: Path, in_memory: str) -> None:
    assert same(stream(cell_of(in_memory), 6, Share(8, 8), workers=2), stream(cell_of(root), 6, Share(8, 8)))


def rewrite(file: Path, **columns: pa.Array) -> None:
    table = pq.read_table(file)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, values) if place >= 0 else table.append_column(name, values)
    pq.write_table(table, file, row_group_size=ROWS)


def break_images(root: Path, split: str, rows: list[int]) -> None:
    file = root / "data" / f"{split}-00000-of-00002.parquet"
    images = pq.read_table(file)["image"].to_pylist()
    for row in rows:
        images[row]["bytes"] = images[row]["bytes"][:100]
    rewrite(file, image=pa.array(images, pq.read_schema(file).field("image").type))


def test_broken_images_are_replaced_by_the_next_up_to_the_limit(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = stream(cell_of(root), 6, Share(8, 8))
    break_images(root, "train", [1, 5])
    lenient = cell_of(f"{root}/.", {"max_corrupt_share": 0.1})  # another path: nothing is kept of before
    with caplog.at_level(logging.WARNING):
        broken = stream(lenient, 6, Share(8, 8), workers=2)
    assert sorted(record.getMessage().partition(" cannot")[0] for record in caplog.records) == [
        "row 1 of train-00000-of-00002.parquet",
        "row 5 of train-00000-of-00002.parquet",
    ]
    replaced = [not torch.equal(here, there) for here, there in zip(broken.images, sound.images, strict=True)]
    assert sum(replaced) == 4  # two images in two epochs
    with pytest.raises(DataError, match=r"of 24 images .* row [15] of train-00000-of-00002.parquet"):
        stream(cell_of(f"{root}/./"), 6, Share(8, 8))


def test_broken_and_missing_test_images_are_left_out(root: Path) -> None:
    break_images(root, "validation", [2])
    file = root / "data" / "validation-00001-of-00002.parquet"
    kind = pq.read_schema(file).field("image").type
    rewrite(file, image=pa.array([None, *pq.read_table(file)["image"].to_pylist()[1:]], kind))
    cell = cell_of(root, {"max_corrupt_share": 0.25})
    assert sum(len(made.labels_of(batch)) for batch in held_out_batches(cell, 4, workers=1)) == made.TEST - 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_row_group_or_a_file_that_vanishes_is_a_failure_of_the_storage(workers: int, root: Path) -> None:
    batches = training_batches(cell_of(root), Share(8, 8), workers)
    file = root / "data" / "train-00001-of-00002.parquet"
    content = bytearray(file.read_bytes())
    content[4:200] = bytes(196)
    file.write_bytes(content)
    with pytest.raises(OSError, match=r"row group 0 cannot be read: .*train-00001-of-00002\.parquet"):
        list(islice(batches, 10))
    file.unlink()
    with pytest.raises(FileNotFoundError, match="train-00001-of-00002"):
        list(islice(training_batches(cell_of(root), Share(8, 8), workers), 10))


def test_what_is_refused(root: Path, tmp_path: Path) -> None:
    assert "there is no Parquet file" in refused(parquet(tmp_path / "nowhere"))
    assert "there is no Parquet file" in refused(parquet(f"{root}/data/*.parq"))
    assert "cannot be listed: Protocol not known: ftps3" in refused(parquet("ftps3://bucket/tables"))
    assert "no split 'test'; known:" in refused(parquet(root, test_split="test"))
    assert "no column 'img'; did you mean 'image'?" in refused(parquet(root, image_column="img"))
    assert "no column 'labels'" in refused(parquet(root, label_column="labels"))
    assert "holds int64, not encoded images" in refused(parquet(root, image_column="label"))
    assert "'image' of" in (message := refused(parquet(root, label_column="image")))
    assert "not numbers" in message
    assert refused(parquet(root, classes=4)).endswith("the study says 4: write classes = 3")
    assert refused(parquet(root, train_images=9)).endswith("the study says 9: write train_images = 24")


def test_rows_without_a_label_are_counted(root: Path) -> None:
    file = root / "data" / "train-00001-of-00002.parquet"
    table = pq.read_table(file)
    labels = pa.array([None, *table["label"].to_pylist()[1:]], table["label"].type)
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", labels), file)
    assert refused(parquet(root)).endswith("(train) lacks a label in 1 rows")


def test_files_that_are_refused(root: Path, tmp_path: Path) -> None:
    def table(name: str) -> tuple[Path, Path]:
        copy = Path(shutil.copytree(root, tmp_path / name))
        return copy, copy / "data" / "train-00001-of-00002.parquet"

    copy, file = table("cut")
    file.write_bytes(file.read_bytes()[:-100])
    assert "train-00001-of-00002.parquet is no Parquet file, or cut off" in refused(parquet(copy))
    copy, file = table("text")
    file.write_text("image,label\n")
    assert "train-00001-of-00002.parquet is no Parquet file, or cut off" in refused(parquet(copy))
    copy, file = table("renamed")
    pq.write_table(pq.read_table(file).rename_columns(["image", "class"]), file)
    assert "train-00001-of-00002.parquet has no column 'label'" in refused(parquet(copy))
    copy, file = table("types")
    rewrite(file, label=pa.array([0] * 12, pa.int32()))
    assert "'label' holds int32 in" in (message := refused(parquet(copy)))
    assert message.endswith("int64 in train-00000-of-00002.parquet")
    copy, file = table("gap")
    rewrite(file, label=pa.array([7] * 12, pa.int64()))
    assert "number them 0 to" in refused(parquet(copy))
    copy, file = table("nothing")
    for each in sorted(file.parent.glob("train-*")):
        pq.write_table(pq.read_table(each).slice(0, 0), each)
    assert "(train) has no image" in refused(parquet(copy))


def test_keys_that_are_refused() -> None:
    with pytest.raises(StudyError, match=r"data.shuffled_row_groups: 0: input should be greater than"):
        cell_of("x", {"shuffled_row_groups": 0})
    with pytest.raises(StudyError, match=r"data.shuffled_row_groups: unknown key"):
        cell_of("x", {"name": "huggingface"})
