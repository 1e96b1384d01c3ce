"""UperNet on both backbones: shapes, gradients, what it is independent of, and the paper's numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.cost import Execution, Head, cost_of
from scaling.design import Design, Recipe
from scaling.models import UperNet, build_model, change_patch_size, load_checkpoint, save_checkpoint
from scaling.models.checkpoints import CheckpointError
from scaling.training.optimizer import build_optimizer

ARCHITECTURES = ("deit", "adventurer")
CLASSES = 5


def upernet(name: str, seed: int = 0, auxiliary: bool = False) -> UperNet:
    torch.manual_seed(seed)
    model = build_model(Design.parse(f"{name}+upernet"), CLASSES, auxiliary=auxiliary)
    assert isinstance(model, UperNet)
    return model


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    outputs = model(images)
    logits = (outputs,) if isinstance(outputs, Tensor) else outputs
    return torch.stack([F.cross_entropy(each, labels) for each in logits]).sum()


def scene(sides: tuple[int, int], images: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(images, 3, *sides), torch.randint(CLASSES, (images, *sides))


@pytest.mark.parametrize("sides", [(8, 8), (24, 16), (40, 56)], ids=str)
@pytest.mark.parametrize("name", ["deit-nano/8@24", "adventurer-nano/8@24", "deit-nano/8@8", "deit-nano/4@24"])
def test_images_of_any_sides_are_labelled_pixel_by_pixel(name: str, sides: tuple[int, int]) -> None:
    for model in (upernet(name), build_model(Design.parse(f"{name}+linear"), CLASSES)):
        assert model(torch.zeros(2, 3, *sides)).shape == (2, CLASSES, *sides)


def test_label_maps_may_have_other_sides_than_the_input() -> None:
    model = build_model(Design.parse("deit-nano/8@32+upernet"), CLASSES, label_sides=(20, 20))
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, CLASSES, 20, 20)
    assert model(torch.zeros(1, 3, 16, 32)).shape == (1, CLASSES, 16, 32)


@pytest.mark.parametrize("head", ["linear", "upernet"])
def test_stretched_tokens_stretch_as_much_in_images_of_other_sides(head: str) -> None:
    model = build_model(Design.parse(f"deit-nano/8@16+{head}+extend=16"), CLASSES)
    assert model(torch.zeros(1, 3, 24, 16)).shape == (1, CLASSES, 24, 16)


@pytest.mark.parametrize(("size", "blocks"), [("64x12", (2, 5, 8, 11)), ("nano", (0, 1, 2, 2)), ("64x1", (0, 0, 0, 0))])
def test_maps_are_taken_at_even_depths(size: str, blocks: tuple[int, ...]) -> None:
    model = upernet(f"deit-{size}/8@16")
    assert model.blocks_read == blocks
    assert model(torch.zeros(1, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_reach_every_parameter(architecture: str, side: int) -> None:
    """Also those that data parallelism would wait for in vain; also from a grid of one patch."""
    model = upernet(f"{architecture}-nano/8@{side}", auxiliary=True)
    loss_of(model, *scene((side, side))).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_the_second_head_is_for_training_only() -> None:
    model, images = upernet("deit-nano/8@24", auxiliary=True), torch.zeros(1, 3, 24, 24)
    main, second = model(images)
    assert main.shape == second.shape == (1, CLASSES, 24, 24)
    assert not torch.equal(main, second)
    torch.testing.assert_close(model.eval()(images), main)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_is_labelled_the_same_in_any_batch_and_mode(architecture: str) -> None:
    model, (images, _) = upernet(f"{architecture}-nano/8@24"), scene((24, 24), images=3)
    torch.testing.assert_close(model(images)[1:2], model.eval()(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_seed_gives_the_same_gradients_to_the_bit(architecture: str) -> None:
    found = []
    for _ in range(2):
        model = upernet(f"{architecture}-nano/4@24", auxiliary=True)
        loss_of(model, *scene((24, 24))).backward()
        found.append([value.grad for value in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_patches_keep_their_place(architecture: str) -> None:
    """Changing one corner of the image moves that corner's logits most, in an untrained model."""
    model = upernet(f"{architecture}-nano/4@32").eval()
    image = torch.zeros(1, 3, 32, 32)
    changed = image.clone()
    changed[..., :8, 24:] = 3.0
    moved = (model(changed) - model(image)).square().sum(1)[0]
    row, column = divmod(int(moved.argmax()), 32)
    assert row < 16
    assert column >= 16


def test_the_finest_level_reads_all_coarser_ones() -> None:
    """With a fusion that takes the finest level alone, logits at each place still depend on every map."""
    decoder = upernet("deit-64x4/8@32").head.decoder
    weight = decoder.fuse.get_parameter("0.weight")
    with torch.no_grad():
        weight[:, weight.shape[0] :] = 0
    maps = [torch.randn(1, 64, 4, 4, requires_grad=True) for _ in range(4)]
    decoder(maps)[..., 0, 0].sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in maps)


