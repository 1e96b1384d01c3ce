"""The whole detector: losses of each image, detections, padding, precision, counting, and learning a few scenes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import box_iou

from scaling.design import Design, Detector
from scaling.models import CascadeMaskRCNN, CheckpointError, build_model, load_checkpoint, save_checkpoint
from scaling.models.detection.detector import best
from scaling.models.detection.stages import BoxStage
from scaling.scenes import Detections, Instances
from tests.models.detection.scenes import CLASSES, SIDE, SMALL, detector, pasted, squares_and_discs, things

NAMES = ("deit-nano/16@48+cascade", "deit-nano/4@48+cascade", "adventurer-nano/8@48+cascade")
KEYS = {"proposal_objectness", "proposal_boxes", "masks"} | {
    f"stage{number}_{part}" for number in (1, 2, 3) for part in ("classes", "boxes")
}
SIDES = [(SIDE, SIDE)] * 2
every = pytest.mark.parametrize("name", NAMES)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@every
def test_losses_are_finite_and_gradients_reach_every_parameter(name: str) -> None:
    images, known = squares_and_discs(2)
    model = detector(name)
    losses = model(images, known)
    assert losses.keys() == KEYS
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    total(losses).backward()
    without = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without
    kernel = model.backbone.patch_embed.proj.weight
    assert kernel.grad is not None
    assert kernel.grad.abs().max() > 1e-6


@pytest.mark.parametrize("training", [True, False])
def test_weights_that_are_no_numbers_have_losses_that_are_none(training: bool) -> None:
    images, known = squares_and_discs(1)
    model = detector().train(training)
    for value in model.parameters():
        torch.nn.init.constant_(value, torch.nan)
    assert all(loss.isnan() for loss in model(images, known).values())


@every
def test_the_test_loss_of_an_image_is_the_same_alone_and_in_a_batch(name: str) -> None:
    images, known = squares_and_discs(3)
    model = detector(name).eval()
    together = model.losses_per_image(images, known)
    for number in range(3):
        alone = model.losses_per_image(images[number : number + 1], known[number : number + 1])
        for key, loss in alone.items():
            torch.testing.assert_close(loss[0], together[key][number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_means_over_the_images(training: bool) -> None:
    images, known = squares_and_discs(3)
    model = detector().train(training)
    torch.manual_seed(1)
    of_images = model.losses_per_image(images, known)
    torch.manual_seed(1)
    assert {key: loss.mean() for key, loss in of_images.items()} == model(images, known)


def test_losses_in_training_follow_the_random_state_and_in_testing_never_change() -> None:
    images, known = squares_and_discs(2)
    model = detector()

    def draw(seed: int) -> float:
        torch.manual_seed(seed)
        return total(model(images, known)).item()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    model.eval()
    assert draw(1) == draw(2)


def test_images_without_things_have_losses_of_the_background_alone() -> None:
    images, known = squares_and_discs(2)
    model = detector()
    for given in ([things([]), known[1]], [things([]), things([])]):
        model.zero_grad()
        losses = model.losses_per_image(images, given)
        assert losses["proposal_objectness"][0] > 0
        assert losses["stage1_classes"][0] > 0
        assert losses["masks"][0] == losses["stage1_boxes"][0] == losses["proposal_boxes"][0] == 0
        total({key: loss.mean() for key, loss in losses.items()}).backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


def test_a_crowd_is_nothing_to_learn() -> None:
    """Crowds over everything leave the background out: only what is of the thing has a loss."""
    images, known = squares_and_discs(1, in_each=1)
    crowd = things([[0, 0, SIDE, SIDE]], crowd=[True])
    both = replace(
        known[0],
        **{
            key: torch.cat([getattr(known[0], key), getattr(crowd, key)])
            for key in ("boxes", "classes", "masks", "crowd")
        },
    )
    model = detector().eval()
    alone = model.losses_per_image(images, [crowd])
    assert total(alone) < alone["proposal_objectness"] + 1e-6  # anchors half outside the image remain background
    assert alone["stage1_classes"] == alone["masks"] == 0
    plain, crowded = (model.losses_per_image(images, [one]) for one in (known[0], both))
    torch.testing.assert_close(plain["masks"], crowded["masks"])
    assert crowded["stage1_boxes"] > plain["stage1_boxes"]  # a mean over the regions of the thing, without background


@every
def test_detections_are_inside_the_image_and_best_first(name: str) -> None:
    images, _ = squares_and_discs(2)
    sides = [(40, 48), (48, 30)]
    with torch.no_grad():
        for found, (height, width) in zip(detector(name).eval()(images, sides), sides, strict=True):
            assert isinstance(found, Detections)
            assert 0 < len(found) <= 100
            assert found.masks.shape == (len(found), 28, 28)
            assert (found.scores.diff() <= 0).all()
            assert found.boxes.min() >= 0
            assert found.boxes[:, 2].max() <= width
            assert found.boxes[:, 3].max() <= height
            assert ((found.masks >= 0) & (found.masks <= 1)).all()


def test_the_best_of_a_class_suppresses_its_repetitions_and_not_those_of_others() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 0, 20, 20], [30, 30, 40, 40], [5, 5, 5, 9]])
    scores = torch.tensor([[0.6, 0.3], [0.9, 0.01], [0.0, 0.5], [0.9, 0.9]])  # the last has no area
    found, score, classes = best(boxes, scores)
    assert score.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert classes.tolist() == [0, 1, 1]
    assert found.tolist() == boxes[[1, 2, 0]].tolist()
    assert [len(one) for one in best(boxes, torch.zeros(4, 2))] == [0, 0, 0]


def test_scores_are_means_over_the_stages_and_losses_have_their_weights() -> None:
    """Stages that say the same of every region, and leave its box as it is."""
    images, known = squares_and_discs(1)
    model, biases = detector().eval(), torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0]])
    with torch.no_grad():
        for stage, bias in zip(model.stages, biases, strict=True):
            for name in ("classes.weight", "deltas.weight", "deltas.bias"):
                stage.get_parameter(name).zero_()
            stage.get_parameter("classes.bias").copy_(bias)
        (found,) = model(images, SIDES[:1])
        for stage in model.stages:
            stage.get_parameter("classes.bias").zero_()
        equal = model(images, known)
    wanted = biases.softmax(1).mean(0)
    torch.testing.assert_close(found.scores, wanted[found.classes])
    assert set(found.classes.tolist()) == {0, 1}
    of_stages = [equal[f"stage{number}_classes"].item() for number in (1, 2, 3)]
    assert of_stages == pytest.approx([math.log(3), math.log(3) / 2, math.log(3) / 4])


def test_the_stages_of_training_pass_their_refined_boxes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images, known = squares_and_discs(1)
    model, seen = detector(), []
    with torch.no_grad():
        for stage in model.stages:
            stage.get_parameter("deltas.weight").zero_()
            stage.get_parameter("deltas.bias").copy_(torch.tensor([0, 0, 3.0, 0]))  # wider
    for stage in model.stages:
        assert isinstance(stage, BoxStage)
        match = stage.match
        monkeypatch.setattr(
            stage, "match", lambda regions, known, match=match: seen.append(regions) or match(regions, known)
        )
    model(images, known)
    inside = (seen[1][0][:, 0] > 0) & (seen[1][0][:, 2] < SIDE) & (seen[2][0][:, 0] > 0) & (seen[2][0][:, 2] < SIDE)
    widths = [one[0][inside, 2] - one[0][inside, 0] for one in seen[1:]]
    assert inside.sum() > 3
    torch.testing.assert_close(widths[1], widths[0] * math.exp(3 / 10))  # second stage: weight 5 x 2


def test_a_model_that_finds_nothing_gives_empty_detections() -> None:
    model = detector().eval()
    for stage in model.stages:
        torch.nn.init.constant_(stage.get_parameter("classes.bias")[-1:], 100.0)
    (found,) = model(squares_and_discs(1)[0], [(SIDE, SIDE)])
    assert len(found) == 0
    assert found.masks.shape == (0, 28, 28)


@pytest.mark.parametrize("name", ["deit-nano/8@40x72+cascade", "adventurer-nano/7@40x72+cascade"])
def test_images_of_other_sides_than_the_design_s_are_padded_to_patches(name: str) -> None:
    model = detector(name)
    canvas = (41, 66)
    known = [
        things([[3, 4, 20, 30]], sides=(41, 50), canvas=canvas),
        things([[30, 4, 66, 41]], [1], canvas=canvas, sides=canvas),
    ]
    images = torch.randn(2, 3, *canvas)
    assert all(loss.isfinite() for loss in model(images, known).values())
    found = model.eval()(images, [(41, 50), canvas])
    assert found[0].boxes[:, 2].max() <= 50


def test_padding_a_batch_changes_only_what_is_near_it() -> None:
    """Positions are resampled for the larger canvas, but anchors and boxes of the padding have no part in the loss."""
    images, known = squares_and_discs(1)
    model = detector("deit-nano/4@48+cascade").eval()
    wide = torch.nn.functional.pad(images, (0, 48))
    padded = replace(known[0], masks=torch.nn.functional.pad(known[0].masks, (0, 48)))
    plain, beside = model.losses_per_image(images, known), model.losses_per_image(wide, [padded])
    assert beside["stage1_classes"].item() == pytest.approx(plain["stage1_classes"].item(), rel=0.25)


@every
def test_half_precision_gives_nearly_the_same_losses_in_full(name: str) -> None:
    images, known = squares_and_discs(2)
    model = detector(name).eval()
    full = model(images, known)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images, known)
        found = model(images, SIDES)
    for key, loss in half.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(full[key].item(), rel=0.3, abs=0.05), key
    assert all(one.scores.dtype == one.boxes.dtype == one.masks.dtype == torch.float32 for one in found)
    total(half).backward()


@pytest.mark.gpu
@every
def test_a_gpu_gives_the_losses_of_a_cpu(name: str) -> None:
    images, known = squares_and_discs(2)
    model = detector(name).eval()
    on_cpu = model(images, known)
    on_gpu = model.cuda()(images.cuda(), [one.to("cuda") for one in known])
    total(on_gpu).backward()
    for key, loss in on_gpu.items():
        torch.testing.assert_close(loss.cpu(), on_cpu[key], rtol=1e-2, atol=1e-3)


@every
def test_counting_runs_without_data(name: str) -> None:
    with torch.device("meta"):
        model = build_model(Design.parse(name), CLASSES, detector=detector(name).settings)
        assert isinstance(model, CascadeMaskRCNN)
        outputs = model.counted(torch.empty(2, 3, SIDE, SIDE))
    anchors = 3 * (24**2 + 12**2 + 6**2)
    stages = [shape for _ in range(3) for shape in ((64, CLASSES + 1), (64, 4))]
    assert [tuple(one.shape) for one in outputs] == [(2, anchors), (2, anchors, 4), *stages, (16, CLASSES, 28, 28)]
    assert all(one.requires_grad for one in outputs)
    with FakeTensorMode(allow_non_fake_inputs=True):
        again = model.to_empty(device="cpu").counted(torch.empty(2, 3, SIDE, SIDE))
    assert [one.shape for one in again] == [one.shape for one in outputs]


def test_what_is_counted_is_what_training_runs() -> None:
    """Outputs of training have the shapes of those counted, where no region is missing."""
    shapes: list[tuple[int, ...]] = []
    images, known = squares_and_discs(2)
    model = detector()
    hooks = [
        module.register_forward_hook(
            lambda _, __, made: shapes.extend(
                tuple(one.shape) for one in (made if isinstance(made, tuple) else (made,))
            )
        )
        for module in model.stages
    ]
    model(images, known)
    for hook in hooks:
        hook.remove()
    assert shapes == [tuple(one.shape) for one in model.counted(images)[2:8]]


def scores(found: Sequence[Detections], known: Sequence[Instances]) -> tuple[float, float, int, int]:
    """Smallest IoU of a thing with the sure detection that fits best, of boxes and masks; wrong classes; too many."""
    of_boxes, of_masks, wrong, extra = [], [], 0, 0
    for each, one in zip(found, known, strict=True):
        sure = each.scores > 0.5
        overlaps, fitting = box_iou(one.boxes, each.boxes[sure]).max(1)
        masks = pasted(each)[sure][fitting]
        of_boxes.append(overlaps.min())
        of_masks += ((masks & one.masks).sum((1, 2)) / (masks | one.masks).sum((1, 2))).tolist()
        wrong += int((each.classes[sure][fitting] != one.classes).sum())
        extra += int(sure.sum()) - len(one)
    return float(min(of_boxes)), sum(of_masks) / len(of_masks), wrong, extra


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit-nano/4@48+cascade"])
def test_eight_scenes_are_learned_by_heart(name: str) -> None:
    images, known = squares_and_discs(8)
    model = detector(name)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=120, pct_start=0.1)
    for _ in range(120):
        total(model(images, known)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        boxes, masks, wrong, extra = scores(model.eval()(images, [(SIDE, SIDE)] * 8), known)
    assert boxes > 0.9
    assert masks > 0.9
    assert wrong == extra == 0


def test_checkpoints_of_a_classifier_of_another_head_and_its_own(tmp_path: Path) -> None:
    files = {}
    for index, head in enumerate(("", "+linear", "+cascade")):
        design = Design.parse(f"deit-nano/8@48{head}")
        torch.manual_seed(10 + index)
        files[head] = tmp_path / f"{index}.safetensors"
        save_checkpoint(build_model(design, CLASSES, detector=Detector.model_validate(SMALL)), design, files[head])
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"is of a model with another head; set recipe.new_head"):
        load_checkpoint(model, files["+linear"])
    for file, new_head in ((files[""], False), (files["+linear"], True), (files["+cascade"], True)):
        assert load_checkpoint(model, file, new_head=new_head).head == "new"
        same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
        assert {name for name in before if not name.startswith("backbone.")} <= same
        assert "backbone.blocks.0.attn.qkv.weight" not in same
    assert load_checkpoint(model, files["+cascade"]).head == "loaded"
    learned = next(name for name in before if name.startswith("masks."))
    assert not torch.equal(model.state_dict()[learned], before[learned])


def test_a_test_is_of_the_losses_and_the_detections_of_two_passes() -> None:
    model, (images, instances) = detector().eval(), squares_and_discs(3)
    with torch.no_grad():
        losses, found = model.test(images, instances)
        again, others = model.losses_per_image(images, instances), model(images, [(SIDE, SIDE)] * 3)
    assert all(torch.equal(losses[name], again[name]) for name in again)
    assert all(torch.equal(one.boxes, other.boxes) for one, other in zip(found, others, strict=True))
