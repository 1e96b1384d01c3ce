"""Every format gives the images that were put in, and says in one line what is wrong with it."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from scaling.data import DataError, data_fingerprint, open_data
from scaling.data.images import Images, UnreadableImageError
from scaling.data.tables import encoded_image
from scaling.design import Files, parse_data
from tests.data import made

COUNTED = {"classes": 3, "train_images": made.TRAIN}


def files(name: str, path: Path, **changes: Any) -> Files:
    counted = COUNTED if name in ("image-folder", "huggingface", "parquet", "webdataset") else {}
    return parse_data({"name": name, "path": str(path)} | counted | changes)  # pyright: ignore[reportReturnType]


def save_arrow(root: Path, broken: bool = False) -> Path:
    import datasets

    label = datasets.ClassLabel(names=list(made.CLASSES))
    features = datasets.Features({"image": datasets.Image(), "label": label})
    splits = {
        split: datasets.Dataset.from_dict(made.rows(name), features=features)
        for split, name in (("train", "train"), ("validation", "val"))
    }
    if broken:
        rows = made.rows("train")
        rows["image"][0]["bytes"] = b"no image"
        splits["train"] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(**splits).save_to_disk(str(root))
    return root


MAKERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "folder": ("image-folder", made.make_folder),
    "folder with test": ("image-folder", lambda root: made.make_folder(root, test="test")),
    "parquet": ("huggingface", made.make_parquet),
    "parquet as it is": ("parquet", made.make_parquet),
    "saved": ("huggingface", save_arrow),
    "shards": ("webdataset", made.make_shards),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")


def contents(images: Images) -> list[tuple[int, bytes]]:
    return sorted((int(images.labels[index]), images.image(index).tobytes()) for index in range(len(images)))


def expected(split: str) -> list[tuple[int, bytes]]:
    return sorted((label, made.picture(label, number).tobytes()) for label, number in made.samples(split))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_was_put_in_comes_out(kind: str, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    found = open_data(files(name, make(tmp_path / "data set")))
    assert contents(found.train) == expected("train")
    assert contents(found.test) == expected("val")
    named = kind.startswith("folder") or kind == "saved"
    assert found.train.classes == (made.CLASSES if named else ("0", "1", "2"))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_fingerprint_is_of_the_images_not_of_their_place(kind: str, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    here, there = make(tmp_path / "here"), tmp_path / "there"
    shutil.copytree(here, there)
    assert data_fingerprint(files(name, here)) == data_fingerprint(files(name, there))


def test_the_fingerprint_changes_with_a_name_a_size_or_a_split(tmp_path: Path) -> None:
    roots = [made.make_folder(tmp_path / str(number)) for number in range(4)]
    first = sorted((roots[1] / "train" / "ant").iterdir())[0]
    first.rename(first.with_name("other.png"))
    with (sorted((roots[2] / "val" / "bee").iterdir())[0]).open("ab") as file:
        file.write(b"\0")
    moved = sorted((roots[3] / "val" / "cow").iterdir())[0]
    moved.rename(roots[3] / "train" / "cow" / moved.name)
    prints = [data_fingerprint(files("image-folder", roots[number])) for number in range(3)]
    prints.append(data_fingerprint(files("image-folder", roots[3], train_images=made.TRAIN + 1)))
    assert len(set(prints)) == 4


def test_a_fingerprint_stays_what_it_was(tmp_path: Path) -> None:
    """Records of years ago must be known again: a change of this value locks users out of their run directories."""
    for split in ("train", "val"):
        for number, label in enumerate(made.CLASSES):
            path = tmp_path / split / label / f"{number}.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x" * (number + 10))
    assert data_fingerprint(files("image-folder", tmp_path, train_images=3)) == "3c3adcad3d8aef87"


def test_mnist_as_distributed_and_unpacked(tmp_path: Path) -> None:
    pixels = made.make_mnist(tmp_path / "packed")
    made.make_mnist(tmp_path / "torchvision" / "MNIST" / "raw", compressed=False)
    for folder in ("packed", "torchvision"):
        found = open_data(files("mnist", tmp_path / folder))
        assert (len(found.train), len(found.test)) == (60_000, 10_000)
        assert (np.asarray(found.train.image(0)) == pixels[..., None]).all()
        assert list(found.test.labels[:12]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, batch: int = 10_000) -> None:
    checksums = made.make_cifar10(root, batch)
    for attribute in ("train_list", "test_list"):
        listed = [[name, checksums[name]] for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, listed)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": checksums["batches.meta"]})


def test_cifar_is_read_in_its_order_of_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10(tmp_path, monkeypatch)
    for path in (tmp_path, tmp_path / "cifar-10-batches-py"):
        found = open_data(files("cifar10", path))
        assert (len(found.train), len(found.test), found.train.classes[3]) == (50_000, 10_000, "class 3")
        flat = np.random.default_rng(1).integers(0, 256, 3072)
        assert (np.asarray(found.train.image(0)) == flat.reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_a_changed_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10(tmp_path, monkeypatch, batch=10)
    target = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    target.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(DataError, match="data_batch_3 is not the authors' file"):
        open_data(files("cifar10", tmp_path))
    assert not (tmp_path / "ran").exists()


def refused(data: Files) -> str:
    with pytest.raises(DataError) as caught:
        open_data(data)
    message = str(caught.value)
    assert message.startswith("data.")
    assert "\n" not in message
    return message


def test_folders_that_are_refused(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(files("image-folder", tmp_path / "nowhere"))
    root = made.make_folder(tmp_path / "tree")

    def tree(name: str) -> Path:
        return Path(shutil.copytree(root, tmp_path / name))

    shutil.rmtree(tree("a") / "val")
    assert "has no folder val or test" in refused(files("image-folder", tmp_path / "a"))
    shutil.rmtree(tree("b") / "train")
    assert "has no folder train" in refused(files("image-folder", tmp_path / "b"))
    for name in made.CLASSES:
        shutil.rmtree(tmp_path / "b" / "val" / name)
    (tmp_path / "b" / "train").mkdir()
    assert "train is empty" in refused(files("image-folder", tmp_path / "b"))
    flat = tree("c")
    for name in made.CLASSES:
        for file in (flat / "val" / name).iterdir():
            file.rename(flat / "val" / f"{name}-{file.name}")
        (flat / "val" / name).rmdir()
    assert "val has 9 images beside each other and no folders of classes" in refused(files("image-folder", flat))
    for file in (tree("d") / "train" / "bee").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert "no images in bee" in refused(files("image-folder", tmp_path / "d"))
    for split in ("train", "val"):
        for name in ("bee", "cow"):
            shutil.rmtree((tree("e") if split == "train" and name == "bee" else tmp_path / "e") / split / name)
    assert "has one class, 'ant'" in refused(files("image-folder", tmp_path / "e"))
    (tree("f") / "val" / "bee").rename(tmp_path / "f" / "val" / "wasp")
    message = refused(files("image-folder", tmp_path / "f"))
    assert f"only in {tmp_path}/f/train: bee; only in {tmp_path}/f/val: wasp" in message


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    (root / "train" / "ant" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert "train/ant/gone.png cannot be read (No such file or directory)" in refused(files("image-folder", root))


def test_counts_that_differ_from_the_study_s_are_given(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    message = refused(files("image-folder", root, classes=4))
    assert message.startswith("data.classes: there are 3 in ")
    assert message.endswith("the study says 4: write classes = 3")
    assert refused(files("image-folder", root, train_images=25)).endswith("the study says 25: write train_images = 24")
    message = refused(files("imagenet", root))
    assert message.endswith("imagenet has 1,000; for a part of it use name = 'image-folder'")


def test_tables_that_are_refused(tmp_path: Path) -> None:
    root = made.make_parquet(tmp_path / "tables")
    assert "no split 'test'; known: train, validation" in refused(files("huggingface", root, test_split="test"))
    assert "no column 'img'; did you mean 'image'?" in refused(files("huggingface", root, image_column="img"))
    assert "not numbers" in refused(files("huggingface", root, label_column="image"))
    (tmp_path / "empty").mkdir()
    assert "holds neither Parquet files nor" in refused(files("huggingface", tmp_path / "empty"))
    shard = root / "data" / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert "cannot be read" in refused(files("huggingface", root))


def test_without_the_library_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refused(files("huggingface", made.make_parquet(tmp_path / "tables")))
    assert message.endswith("pip install 'patch-scaling[data]'")


def test_shards_that_are_refused(tmp_path: Path) -> None:
    root = made.make_shards(tmp_path / "shards")

    def shards(name: str) -> tuple[Path, Path]:
        copy = Path(shutil.copytree(root, tmp_path / name))
        return copy, copy / "my-train-01.tar"

    assert "matches '*test*.tar'" in refused(files("webdataset", root, test_shards="*test*.tar"))
    copy, shard = shards("cut")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert "my-train-01.tar is cut off" in refused(files("webdataset", copy))
    copy, shard = shards("packed")
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    assert "no uncompressed tar file" in refused(files("webdataset", copy))
    copy, shard = shards("alone")
    made.add_to_tar(shard, "train/odd.png", b"x")
    assert "sample 'train/odd' has no a .cls file" not in (message := refused(files("webdataset", copy)))
    assert "sample 'train/odd' has no .cls file" in message
    copy, shard = shards("words")
    made.add_to_tar(shard, "train/odd.cls", b"bee")
    assert "train/odd.cls holds b'bee', not the number of a class" in refused(files("webdataset", copy))
    copy, shard = shards("gap")
    made.add_to_tar(shard, "train/odd.png", b"x")
    made.add_to_tar(shard, "train/odd.cls", b"7")
    assert "its 4 classes are numbered 0 to 7; number them 0 to 3" in refused(files("webdataset", copy))


def test_idx_files_that_are_refused(tmp_path: Path) -> None:
    made.make_mnist(tmp_path / "few", train=100, test=20)
    assert refused(files("mnist", tmp_path / "few")).endswith(
        "there are 100 in " + f"{tmp_path}/few (train), mnist has 60,000"
    )
    images = tmp_path / "few" / "train-images-idx3-ubyte.gz"
    content = images.read_bytes()
    images.write_bytes(content[: len(content) // 2])
    assert "is not an idx file, or cut off" in refused(files("mnist", tmp_path / "few"))
    images.write_bytes((tmp_path / "few" / "train-labels-idx1-ubyte.gz").read_bytes())
    assert "another kind" in refused(files("mnist", tmp_path / "few"))
    images.unlink()
    assert "has no train-images-idx3-ubyte.gz" in refused(files("mnist", tmp_path / "few"))


def test_cifar_that_is_not_unpacked(tmp_path: Path) -> None:
    assert "unpack cifar-10-python.tar.gz in" in refused(files("cifar10", tmp_path))
    assert "unpack cifar-100-python.tar.gz in" in refused(files("cifar100", tmp_path))


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png"])
def test_images_that_are_cut_off_or_none_at_all(ending: str, tmp_path: Path) -> None:
    root = made.make_folder(tmp_path, ending=ending)
    ants = sorted((root / "train" / "ant").iterdir())
    ants[0].write_bytes(ants[0].read_bytes()[:-200])
    ants[1].write_bytes(b"")
    ants[2].write_bytes(b"not an image")
    images = open_data(files("image-folder", root)).train
    for index in range(3):
        with pytest.raises(UnreadableImageError):
            images.image(index)
    ants[3].unlink()
    with pytest.raises(OSError, match=ants[3].name):  # gone is not broken: the storage may come back
        images.image(3)


def test_grey_and_transparent_images_are_rgb(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    ants = sorted((root / "train" / "ant").iterdir())
    for path, mode in zip(ants, ("L", "RGBA", "P", "CMYK"), strict=False):
        image = made.picture(0, 0).convert(mode)
        image.save(path, "TIFF" if mode == "CMYK" else "PNG")
    images = open_data(files("image-folder", root)).train
    assert all(images.image(index).mode == "RGB" for index in range(4))


def test_opening_a_data_set_decodes_no_image(tmp_path: Path) -> None:
    images = open_data(files("huggingface", save_arrow(tmp_path / "saved", broken=True))).train
    assert len(images) == len(made.rows("train")["label"])
    with pytest.raises(UnreadableImageError):
        images.image(0)
    assert images.image(1).mode == "RGB"


def test_sixteen_bits_become_eight_and_other_depths_are_refused(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path, ending="tiff")
    ants = sorted((root / "train" / "ant").iterdir())
    dark_to_bright = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(dark_to_bright).save(ants[0], "PNG")
    Image.fromarray(dark_to_bright).save(ants[1])
    for path, kind in ((ants[2], np.int32), (ants[3], np.float32)):
        Image.fromarray(dark_to_bright.astype(kind)).save(path)
    images = open_data(files("image-folder", root)).train
    for index in range(2):
        pixels = np.asarray(images.image(index))
        assert np.array_equal(pixels[..., 0], np.round(dark_to_bright / 257))
        assert (pixels == pixels[..., :1]).all()
    for index, mode in ((2, "I"), (3, "F")):
        with pytest.raises(UnreadableImageError, match=f"mode {mode} have no known range"):
            images.image(index)


@pytest.mark.parametrize(
    "row", [None, b"", {"bytes": None, "path": None}, {"bytes": None}, {"bytes": b"", "path": None}]
)
def test_a_row_without_an_image_is_a_broken_image_and_no_crash(row: object) -> None:
    assert encoded_image(row) == b""
