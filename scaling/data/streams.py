"""The batches a cell is trained and tested on, whatever its data set."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from scaling.cores import loaders_of_each
from scaling.data.dense_transforms import detection_transform, segmentation_test, segmentation_training
from scaling.data.digits import DigitStream, held_out_scenes
from scaling.data.loading import HeldOutImages, Order, TrainingImages, load
from scaling.data.opening import open_data
from scaling.data.transforms import (
    LabelledTransform,
    PairMixer,
    of_image_alone,
    test_transform,
    training_transform,
)
from scaling.design import Cell, DetectionFiles, DigitsData, SegmentationFiles
from scaling.scenes import Scenes


@dataclass(frozen=True, slots=True)
class Share:
    """Which images of every step one process takes, and from which step on.

    Step s takes images s x batch to (s + 1) x batch of the stream; its micro-batches are cut from them in order and
    dealt to the processes in turn, so that the images of a step are the same however many processes there are.
    """

    batch_size: int
    """Images of an optimiser step, over all processes."""
    micro_batch_size: int
    """Images of a forward pass of one process; times the processes, it divides the batch."""
    first_step: int = 0
    rank: int = 0
    ranks: int = 1

    @property
    def micro_steps(self) -> int:
        """Forward passes of one process in an optimiser step."""
        return self.batch_size // (self.micro_batch_size * self.ranks)

    def starts(self) -> Iterator[int]:
        """Place in the stream of the first image of each micro-batch of this process; without end."""
        start = self.first_step * self.batch_size + self.rank * self.micro_batch_size
        while True:
            yield start
            start += self.micro_batch_size * self.ranks


def training_batches(cell: Cell, share: Share, workers: int | None = None) -> Iterator[Scenes]:
    """A process's micro-batches of a cell's training stream, in order and without end.

    Image i of the stream, and what augmentation makes of it, follow from the cell alone, however many `workers` load
    it (None for as many as its share of all cores) and however steps are cut and dealt.

    Raises:
        DataError: for data that are not what the study says, or with too many images that cannot be decoded.
    """
    if isinstance(cell.data, DigitsData):
        stream = DigitStream(cell.data, cell.stream_seed, cell.design.input_size)
        for start in share.starts():
            yield stream.batch(start, share.micro_batch_size)
        return
    images, recipe = open_data(cell.data).train, cell.recipe
    order = Order(len(images), cell.stream_seed, share.batch_size, recipe.repeated_augmentation, images.row_groups)
    mixer = PairMixer(recipe, cell.data.classes) if recipe.mixes else None
    transform = _transform(cell, training=True)
    stream = TrainingImages(images, order, share.micro_batch_size, transform, mixer)
    yield from load(stream, share.starts(), images, cell.data.max_corrupt_share, _count(workers))


def held_out_batches(cell: Cell, batch_size: int, workers: int | None = None) -> Iterator[Scenes]:
    """The test set of a cell in batches of `tested_at_once` images; the last one may be short.

    Raises:
        DataError: as `training_batches`.
    """
    if isinstance(cell.data, DigitsData):
        yield from held_out_scenes(cell.data, cell.design.input_size, batch_size)
        return
    images = open_data(cell.data).test
    batch_size = tested_at_once(cell, batch_size)
    stream = HeldOutImages(images, batch_size, _transform(cell, training=False))
    yield from load(stream, range(0, len(images), batch_size), images, cell.data.max_corrupt_share, _count(workers))


def tested_at_once(cell: Cell, batch_size: int) -> int:
    """Images of a test batch where so many are asked for: one of those in files for dense tasks.

    They keep their proportions, and so nothing is padded that a loss would depend on.
    """
    return batch_size if isinstance(cell.data, DigitsData) or cell.data.task == "classification" else 1


def _transform(cell: Cell, training: bool) -> LabelledTransform:
    """What is done to an image in a file and to what is true of it."""
    recipe, patch_size, side = cell.recipe, cell.design.patch_size, cell.design.input_sides[0]
    if isinstance(cell.data, DetectionFiles):
        return detection_transform(recipe, patch_size, side, cell.data.longest(side), training)
    if isinstance(cell.data, SegmentationFiles):
        return (segmentation_training if training else segmentation_test)(recipe, patch_size, side)
    return of_image_alone(training_transform(recipe, side) if training else test_transform(recipe, patch_size, side))


def _count(workers: int | None) -> int:
    """Where nobody says how many, as many as there are for each process of the cell on this machine."""
    return loaders_of_each(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if workers is None else workers
