"""Levels of the pyramid: their sides for every patch size, and that their cells lie where their pixels are."""

import pytest
import torch

from scaling.models.detection.pyramid import Interpolation, SimplePyramid


@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 16, 32, 3, 7, 14, 24])
@pytest.mark.parametrize("side", [42, 48, 100])
def test_levels_cover_the_image_at_every_patch_size(patch_size: int, side: int) -> None:
    rows, columns = -(-side // patch_size), -(-2 * side // patch_size)
    pyramid = SimplePyramid(12, 8, patch_size, (2, 4, 8, 16))
    levels = pyramid(torch.randn(1, 12, rows, columns))
    wanted = [(-(-rows * patch_size // stride), -(-columns * patch_size // stride)) for stride in (2, 4, 8, 16)]
    assert [level.shape for level in levels] == [(1, 8, *sides) for sides in wanted]


def test_transposed_convolutions_halve_the_channels_down_to_those_of_the_pyramid() -> None:
    pyramid = SimplePyramid(32, 8, 16, (1,))
    inner = [layer for layer in pyramid[0].modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in inner] == [(32, 16), (16, 8), (8, 8), (8, 8)]


@pytest.mark.parametrize(("before", "after"), [(14, 4), (14, 8), (3, 2), (7, 2), (3, 8), (14, 32), (24, 32)])
def test_interpolated_cells_have_the_values_at_their_centres(before: int, after: int) -> None:
    """On a ramp, away from the edges, interpolation keeps it only if the cells are where they should be."""
    ramp = ((torch.arange(40) + 0.5) * before).expand(1, 1, 40, 40)
    cells = Interpolation(before, after)(ramp)[0, 0, 5]
    centres = (torch.arange(len(cells)) + 0.5) * after
    inner = (centres > 3 * max(before, after)) & (centres < 40 * before - 3 * max(before, after))
    assert inner.sum() > 3
    torch.testing.assert_close(cells[inner], centres[inner], rtol=0, atol=0.02 * after)
