"""Batches of images in files, by worker processes; what is in a batch depends on its place in the stream alone."""

import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scaling.data.collating import PackedInstances, batch_of
from scaling.data.images import DataError, Images, RowGroups, UnreadableImageError, shown
from scaling.data.transforms import LabelledTransform, PairMixer, drawn_from
from scaling.scenes import Scenes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A batch as a worker process sends it; images and labels as in Scenes.

    What went wrong is sent, not raised: an exception of a worker arrives as text.
    """

    images: Tensor
    labels: Tensor | PackedInstances
    unreadable: tuple[tuple[int, str], ...] = ()
    """Images that could not be decoded, or do not go with their labels, and why."""
    failure: OSError | None = None

    def pin_memory(self) -> "Loaded":
        """The same in pinned memory, which a GPU copies faster; called by DataLoader."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True, slots=True)
class Order:
    """Which image stands at each place of an endless stream: one shuffle of all images after the other.

    Images in row groups are shuffled among those that are near in a random order of the row groups.

    With `repeats`, a step has that many copies of its images, the last of them cut off where the batch is full: places
    of a step go through its images once, then again. So copies are in one step, and neighbours are different images.
    An image comes as often as without (Hoffer et al. 2020, 'Augment your batch'; DeiT draws a third of the images in
    each epoch instead, and some of them more often than others).
    """

    images: int
    seed: int
    batch_size: int
    repeats: int = 1
    row_groups: RowGroups | None = None

    def at(self, place: int) -> int:
        """Index of the image at a place."""
        step, inside = divmod(place, self.batch_size)
        different = ceil(self.batch_size / self.repeats)
        shuffle, position = divmod(step * different + inside % different, self.images)
        return int(_shuffled(self.images, self.seed, shuffle, self.row_groups)[position])


@lru_cache(maxsize=2)
def _shuffled(images: int, seed: int, shuffle: int, row_groups: RowGroups | None) -> NDArray[np.int64]:
    random = np.random.default_rng([seed, shuffle])
    return row_groups.shuffle(random) if row_groups else random.permutation(images)


class TrainingImages(Dataset[Loaded]):
    """Micro-batches of the training stream, by the place of their first image.

    An image that cannot be used is replaced by the next one that can be.
    """

    def __init__(
        self, images: Images, order: Order, micro_batch_size: int, transform: LabelledTransform, mixer: PairMixer | None
    ) -> None:
        self.images, self.order, self.micro_batch_size = images, order, micro_batch_size
        self.transform, self.mixer = transform, mixer

    def __getitem__(self, start: int) -> Loaded:
        end = start + self.micro_batch_size
        # Pairs are places 2k and 2k + 1 of the stream, so that they do not depend on the micro-batch.
        first, last = (start // 2 * 2, ceil(end / 2) * 2) if self.mixer else (start, end)
        unreadable: dict[int, str] = {}
        try:
            drawn = [self._draw(place, unreadable) for place in range(first, last)]
        except (OSError, _NothingReadableError) as error:
            failure = error if isinstance(error, OSError) else None
            return Loaded(torch.empty(0), torch.empty(0), tuple(unreadable.items()), failure)
        images, labels = batch_of(drawn)
        if self.mixer is None or not isinstance(labels, Tensor):
            return Loaded(images, labels, tuple(unreadable.items()))
        images, labels = self._mixed(self.mixer, images, labels, first)
        inside = slice(start - first, end - first)
        return Loaded(images[inside], labels[inside], tuple(unreadable.items()))

    def _draw(self, place: int, unreadable: dict[int, str]) -> tuple[Tensor, Any]:
        wanted = self.order.at(place)
        for offset in range(len(self.images)):
            index = (wanted + offset) % len(self.images)
            try:
                example = self.images.example(index)
                with drawn_from("augment", self.order.seed, place):
                    return self.transform(*example)
            except UnreadableImageError as error:
                unreadable[index] = str(error)
        raise _NothingReadableError

    def _mixed(self, mixer: PairMixer, images: Tensor, labels: Tensor, first: int) -> tuple[Tensor, Tensor]:
        pairs = []
        for index in range(0, len(images), 2):
            with drawn_from("mix", self.order.seed, first + index):
                pairs.append(mixer(images[index : index + 2], labels[index : index + 2]))
        mixed, shares = (torch.cat(part) for part in zip(*pairs, strict=True))
        return mixed, shares


class _NothingReadableError(Exception):
    """Not one image of the data set can be used."""


class HeldOutImages(Dataset[Loaded]):
    """Batches of the test set, by the index of their first image; what cannot be used is left out."""

    def __init__(self, images: Images, batch_size: int, transform: LabelledTransform) -> None:
        self.images, self.batch_size, self.transform = images, batch_size, transform

    def __getitem__(self, start: int) -> Loaded:
        examples, unreadable = [], {}
        for index in range(start, min(start + self.batch_size, len(self.images))):
            try:
                examples.append(self.transform(*self.images.example(index)))
            except UnreadableImageError as error:
                unreadable[index] = str(error)
            except OSError as error:
                return Loaded(torch.empty(0), torch.empty(0), failure=error)
        batch = batch_of(examples) if examples else (torch.empty(0), torch.empty(0))
        return Loaded(*batch, tuple(unreadable.items()))


def load(
    dataset: Dataset[Loaded], places: Iterable[int], images: Images, max_corrupt_share: float, workers: int
) -> Iterator[Scenes]:
    """The batches at these places, in order, from `workers` processes, or from this one with 0.

    Every image that cannot be used is named in a warning, once.

    Raises:
        DataError: when more than `max_corrupt_share` of the images cannot be used.
        OSError: when the storage fails.
    """
    batches = DataLoader(
        dataset,
        batch_size=None,
        sampler=places,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals,
        # A cell comes from a fork server, whose way of starting processes would import torch anew in each worker.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=torch.cuda.is_initialized(),
        generator=torch.Generator(),  # its seed must not come from the state that training draws from
    )
    unreadable: dict[int, str] = {}
    for batch in batches:
        for index, reason in batch.unreadable:
            if index not in unreadable:
                unreadable[index] = reason
                logger.warning("%s cannot be used: %s", images.name(index), reason)
        if len(unreadable) > max_corrupt_share * len(images):
            names, (first, reason) = shown(images.name(index) for index in unreadable), next(iter(unreadable.items()))
            raise DataError(
                f"data.max_corrupt_share: {len(unreadable):,} of {len(images):,} images of {images.where} cannot be "
                f"used, more than {max_corrupt_share:g} of them, such as {images.name(first)}: {reason}; "
                f"mend or remove them, or what the study says of them: {names}"
            )
        if batch.failure:
            raise batch.failure
        if len(batch.images):
            labels = batch.labels
            yield Scenes(batch.images, labels.unpacked() if isinstance(labels, PackedInstances) else labels)


def _leave_signals(_worker: int) -> None:
    """What stops a whole job is for the training, which saves and then ends its loaders, by SIGTERM if need be."""
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    return batch
