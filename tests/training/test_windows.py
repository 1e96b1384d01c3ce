"""Windows over an image: every pixel is in one, and a model of single pixels gives what it gives at once."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from scaling.training.windows import Windows, starts


class Pixelwise(nn.Module):
    """Two classes, from each pixel alone; notes how many windows it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return torch.stack([images.sum(1), images.prod(1)], 1)


@pytest.mark.parametrize(("side", "window"), [(512, 512), (683, 512), (2048, 512), (10, 16), (17, 16), (40, 1)])
def test_windows_cover_a_side_and_end_with_it(side: int, window: int) -> None:
    places = starts(side, window)
    covered = {pixel for start in places for pixel in range(start, min(start + window, side))}
    assert covered == set(range(side))
    assert places[-1] == max(0, side - window)
    assert all(after - before <= max(1, 2 * window / 3) for before, after in pairwise(places))
    assert places == sorted(set(places))


@pytest.mark.parametrize("sides", [(16, 16), (16, 37), (40, 23), (12, 30)])
def test_a_model_of_single_pixels_sees_no_windows(sides: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(0))
    model = Pixelwise()
    found = Windows((16, 16), at_once=3).logits(model, images)
    torch.testing.assert_close(found, Pixelwise()(images))
    assert all(shape[0] <= 3 for shape in model.seen)
    assert {shape[2:] for shape in model.seen} == {(min(16, sides[0]), min(16, sides[1]))}


def test_overlapping_windows_are_averaged() -> None:
    class OwnMean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :1].mean((2, 3), keepdim=True).expand(-1, 1, *images.shape[2:])

    images = torch.zeros(1, 3, 4, 6)
    images[:, :, :, 4:] = 1  # windows of 4 begin at 0 and 2: their means are 0 and 1/2
    found = Windows((4, 4), at_once=8).logits(OwnMean(), images)
    assert found[0, 0, 0].tolist() == [0, 0, 0.25, 0.25, 0.5, 0.5]
