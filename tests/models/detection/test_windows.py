"""Attention in windows: what a block sees, and that a window over everything changes nothing."""

import pytest
import torch
from torch import Tensor, nn

from scaling.design import Design
from scaling.errors import UsageError
from scaling.models import DeiT, build_model
from scaling.models.windows import global_blocks, in_windows
from tests.models.detection.scenes import detector

GRID = (5, 7)


def block() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(Design.parse("deit-nano/8@48"), classes=3)
    assert isinstance(model, DeiT)
    return model.blocks[0]


def tokens(grid: tuple[int, int] = GRID) -> Tensor:
    return torch.randn(2, 1 + grid[0] * grid[1], 32, generator=torch.Generator().manual_seed(1))


def test_the_last_block_of_each_quarter_sees_everything() -> None:
    assert global_blocks(12) == {2, 5, 8, 11}
    assert global_blocks(24) == {5, 11, 17, 23}
    assert global_blocks(3) == {0, 1, 2}
    assert global_blocks(6) == {1, 2, 4, 5}


@pytest.mark.parametrize("window", [7, 9])
def test_one_window_over_the_grid_is_the_block_itself(window: int) -> None:
    run = block()
    torch.testing.assert_close(in_windows(run, tokens(), GRID, window), run(tokens()))


def test_windows_are_blocks_of_their_own() -> None:
    """By hand: a grid of 5 x 7 in windows of 3 is cut at row 3 and at columns 3 and 6."""
    run, given = block(), tokens()
    patches, class_tokens, wanted = given[:, 1:].unflatten(1, GRID), [], torch.empty(2, *GRID, 32)
    for rows in (slice(0, 3), slice(3, 5)):
        for columns in (slice(0, 3), slice(3, 6), slice(6, 7)):
            part = patches[:, rows, columns]
            after = run(torch.cat([given[:, :1], part.flatten(1, 2)], 1))
            wanted[:, rows, columns] = after[:, 1:].reshape(part.shape)
            class_tokens.append(after[:, 0])
    found = in_windows(run, given, GRID, 3)
    torch.testing.assert_close(found[:, 1:], wanted.flatten(1, 2))
    torch.testing.assert_close(found[:, 0], torch.stack(class_tokens).mean(0))


def test_patches_see_their_window_and_nothing_else() -> None:
    given = tokens().requires_grad_()
    found = in_windows(block(), given, GRID, 3)[:, 1:].unflatten(1, GRID)
    found[:, 4, 1].square().sum().backward()
    assert given.grad is not None
    seen = given.grad[:, 1:].unflatten(1, GRID).abs().sum((0, 3)) > 0
    wanted = torch.zeros(GRID, dtype=torch.bool)
    wanted[3:5, 0:3] = True
    assert torch.equal(seen, wanted)


def test_a_detector_attends_in_its_windows() -> None:
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    deep = "deit-64x6/8@48+cascade"
    whole, windowed, covering = (
        detector(deep, attention_window=window).eval().levels(images)[0] for window in (None, 2, 6)
    )
    torch.testing.assert_close(whole, covering)
    assert not torch.allclose(whole, windowed, atol=1e-3)


def test_windows_are_refused_where_there_is_no_attention() -> None:
    with pytest.raises(UsageError, match=r"detector.attention_window: adventurer-nano/8@48\+cascade has no attention"):
        detector("adventurer-nano/8@48+cascade", attention_window=2)
