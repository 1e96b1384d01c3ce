"""Changing the patch size of a model in training: what stays, and what is near what it was."""

import pytest
import torch
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

from scaling.design import Design
from scaling.models import build_model, change_patch_size
from scaling.models.resampling import resample_positions
from scaling.training.optimizer import replace_parameters

NAMES = ("deit-nano/8@32", "adventurer-nano/8@32", "deit-nano/8@32+linear", "adventurer-nano/8@32+linear")
every = pytest.mark.parametrize("name", NAMES)


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(Design.parse(name), classes=10, position_init="sincos").eval()


def smooth_images(count: int = 4) -> Tensor:
    """Images that hardly change over a patch: 2 x 2 random colours, interpolated."""
    colours = torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(colours, (32, 32), mode="bilinear", align_corners=True)


@every
def test_a_changed_model_is_the_design_with_smaller_patches(name: str) -> None:
    model, wanted = model_of(name), model_of(name.replace("/8", "/2"))
    change_patch_size(model, 2)
    shapes, others = ({key: value.shape for key, value in each.state_dict().items()} for each in (model, wanted))
    assert shapes == others
    wanted.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), wanted(images))


@every
def test_only_the_kernel_and_the_positions_are_replaced(name: str) -> None:
    model = model_of(name)
    before, state = dict(model.named_parameters()), torch.random.get_rng_state()
    replaced = change_patch_size(model, 4)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    changed = {key for key, value in after.items() if value is not before[key]}
    assert {key.removeprefix("backbone.") for key in changed} == {"patch_embed.proj.weight", "pos_embed"}
    assert all(replaced[before[key]] is after[key] for key in changed)
    assert len(replaced) == 2
    assert all(after[key].requires_grad and not after[key].is_meta for key in changed)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_kernel_and_the_positions_are_those_of_a_checkpoint_of_another_patch_size() -> None:
    model = model_of("adventurer-nano/8@32")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    change_patch_size(model, 4)
    after = dict(model.named_parameters())
    kernel = resample_patch_embed(before["patch_embed.proj.weight"], [4, 4])
    assert torch.equal(after["patch_embed.proj.weight"], kernel)
    positions = resample_positions(before["pos_embed"], (4, 4), (8, 8), class_token_last=True)
    assert torch.equal(after["pos_embed"], positions)


@torch.no_grad()
@pytest.mark.parametrize("name", ["deit-nano/8@32+linear", "adventurer-nano/8@32+linear"])
def test_tokens_stay_near_what_they_were_for_a_smooth_image(name: str) -> None:
    """A kernel that reads smooth patterns, as learned ones do: tokens are those of the patch around, in its place."""
    model, images = model_of(name), smooth_images()
    embedding: nn.Module = model.backbone.patch_embed  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    weight: Tensor = embedding.proj.weight  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    weight.copy_(nn.functional.interpolate(weight[:, :, :2, :2], (8, 8), mode="bilinear"))
    before = embedding(images).unflatten(1, (4, 4))
    change_patch_size(model, 4)
    after = model.backbone.patch_embed(images).unflatten(1, (8, 8))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    around = before.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert float((after - around).norm() / (around - around.mean((1, 2), keepdim=True)).norm()) < 0.5
    means = after.mean((1, 2)), before.mean((1, 2))
    assert float((means[0] - means[1]).norm() / means[1].norm()) < 0.1


@every
def test_outputs_stay_near_what_they_were_for_a_smooth_image(name: str) -> None:
    model, images = model_of(name), smooth_images()
    with torch.no_grad():
        before = model(images)
        change_patch_size(model, 4)
        after, fresh = model(images), model_of(name.replace("/8", "/4"))(images)
    moved, apart = (float((each - before).norm() / before.norm()) for each in (after, fresh))
    assert moved < (
        0.35 if name == "adventurer-nano/8@32" else 0.2
    )  # its class token is read after four times the scan
    assert moved < apart / 3


def test_other_parameters_keep_their_moments_and_their_settings() -> None:
    model = model_of("deit-nano/8@32")
    decayed = [value for name, value in model.named_parameters() if value.ndim > 1 and "pos_embed" not in name]
    rest = [value for name, value in model.named_parameters() if value.ndim == 1 or "pos_embed" in name]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}])
    for _ in range(3):
        model(torch.randn(2, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    before = {id(value): {key: each.clone() for key, each in kept.items()} for value, kept in optimizer.state.items()}
    replaced = change_patch_size(model, 4)
    replace_parameters(optimizer, replaced)
    trained = [value for group in optimizer.param_groups for value in group["params"]]
    assert {id(value) for value in trained} == {id(value) for value in model.parameters()}
    new = {id(value) for value in replaced.values()}
    assert all(id(value) not in new for value in optimizer.state)
    assert len(optimizer.state) == len(before) - 2
    for value, kept in optimizer.state.items():
        assert all(torch.equal(before[id(value)][key], each) for key, each in kept.items())
    kernel = dict(model.named_parameters())["patch_embed.proj.weight"]
    assert any(value is kernel for value in optimizer.param_groups[0]["params"])
    start = kernel.detach().clone()
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(kernel, start)
    assert float(optimizer.state[kernel]["step"]) == 1
    assert float(optimizer.state[model.get_parameter("head.weight")]["step"]) == 4
