"""What is in a batch follows from its place in the stream alone."""

import logging
import multiprocessing
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.cores import loaders_of_each
from scaling.data import DataError, Scenes, Share, held_out_batches, open_data, training_batches
from scaling.data.loading import HeldOutImages, Order, load
from scaling.data.streams import _count
from scaling.design import Cell
from tests.data import made

EVERYTHING = {
    "recipe__augmentation": "rand-m9-mstd0.5-inc1",
    "recipe__crop_scale": [0.3, 1.0],
    "recipe__horizontal_flip": 0.5,
    "recipe__color_jitter": 0.3,
    "recipe__mixup": 0.8,
    "recipe__cutmix": 1.0,
    "recipe__random_erasing": 0.5,
    "recipe__repeated_augmentation": 3,
}


def cell_of(root: Path, **changes: Any) -> Cell:
    return made.image_study(root, **changes).cells()[0]


def stream(cell: Cell, count: int, share: Share, workers: int = 0) -> Scenes:
    batches = list(islice(training_batches(cell, share, workers), count))
    return Scenes(
        torch.cat([batch.images for batch in batches]), torch.cat([made.labels_of(batch) for batch in batches])
    )


def same(here: Scenes, there: Scenes) -> bool:
    return torch.equal(here.images, there.images) and torch.equal(made.labels_of(here), made.labels_of(there))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 30), st.integers(0, 3))
