"""Boxes by hand: which level they are pooled from, what they match, which are learned from."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import roi_align

from scaling.models.detection import aligning
from scaling.models.detection.regions import (
    BACKGROUND,
    IGNORED,
    RegionPool,
    clip,
    match,
    mean_by_image,
    sample,
    with_images,
)
from scaling.models.detection.stages import BoxStage
from tests.models.detection.scenes import things


def shifted(iou: float) -> list[float]:
    """A box of 20 x 20 that overlaps [0, 0, 20, 20] by just that much, shifted to the right."""
    by = 20 * (1 - iou) / (1 + iou)
    return [by, 0.0, 20 + by, 20.0]


@pytest.mark.parametrize(
    ("side", "stride"), [(5.0, 2), (27.9, 2), (28.0, 2), (55.9, 2), (56.0, 4), (111.9, 4), (112.0, 8), (400.0, 8)]
)
def test_a_box_is_pooled_from_the_coarsest_level_on_which_it_has_14_cells(side: float, stride: int) -> None:
    pool = RegionPool((2, 4, 8), cells=7)
    levels = [torch.full((1, 1, 512 // each, 512 // each), float(each)) for each in (2, 4, 8)]
    pooled = pool(levels, [torch.tensor([[40.0, 40.0, 40 + side, 40 + side]])])
    assert pooled.unique().tolist() == [stride]


def test_pooled_regions_keep_the_order_of_images_and_boxes() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(2, 3, 256 // each, 256 // each) for each in (2, 4, 8)]
    boxes = [torch.tensor([[0.0, 0, 200, 200], [8, 8, 20, 20], [0, 0, 70, 70]]), torch.tensor([[4.0, 4, 18, 30]])]
    pool = RegionPool((2, 4, 8), cells=7)
    together = pool(levels, boxes)
    for index, (image, box) in enumerate([(0, boxes[0][0]), (0, boxes[0][1]), (0, boxes[0][2]), (1, boxes[1][0])]):
        alone = pool([level[image : image + 1] for level in levels], [box[None]])
        torch.testing.assert_close(together[index], alone[0])


@pytest.mark.parametrize("at_once", [5, 12])
def test_products_of_matrices_give_what_torchvision_s_operator_gives(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "AT_ONCE", at_once)
    torch.manual_seed(0)
    level = torch.randn(3, 4, 20, 25, requires_grad=True)
    corner = torch.rand(12, 2) * 30
    boxes = torch.cat([corner, corner + torch.rand(12, 2) * 45], 1).clamp(max=40.0)
    boxes[:2, 2] = boxes[:2, 0]  # as when a box is clipped to an edge that it lies beyond
    regions = with_images([boxes[:5], boxes[:0], boxes[5:]])
    weights = torch.randn(12, 4, 7, 7)
    pooled, gradients = [], []
    for run in (aligning.align(level, regions, 7, 2), roi_align(level, regions, 7, 0.5, aligned=True)):
        pooled.append(run)
        gradients += torch.autograd.grad((run * weights).sum(), level)
    torch.testing.assert_close(*pooled)
    torch.testing.assert_close(*gradients)


def test_a_region_sees_the_pixels_of_its_box() -> None:
    ramp = (torch.arange(32) + 0.5).expand(1, 1, 32, 32) * 2  # the value of a cell is where its centre is, in pixels
    pooled = RegionPool((2,), cells=7)([ramp], [torch.tensor([[8.0, 8.0, 22.0, 22.0]])])
    torch.testing.assert_close(pooled[0, 0, 0], torch.arange(9.0, 22.0, 2.0))


@pytest.mark.parametrize("iou", [0.5, 0.6, 0.7])
def test_a_stage_matches_from_its_iou_on(iou: float) -> None:
    stage = BoxStage(8, 2, iou, 1.0)
    known = things([[0.0, 0.0, 20.0, 20.0], [30.0, 30.0, 40.0, 40.0]])
    regions = torch.tensor([shifted(iou + 0.01), shifted(iou - 0.01), [30.0, 30.0, 40.0, 40.0]])
    assert stage.match([regions], [known])[0].tolist() == [0, BACKGROUND, 1]


def test_background_inside_a_crowd_is_ignored_and_a_crowd_is_never_matched() -> None:
    known = things([[0, 0, 20, 20], [20, 0, 48, 48], [0, 30, 8, 40]], crowd=[False, True, False])
    regions = torch.tensor(
        [[0.0, 0, 20, 20], [20, 0, 48, 48], [30, 30, 40, 40], [15, 0, 27, 10], [11, 0, 22, 10], [0, 30, 8, 40]]
    )
    assert match(regions, known, Matcher(0.5, 0.5)).tolist() == [0, IGNORED, IGNORED, IGNORED, BACKGROUND, 2]


def test_without_things_all_is_background() -> None:
    assert match(torch.tensor([[0.0, 0, 9, 9]]), things([]), Matcher(0.5, 0.5)).tolist() == [BACKGROUND]


def test_samples_are_of_things_up_to_their_share_and_never_ignored() -> None:
    matches = torch.tensor([3, BACKGROUND, IGNORED, 0, 1, BACKGROUND, IGNORED, BACKGROUND, 2, BACKGROUND])
    torch.manual_seed(0)
    for _ in range(20):
        picked = matches[sample(matches, 5, positives=2, training=True)]
        assert (picked >= 0).tolist() == [True, True, False, False, False]
        assert (picked != IGNORED).all()
    few = matches[sample(matches[:3], 5, positives=2, training=True)]
    assert few.tolist() == [3, BACKGROUND]


def test_draws_are_random_in_training_and_fixed_in_testing() -> None:
    matches = torch.full((100,), BACKGROUND)

    def draw(training: bool) -> Tensor:
        return sample(matches, 10, positives=2, training=training)

    torch.manual_seed(1)
    first, other = draw(True), draw(True)
    torch.manual_seed(1)
    assert torch.equal(draw(True), first)
    assert not torch.equal(first, other)
    before = torch.random.get_rng_state()
    assert torch.equal(draw(False), draw(False))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_means_are_over_each_image_without_what_is_ignored() -> None:
    matches = [torch.tensor([0, BACKGROUND, IGNORED]), torch.tensor([], dtype=torch.long), torch.tensor([1])]
    values = torch.tensor([1.0, 3.0, 0.0, 5.0])
    assert mean_by_image(values, matches).tolist() == [2.0, 0.0, 5.0]


def test_boxes_are_clipped_to_the_image_and_not_to_its_padding() -> None:
    boxes = [torch.tensor([[-3.0, -4, 60, 60]]), torch.tensor([[5.0, 5, 45, 45]])]
    clipped = clip(boxes, [(32, 48), (40, 20)])
    assert [one.tolist() for one in clipped] == [[[0, 0, 48, 32]], [[5, 5, 20, 40]]]


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 3.0])
def test_a_region_with_the_deltas_to_a_thing_is_refined_to_its_box(sharpness: float) -> None:
    stage = BoxStage(8, 2, 0.5, sharpness)
    regions = torch.tensor([[2.0, 3, 18, 21], [20, 20, 33, 28]])
    wanted = torch.tensor([[0.0, 0, 20, 20], [24, 18, 40, 30]])
    deltas = stage.coder.encode_single(wanted, regions)
    refined = stage.refine([regions[:1], regions[1:]], deltas, [(48, 48), (25, 48)])
    torch.testing.assert_close(torch.cat(refined), torch.tensor([[0.0, 0, 20, 20], [24, 18, 40, 25]]))


def test_deltas_that_are_no_numbers_move_nothing() -> None:
    regions = torch.tensor([[2.0, 3, 18, 21], [20, 20, 33, 28]])
    refined = BoxStage(8, 2, 0.5, 1.0).refine([regions], torch.full((2, 4), torch.nan), [(48, 48)])
    torch.testing.assert_close(refined[0], regions)


def test_a_stage_has_no_loss_for_the_right_answer() -> None:
    stage = BoxStage(8, 2, 0.5, 1.0)
    known = [things([[0, 0, 20, 20], [30, 30, 48, 48]], [1, 0], [False, True]), things([])]
    regions = [torch.tensor([[2.0, 0, 20, 20], [0, 25, 10, 40], [32, 32, 40, 40]]), torch.tensor([[0.0, 0, 9, 9]])]
    matches = stage.match(regions, known)
    right = torch.tensor([1, 2, 0, 2])  # the third is in a crowd, where nothing is wrong
    logits = 50 * torch.eye(3)[right]
    deltas = torch.zeros(4, 4)
    deltas[0] = stage.coder.encode_single(known[0].boxes[:1], regions[0][:1])[0]
    for losses in stage.losses(logits, deltas, regions, matches, known):
        assert losses.tolist() == pytest.approx([0, 0], abs=1e-6)
    classes, boxes = stage.losses(-logits, deltas + 1, regions, matches, known)
    assert classes.tolist() == pytest.approx([(50.7 + 50.7) / 2, 50.7], abs=0.1)
    assert boxes.tolist() == pytest.approx([4 * 0.5 / 2, 0])
