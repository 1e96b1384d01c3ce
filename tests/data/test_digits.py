import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from scaling.data import DigitStream, draw_scenes, glyphs, held_out_scenes
from scaling.data.digits import LABEL_INK, PIXEL_MEAN, PIXEL_STD
from scaling.design import DigitsData
from tests.data.made import labels_of

SEGMENTATION = DigitsData(task="segmentation", canvas=24, digits=3, clutter=2, test_images=64)
CLASSIFICATION = DigitsData(task="classification", canvas=16, clutter=0, noise=0.0, test_images=64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shades(pixels: np.ndarray) -> np.ndarray:
    """Pixels between the lightest, 0, and the darkest, 100."""
    return ((pixels - pixels.min()) / np.ptp(pixels) * 100).round().astype(np.int32)


def test_splits_share_no_glyph_and_cover_all() -> None:
    train, test = glyphs("train")[0], glyphs("test")[0]
    assert len(train) + len(test) == len(load_digits(return_X_y=True)[1]) == 1797
    train_glyphs = {glyph.numpy().tobytes() for glyph in train}
    assert not train_glyphs & {glyph.numpy().tobytes() for glyph in test}


@pytest.mark.parametrize("data", [SEGMENTATION, CLASSIFICATION])
def test_scenes_follow_from_the_seed_alone(data: DigitsData) -> None:
    first, again, other = (DigitStream(data, seed, data.canvas).batch(5, 20) for seed in (7, 7, 8))
    assert torch.equal(first.images, again.images)
    assert torch.equal(labels_of(first), labels_of(again))
    assert not torch.equal(first.images, other.images)


def test_the_stream_does_not_depend_on_how_batches_are_cut() -> None:
    whole = DigitStream(SEGMENTATION, 0, 24).batch(1000, 60)  # across a chunk's end at 1024
    stream = DigitStream(SEGMENTATION, 0, 24)
    parts = [stream.batch(start, 20) for start in (1000, 1020, 1040)]
    assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
    assert torch.equal(labels_of(whole), torch.cat([labels_of(part) for part in parts]))


def test_the_stream_does_not_end_or_repeat() -> None:
    stream = DigitStream(SEGMENTATION, 0, 24)
    assert not torch.equal(stream.batch(0, 8).images, stream.batch(1_000_000_000, 8).images)


def test_classification_shows_its_glyph_untouched() -> None:
    """Without noise the ink, undone from paper and pen, is a glyph of that class."""
    scenes = draw_scenes(CLASSIFICATION, "test", 16, generator(0))
    ink, digit = glyphs("test")
    for image, label in zip(scenes.images * PIXEL_STD + PIXEL_MEAN, labels_of(scenes), strict=True):
        known = np.stack([shades(glyph.numpy()) for glyph in ink[digit == label]])
        windows = np.lib.stride_tricks.sliding_window_view(shades(image[0].numpy()), (8, 8)).reshape(-1, 1, 8, 8)
        assert np.abs(windows - known).max((2, 3)).min() <= 1  # rounding


def test_segmentation_labels_are_ink() -> None:
    data = SEGMENTATION.model_copy(update={"noise": 0.0, "clutter": 0})
    scenes = draw_scenes(data, "train", 32, generator(1))
    channel = scenes.images[:, 0]
    paper = channel.amin((1, 2), keepdim=True)
    strength = (channel - paper) / (channel.amax((1, 2), keepdim=True) - paper) * 16
    assert torch.equal(strength.round() >= LABEL_INK, labels_of(scenes) > 0)
    assert labels_of(scenes).max() <= 10


def test_clutter_is_background() -> None:
    """Torn quarters add ink but no label."""
    clean = draw_scenes(SEGMENTATION.model_copy(update={"clutter": 0}), "train", 256, generator(2))
    torn = draw_scenes(SEGMENTATION.model_copy(update={"clutter": 6}), "train", 256, generator(2))
    assert torn.images.mean() > clean.images.mean()
    assert (labels_of(torn) > 0).float().mean() <= (labels_of(clean) > 0).float().mean()


def test_digits_land_everywhere() -> None:
    """Digits keep apart, which favours the corners, but no row or column is left empty."""
    labels = labels_of(draw_scenes(SEGMENTATION, "train", 4096, generator(3))) > 0
    share = labels.float().mean((0, 1))[2:-2]
    assert share.min() > 0.25 * share.max()


def held_out(input_size: int, batch_size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(held_out_scenes(SEGMENTATION, input_size, batch_size))
    return torch.cat([part.images for part in parts]), torch.cat([labels_of(part) for part in parts])


def test_the_test_set_is_fixed_however_it_is_cut() -> None:
    images, labels = held_out(24)
    assert len(images) == 64
    for batch_size in (1, 7, 64):
        assert torch.equal(held_out(24, batch_size)[0], images)
    assert torch.equal(held_out(48)[1], labels)


def test_another_input_size_resamples_the_image_not_the_labels() -> None:
    (small, small_labels), (large, large_labels) = held_out(12), held_out(48)
    assert small.shape[-1] == 12
    assert large.shape[-1] == 48
    assert small_labels.shape == large_labels.shape == (64, 24, 24)
    assert float(small.mean()) == pytest.approx(float(large.mean()), abs=0.02)


def test_pixels_are_normalised() -> None:
    images = draw_scenes(SEGMENTATION, "train", 2048, generator(4)).images
    assert abs(float(images.mean())) < 0.2
    assert 0.8 < float(images.std()) < 1.2
