"""Boxes and masks of drawn digits are exact, at any input size, and the images are those of the other tasks."""

import pytest
import torch

from scaling.data import DigitStream, draw_scenes, held_out_scenes
from scaling.design import DigitsData
from scaling.scenes import Detections, Instances
from scaling.training.average_precision import AveragePrecision
from tests.data.made import labels_of

CROWDED = {"canvas": 24, "digits": 5, "clutter": 2, "test_images": 64}
SEGMENTATION = DigitsData(task="segmentation", **CROWDED)  # pyright: ignore
DETECTION = DigitsData(task="detection", **CROWDED)  # pyright: ignore


def stream(data: DigitsData, start: int, count: int, input_size: int = 24) -> tuple[torch.Tensor, list[Instances]]:
    scenes = DigitStream(data, 3, input_size).batch(start, count)
    assert not isinstance(scenes.labels, torch.Tensor)
    return scenes.images, list(scenes.labels)


def test_images_are_those_of_segmentation_and_masks_its_labels() -> None:
    maps = DigitStream(SEGMENTATION, 3, 24).batch(200, 100)
    images, labels = stream(DETECTION, 200, 100)  # across a chunk's end at 256
    assert torch.equal(images, maps.images)
    for number, (known, expected) in enumerate(zip(labels, labels_of(maps), strict=False)):
        shown = torch.zeros(24, 24, dtype=torch.long)
        for label, mask in zip(known.classes, known.masks, strict=True):
            assert not (shown[mask] > 0).any()  # each pixel is of one digit
            shown[mask] = label + 1
        assert torch.equal(shown, expected)
        assert (known.image, known.sides, known.original_sides) == (200 + number, (24, 24), (24, 24))
        assert known.annotations is None
        assert not known.crowd.any()


def test_boxes_are_tight_around_masks() -> None:
    for known in stream(DETECTION, 0, 60)[1]:
        for box, mask in zip(known.boxes, known.masks, strict=True):
            rows, columns = mask.nonzero().T
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_hidden_digits_have_no_instance() -> None:
    """On a canvas of one glyph, the digits lie on each other."""
    data = DigitsData(task="detection", canvas=8, digits=12, clutter=0)
    scenes = draw_scenes(data, "train", 64, torch.Generator().manual_seed(0))
    counts = [len(known) for known in scenes.labels if isinstance(known, Instances)]
    assert min(counts) < 12
    assert all(bool(known.masks.flatten(1).any(1).all()) for known in scenes.labels if isinstance(known, Instances))


@pytest.mark.parametrize("input_size", [12, 36, 48])
def test_at_another_input_size_boxes_and_masks_scale(input_size: int) -> None:
    canvas, scaled = stream(DETECTION, 0, 20)[1], stream(DETECTION, 0, 20, input_size)[1]
    scale = input_size / 24
    for here, there in zip(canvas, scaled, strict=True):
        assert torch.allclose(there.boxes, here.boxes * scale)
        assert there.sides == (input_size, input_size)
        assert there.original_sides == (24, 24)
        if input_size == 48:
            assert torch.equal(there.masks, here.masks.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_the_stream_does_not_depend_on_how_batches_are_cut() -> None:
    whole, parts = stream(DETECTION, 250, 12)[1], [stream(DETECTION, start, 4)[1] for start in (250, 254, 258)]
    for here, there in zip(whole, [known for part in parts for known in part], strict=True):
        assert torch.equal(here.boxes, there.boxes)
        assert torch.equal(here.masks, there.masks)
        assert here.image == there.image


def test_the_test_set_is_scored_on_the_canvas_at_any_input_size() -> None:
    """Perfect boxes score 1, and squares for masks the same everywhere: the truth is of the canvas."""
    squares = []
    for input_size in (24, 12, 36):
        precision, images = AveragePrecision(10), 0
        for scenes in held_out_scenes(DETECTION, input_size, 24):
            for known in scenes.labels:
                assert isinstance(known, Instances)
                assert known.image == images
                assert (known.annotations is None) == (input_size == 24)
                images += 1
                found = Detections(known.boxes, torch.ones(len(known)), known.classes, torch.ones(len(known), 7, 7))
                precision.update([known], [found])
        assert images == 64
        result = precision.compute()
        assert result.box_ap == pytest.approx(1.0)
        squares.append(result.mask_ap)
    assert squares == pytest.approx([squares[0]] * 3, abs=1e-9)
    assert 0.05 < squares[0] < 0.5
