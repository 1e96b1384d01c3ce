"""The proposal network: anchors by hand, and a box that it finds when its outputs point to it."""

import pytest
import torch
from torch import Tensor

from scaling.models.detection.proposals import ProposalNetwork
from scaling.models.detection.regions import IGNORED
from tests.models.detection.scenes import things

STRIDES = (2, 4, 8)


def network() -> ProposalNetwork:
    torch.manual_seed(0)
    return ProposalNetwork(8, STRIDES, proposals=5)


def levels(images: int = 1, side: int = 48) -> list[Tensor]:
    return [torch.zeros(images, 8, -(-side // stride), -(-side // stride)) for stride in STRIDES]


def test_anchors_are_8_strides_large_and_a_stride_apart() -> None:
    anchors = network().anchors(levels(side=44))  # 44 / 8 is no whole number
    assert len(anchors) == 3 * (22**2 + 11**2 + 6**2)
    sizes = anchors[:, 2:] - anchors[:, :2]
    assert sizes[:3].tolist() == [[22, 12], [16, 16], [12, 22]]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[3 * 22].tolist() == [0, 2]
    assert centres[-1].tolist() == [40, 40]
    assert (sizes[-2] == 64).all()


def test_a_box_that_the_outputs_point_to_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    proposals, wanted = network(), torch.tensor([[10.0, 12, 30, 27]])
    anchors = proposals.anchors(levels())
    logits, deltas = torch.full((2, len(anchors)), -10.0), torch.zeros(2, len(anchors), 4)
    deltas[1] = proposals.box_coder.encode_single(wanted.expand(len(anchors), 4), anchors)
    logits[1, 100] = 10.0
    monkeypatch.setattr(proposals, "outputs", lambda _: (logits, deltas))
    regions, _, _ = proposals.propose(levels(images=2), [(48, 48), (25, 48)])
    assert len(regions[0]) == 5
    torch.testing.assert_close(regions[1][:1], torch.tensor([[10.0, 12, 30, 25]]))  # the image ends at 25


def test_outputs_are_in_the_order_of_the_anchors() -> None:
    """A level that is marked at one cell has its larger logits at the anchors around that cell."""
    proposals = network()
    for layer in ("conv.0.0", "cls_logits"):
        torch.nn.init.constant_(proposals.head.get_parameter(f"{layer}.weight"), 0.1)
    marked = levels()
    marked[1][0, :, 5, 7] = 1.0  # at 28, 20 pixels
    logits, _ = proposals.outputs(marked)
    best = proposals.anchors(marked)[logits[0] > 0]
    centres = ((best[:, :2] + best[:, 2:]) / 2).unique(dim=0)
    assert sorted(centres.tolist()) == [[4 * x, 4 * y] for x in (6, 7, 8) for y in (4, 5, 6)]


def test_the_loss_is_small_for_the_right_answer_and_of_each_image_by_itself() -> None:
    proposals, known = network().eval(), [things([[0, 0, 16, 16], [20, 8, 40, 38]]), things([])]
    anchors = proposals.anchors(levels())
    matches = proposals._matches(anchors, known[0])
    logits, deltas = torch.full((2, len(anchors)), -20.0), torch.zeros(2, len(anchors), 4)
    logits[0, matches >= 0] = 20.0
    found = matches >= 0
    assert set(matches[found].tolist()) == {0, 1}  # each thing has anchors, however badly they fit
    deltas[0, found] = proposals.box_coder.encode_single(known[0].boxes[matches[found]], anchors[found])
    right = proposals.losses(levels(2), logits, deltas, known)
    assert torch.cat([*right.values()]).max() < 1e-6
    wrong = proposals.losses(levels(2), -logits, deltas + 1, known)
    assert wrong["proposal_objectness"].tolist() == pytest.approx([20, 20])
    assert wrong["proposal_boxes"][0] > 0
    assert wrong["proposal_boxes"][1] == 0


def test_anchors_in_the_padding_are_ignored() -> None:
    proposals = network()
    anchors = proposals.anchors(levels())
    matches = proposals._matches(anchors, things([], sides=(20, 48)))
    below = (anchors[:, 1] + anchors[:, 3]) / 2 >= 20
    assert torch.equal(matches == IGNORED, below)