def test_labels_finer_than_a_patch_are_learned() -> None:
    """Squares a quarter of a patch wide, which the linear head cannot draw: sixteen of them share a token."""
    images, _ = scene((16, 16), images=1)
    labels = torch.randint(CLASSES, (1, 8, 8)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    correct = {}
    for head in ("linear", "upernet"):
        torch.manual_seed(0)
        model = build_model(Design.parse(f"deit-nano/8@16+{head}"), CLASSES)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(100):
            loss_of(model, images, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        correct[head] = float((model(images).argmax(1) == labels).float().mean())
    assert correct["upernet"] > 0.98
    assert correct["linear"] < 0.9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activation_checkpointing_changes_no_gradient(architecture: str) -> None:
    found = []
    for checkpointing in (False, True):
        model = upernet(f"{architecture}-nano/8@24", auxiliary=True)
        model.backbone.set_grad_checkpointing(checkpointing)
        loss_of(model, *scene((24, 24))).backward()
        found.append([value.grad for value in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpoints_of_classifiers_other_heads_and_its_own(architecture: str, tmp_path: Path) -> None:
    name = f"{architecture}-nano/8@24"
    files = {}
    for index, head in enumerate(("", "+linear", "+upernet")):
        design = Design.parse(name + head)
        torch.manual_seed(10 + index)
        files[head] = tmp_path / f"{index}.safetensors"
        save_checkpoint(build_model(design, CLASSES), design, files[head])
    model = upernet(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"is of a model with another head; set recipe.new_head"):
        load_checkpoint(model, files["+linear"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for file, new_head in ((files[""], False), (files["+linear"], True)):
        assert load_checkpoint(model, file, new_head=new_head).head == "new"
        same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
        assert {key for key in before if key.startswith("head.")} <= same
        assert "backbone.pos_embed" not in same
    assert load_checkpoint(model, files["+upernet"]).head == "loaded"
    assert not torch.equal(model.state_dict()["head.decoder.classify.weight"], before["head.decoder.classify.weight"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_smaller_patch_keeps_the_head(architecture: str) -> None:
    model = upernet(f"{architecture}-nano/8@24", auxiliary=True)
    before = dict(model.named_parameters())
    assert len(change_patch_size(model, 4)) == 2
    kept = {name for name, value in model.named_parameters() if value is before[name]}
    assert set(before) - kept == {"backbone.pos_embed", "backbone.patch_embed.proj.weight"}
    main, second = model(torch.zeros(1, 3, 24, 24))
    assert main.shape == second.shape == (1, CLASSES, 24, 24)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_learns_at_the_full_rate_and_its_norms_are_not_decayed(architecture: str) -> None:
    recipe = Recipe(steps=1, batch_size=1, learning_rate=1.0, layer_decay=0.5, weight_decay=0.1)
    model = upernet(f"{architecture}-nano/8@24", auxiliary=True)
    settings = {}
    for group in build_optimizer(model, recipe).param_groups:
        settings |= {id(value): (group["lr"], group["weight_decay"]) for value in group["params"]}
    for name, value in model.named_parameters():
        rate, decay = settings[id(value)]
        if name.startswith("head."):
            assert rate == 1
            assert decay == (0.1 if value.ndim > 1 else 0)
        if "patch_embed" in name:
            assert rate < 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_under_16_bit_autocast(architecture: str) -> None:
    model, (images, labels) = upernet(f"{architecture}-nano/8@24"), scene((24, 24))
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype is torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)
    F.cross_entropy(logits.float(), labels).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("adventurer-tiny/16@512+upernet", 17),
        ("adventurer-base/16@512+upernet", 112),
        ("adventurer-tiny/16@512+linear", 12),
        ("adventurer-base/16@512+linear", 99),
        ("adventurer-tiny/8@512+linear", 12),
    ],
)
def test_parameters_are_those_of_table_2(name: str, millions: int) -> None:
    design = Design.parse(name)
    assert round(cost_of(design, Head(150, design.head), Execution()).parameters.total / 1e6) == millions


def test_the_closed_form_counts_the_built_model_and_says_what_the_second_head_adds() -> None:
    design = Design.parse("adventurer-tiny/16@512+upernet")
    head = Head(150, "upernet")
    with torch.device("meta"):
        model = build_model(design, 150, auxiliary=True)
    assert isinstance(model, UperNet)
    assert model.head.auxiliary is not None
    counted = sum(value.numel() for value in model.head.auxiliary.parameters())
    with_second, without = (
        cost_of(design, replace(head, auxiliary=flag), Execution()).parameters.head for flag in (True, False)
    )
    assert with_second - without == counted