def test_images_come_equally_often_and_copies_are_in_one_step(images: int, repeats: int, steps: int, seed: int) -> None:
    batch = 2 * repeats + 2
    order = Order(images, seed, batch, repeats)
    drawn = [[order.at(step * batch + inside) for inside in range(batch)] for step in range(steps)]
    different = -(-batch // repeats)
    flat = [image for step in drawn for image in step[:different]]
    counts = Counter(flat)
    assert max(counts.values()) - min(counts.get(image, 0) for image in range(images)) <= 1
    for step in drawn:  # each image of a step comes again at the distance of the number of images
        assert all(step[inside] == step[inside % different] for inside in range(batch))
    for start in range(0, len(flat) - images, images):  # one shuffle after the other
        assert sorted(flat[start : start + images]) == list(range(images))


def test_shuffles_differ_between_epochs_and_seeds() -> None:
    orders = [[Order(50, seed, 10).at(start + place) for place in range(50)] for seed in (0, 1) for start in (0, 50)]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_workers_micro_batches_and_processes_change_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    cell = cell_of(made.make_folder(tmp_path), **changes)
    whole = stream(cell, 8, Share(8, 8))  # 64 images: past two ends of an epoch
    assert same(stream(cell, 8, Share(8, 8), workers=2), whole)
    assert same(stream(cell, 64, Share(8, 1)), whole)
    for ranks in (2, 4):
        parts = [list(islice(training_batches(cell, Share(8, 2, rank=rank, ranks=ranks), 1), 32 // ranks))
                 for rank in range(ranks)]  # fmt: skip
        dealt = [part[step] for step in range(32 // ranks) for part in parts]
        assert torch.equal(torch.cat([batch.images for batch in dealt]), whole.images)
    late = stream(cell, 3, Share(8, 8, first_step=5))
    assert torch.equal(late.images, whole.images[40:])
    assert torch.equal(made.labels_of(late), made.labels_of(whole)[40:])


def test_another_seed_and_the_next_epoch_are_augmented_anew(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    once = {"recipe__crop_scale": [0.3, 0.6], "grid__seeds": [0, 1]}
    first, other = (stream(cell, 6, Share(8, 8)) for cell in made.image_study(root, **once).cells()[:2])
    assert not torch.equal(first.images, other.images)
    crops = {image.numpy().tobytes() for image in first.images}
    assert len(crops) == 48  # 24 images, twice, and no crop twice


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_random_states_of_training_alone(workers: int, tmp_path: Path) -> None:
    """Not asked of Python's own state: beartype, which only tests switch on, draws from it."""
    cell = cell_of(made.make_folder(tmp_path), **EVERYTHING)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 # pyright: ignore
    stream(cell, 3, Share(8, 8), workers)
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert np.random.get_state()[1].tolist() == expected[1]  # noqa: NPY002 # pyright: ignore


def test_the_label_is_that_of_the_image(tmp_path: Path) -> None:
    """A picture's grey tells its class, whatever loads it."""
    cell = cell_of(made.make_folder(tmp_path))
    batches = [stream(cell, 3, Share(8, 8), workers=1), *held_out_batches(cell, 4, workers=1)]
    assert [len(made.labels_of(batch)) for batch in batches] == [24, 4, 4, 1]
    for batch in batches:
        assert batch.images.dtype == torch.float32
        assert batch.images.shape[1:] == (3, 16, 16)
        grey = batch.images * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        grey = (grey + torch.tensor([0.485, 0.456, 0.406])[:, None, None]).mean((1, 2, 3)) * 255
        assert torch.equal(((grey - 20) / 70).round().long(), made.labels_of(batch))


def test_the_test_set_is_whole_however_it_is_cut(tmp_path: Path) -> None:
    cell = cell_of(made.make_folder(tmp_path))
    whole = next(iter(held_out_batches(cell, 100, workers=0)))
    assert len(made.labels_of(whole)) == made.TEST
    for size, workers in ((1, 0), (2, 2)):
        parts = list(held_out_batches(cell, size, workers))
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def break_images(root: Path, split: str, count: int) -> None:
    for path in sorted((root / split / "ant").iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:100])


def test_broken_images_are_replaced_by_the_next_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = made.make_folder(tmp_path)
    sound = stream(cell_of(root), 6, Share(8, 8))
    break_images(root, "train", 2)
    cell = cell_of(
        root, data={"max_corrupt_share": 0.1, "path": f"{root}/."}
    )  # another path: nothing is kept of before
    with caplog.at_level(logging.WARNING):
        broken = stream(cell, 6, Share(8, 8), workers=2)
    assert sorted(record.getMessage().partition(" cannot")[0] for record in caplog.records) == [
        "train/ant/000.png",
        "train/ant/003.png",
    ]
    order = Order(made.TRAIN, 0, 8)
    for place in range(48):
        image = order.at(place)
        if image > 1:
            assert torch.equal(broken.images[place], sound.images[place])
        else:  # the third ant stands for the first two
            third = next(other for other in range(48) if order.at(other) == 2)
            assert torch.equal(broken.images[place], sound.images[third])


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_images_end_it_with_their_names(workers: int, tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    break_images(root, "train", 2)
    with pytest.raises(DataError) as caught:
        stream(cell_of(root), 6, Share(8, 8), workers)
    message = str(caught.value)
    assert "2 of 24 images" in message or "1 of 24 images" in message
    assert "train/ant/00" in message
    assert "\n" not in message


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="24 of 24 images"):
        stream(cell_of(root, data={"max_corrupt_share": 0.99}), 1, Share(8, 8), workers=1)


def test_broken_test_images_are_left_out_up_to_the_limit(tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    break_images(root, "val", 2)
    lenient = cell_of(root, data={"max_corrupt_share": 0.25})
    assert sum(len(made.labels_of(batch)) for batch in held_out_batches(lenient, 1, workers=1)) == made.TEST - 2
    with pytest.raises(DataError, match="of 9 images"):
        list(held_out_batches(cell_of(root, data={"max_corrupt_share": 0.2}), 4, workers=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_a_failure_of_the_storage(workers: int, tmp_path: Path) -> None:
    root = made.make_folder(tmp_path)
    batches = training_batches(cell_of(root), Share(8, 8), workers)
    next(batches)
    for path in (root / "train").rglob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"\.png"):
        list(islice(batches, 10))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_workers_are_forked_in_a_process_that_a_fork_server_started(tmp_path: Path) -> None:
    """The server's way would import torch in each worker, and send it the index: what cannot be sent shows it."""
    images = open_data(cell_of(made.make_folder(tmp_path)).data).test  # pyright: ignore[reportArgumentType]
    stream = HeldOutImages(images, 4, lambda image, label: (torch.zeros(3, 8, 8), label))
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        assert len(list(load(stream, [0, 4], images, 0.0, workers=1))) == 2
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_processes_and_cells_share_the_cores_for_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.cores.usable_cores", lambda: 12)
    assert [loaders_of_each(processes) for processes in (1, 2, 4, 5, 12, 100)] == [8, 6, 3, 2, 1, 1]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (_count(None), _count(0), _count(3)) == (8, 0, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # as launch.py and torchrun tell each process of a cell
    assert (_count(None), _count(5)) == (3, 5)
