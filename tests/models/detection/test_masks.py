"""Masks by hand: what of them is in a box, and whose loss they are."""

import pytest
import torch

from scaling.models.detection.masks import MASK_SIDE, MaskHead, crop
from tests.models.detection.scenes import things


def test_a_box_of_28_pixels_shows_the_pixels_of_its_thing() -> None:
    torch.manual_seed(0)
    masks = torch.rand(3, 48, 48) < 0.5
    boxes = torch.tensor([[5.0, 3, 33, 31], [20, 20, 48, 48], [0, 10, 28, 38]])
    shown = crop(masks, boxes, torch.tensor([2, 0, 2]))
    wanted = [masks[2, 3:31, 5:33], masks[0, 20:48, 20:48], masks[2, 10:38, 0:28]]
    assert torch.equal(shown, torch.stack(wanted).float())


def test_a_larger_box_shows_where_most_of_each_cell_belongs_to_the_thing() -> None:
    known = things([[0, 0, 14, 29]], canvas=(56, 56))
    (shown,) = crop(known.masks, torch.tensor([[0.0, 0, 56, 56]]), torch.tensor([0]))
    wanted = torch.zeros(MASK_SIDE, MASK_SIDE)
    wanted[:15, :7] = 1  # of the last row one pixel of two: half belongs
    assert torch.equal(shown, wanted)


def test_the_loss_is_of_the_mask_of_the_thing_s_class_and_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    head = MaskHead(8, classes=3)
    known = [things([[0, 0, 14, 48], [0, 0, 48, 48]], [2, 1]), things([]), things([[0, 0, 48, 48]], [0])]
    logits = torch.zeros(4, 3, MASK_SIDE, MASK_SIDE)
    logits[0, 2, :, :14], logits[0, 2, :, 14:] = 30, -30  # right
    logits[1, 1] = -10  # wrong
    logits[2, 1] = 10
    monkeypatch.setattr(head, "forward", lambda _: logits)
    boxes = [
        torch.tensor([[0.0, 0, 28, 48], [0, 0, 48, 48], [0, 0, 48, 48]]),
        torch.zeros(0, 4),
        torch.tensor([[0.0, 0, 48, 48]]),
    ]
    matches = [torch.tensor([0, 1, 1]), torch.tensor([], dtype=torch.long), torch.tensor([0])]
    losses = head.losses(torch.zeros(4, 8, 14, 14), boxes, matches, known)
    assert losses.tolist() == pytest.approx([10 / 3, 0, 0.6931], abs=1e-3)
