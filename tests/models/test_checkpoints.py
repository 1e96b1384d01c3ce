"""Checkpoints: released ones and ours, fitted to another grid or patch, and everything that is refused."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from scaling.design import Design
from scaling.errors import UsageError
from scaling.models import build_model, load_checkpoint, save_checkpoint
from scaling.models.checkpoints import CheckpointError
from scaling.models.resampling import resample_positions, resize_patches

ARCHITECTURES = ("deit", "adventurer")


def model_of(name: str, classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(Design.parse(name), classes).eval()


def released(model: nn.Module, path: Path) -> Path:
    """A file as the authors' training scripts write it."""
    torch.save({"model": model.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.1)}, path)
    return path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_released_files_and_our_own_give_the_same_model(architecture: str, tmp_path: Path) -> None:
    name = f"{architecture}-nano/4@32"
    source, images = model_of(name), torch.randn(2, 3, 32, 32)
    save_checkpoint(source, Design.parse(name), tmp_path / "own.safetensors")
    torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / "bare.pth")
    wrapped = {f"_orig_mod.module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": wrapped, "model": "deit"}, tmp_path / "wrapped.pth")
    files = (
        released(source, tmp_path / "a.pth"),
        *(tmp_path / name for name in ("own.safetensors", "bare.pth", "wrapped.pth")),
    )
    for path in files:
        model = model_of(name, seed=1)
        assert not torch.equal(model(images), source(images))
        loaded = load_checkpoint(model, path)
        assert torch.equal(model(images), source(images))
        assert (loaded.positions, loaded.patches, loaded.head) == ("as they are", "as they are", "loaded")
        assert len(loaded.sha256) == 64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_positions_are_resampled_around_the_class_token(architecture: str, tmp_path: Path) -> None:
    """Positions that are a plane over the grid stay that plane; the class token keeps its own."""
    source = model_of(f"{architecture}-nano/4@32")
    positions: Tensor = source.pos_embed  # pyright: ignore
    class_token, patches = (63 + 1, slice(0, 64)) if architecture == "adventurer" else (0, slice(1, 65))
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), indexing="ij")
    with torch.no_grad():
        positions[0, class_token] = 5.0
        positions[0, patches] = (rows + 10 * columns).flatten()[:, None]
    model = model_of(f"{architecture}-nano/4@64x48", seed=1)
    loaded = load_checkpoint(model, released(source, tmp_path / "a.pth"))
    assert loaded.positions == "from 8 x 8 to 16 x 12, bicubic"
    found: Tensor = model.pos_embed.detach()[0]  # pyright: ignore
    last = architecture == "adventurer"
    assert torch.equal(found[-1 if last else 0], torch.full((32,), 5.0))
    grid = (found[:-1] if last else found[1:])[:, 0].unflatten(0, (16, 12))
    assert float((grid[8, 5:7] - grid[7, 5:7]).mean()) == pytest.approx(8 / 16 / 7, rel=0.02)  # a step down
    assert float((grid[7:9, 6] - grid[7:9, 5]).mean()) == pytest.approx(10 * 8 / 12 / 7, rel=0.02)  # to the right


def test_a_rectangle_s_positions_need_our_own_file(tmp_path: Path) -> None:
    source = model_of("deit-nano/4@16x32")
    save_checkpoint(source, Design.parse("deit-nano/4@16x32"), tmp_path / "own.safetensors")
    loaded = load_checkpoint(model_of("deit-nano/4@32"), tmp_path / "own.safetensors")
    assert loaded.positions == "from 4 x 8 to 8 x 8, bicubic"
    path = released(source, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="pos_embed has 32 patches, which is no 5 x 5 grid"):
        load_checkpoint(model_of("deit-nano/4@32"), path)
    assert load_checkpoint(model_of("deit-nano/4@16x32", seed=1), path).positions == "as they are"


def test_our_own_files_know_their_flips_and_their_design(tmp_path: Path) -> None:
    design, path = Design.parse("adventurer-nano/4@32"), tmp_path / "own.safetensors"
    save_checkpoint(build_model(design, 10, flip="released"), design, path)
    assert load_checkpoint(build_model(design, 10, flip="released"), path)
    with pytest.raises(CheckpointError, match="trained with flip = 'released', the model has 'alternate'"):
        load_checkpoint(build_model(design, 10), path)
    save_file({"a": torch.zeros(1)}, path, metadata={"design": "resnet-50"})
    with pytest.raises(CheckpointError, match="says it is of a design that this version does not know"):
        load_checkpoint(build_model(design, 10), path)


@pytest.mark.parametrize("last", [True, False])
def test_resampling_is_linear_and_the_identity_on_the_same_grid(last: bool) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 1, 17, 6)
    assert torch.equal(resample_positions(one, (4, 4), (4, 4), last), one)
    grown = [resample_positions(given, (4, 4), (6, 8), last) for given in (one, other, one + 2 * other)]
    torch.testing.assert_close(grown[2], grown[0] + 2 * grown[1])


def test_flexivit_keeps_the_tokens_of_resized_patches_and_plain_interpolation_does_not() -> None:
    """Beyer et al. 2023, equation 3: the kernel's product with an enlarged patch is that with the patch."""
    torch.manual_seed(0)
    kernel, patches = torch.randn(5, 3, 4, 4), torch.randn(7, 3, 4, 4)
    enlarged = F.interpolate(patches, (8, 8), mode="bicubic", antialias=True)
    tokens = torch.einsum("bchw,dchw->bd", patches, kernel)
    kept = torch.einsum("bchw,dchw->bd", enlarged, resize_patches(kernel, 8, "flexivit"))
    moved = torch.einsum("bchw,dchw->bd", enlarged, resize_patches(kernel, 8, "bicubic"))
    torch.testing.assert_close(kept, tokens, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(moved, tokens, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("how", ["flexivit", "bicubic"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_smaller_patch_is_loaded_when_asked(architecture: str, how: str, tmp_path: Path) -> None:
    path = released(model_of(f"{architecture}-nano/4@32"), tmp_path / "a.pth")
    loaded = load_checkpoint(model_of(f"{architecture}-nano/2@32"), path, how)
    assert loaded.patches == f"from 4 to 2 pixels, {how}"
    assert loaded.positions == "from 8 x 8 to 16 x 16, bicubic"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_head_keeps_its_start(architecture: str, tmp_path: Path) -> None:
    source = model_of(f"{architecture}-nano/4@32")
    path = released(source, tmp_path / "a.pth")
    model = model_of(f"{architecture}-nano/4@32", classes=3, seed=1)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_checkpoint(model, path, new_head=True).head == "new"
    assert torch.equal(model.state_dict()["head.weight"], start["head.weight"])
    assert torch.equal(model.state_dict()["pos_embed"], source.state_dict()["pos_embed"])
    dense = model_of(f"{architecture}-nano/4@32+linear")
    assert load_checkpoint(dense, path).head == "new"
    assert torch.equal(dense.state_dict()["backbone.pos_embed"], source.state_dict()["pos_embed"])
    save_checkpoint(dense, Design.parse(f"{architecture}-nano/4@32+linear"), tmp_path / "dense.safetensors")
    assert load_checkpoint(model_of(f"{architecture}-nano/2@16+linear"), tmp_path / "dense.safetensors", "flexivit")
    with pytest.raises(CheckpointError, match="is a dense model's checkpoint, and the model is a classifier"):
        load_checkpoint(model, tmp_path / "dense.safetensors")


def spoil_value(state: dict[str, Tensor]) -> None:
    state["norm_f.weight"][3] = float("nan")


def spoil_type(state: dict[str, Tensor]) -> None:
    state["norm_f.weight"] = state["norm_f.weight"].to(torch.complex64)


def spoil_shape(state: dict[str, Tensor]) -> None:
    state["layers.1.mixer.A_log"] = torch.zeros(5)


def spoil_names(state: dict[str, Tensor]) -> None:
    state["layers.0.mixer.E"] = state.pop("layers.0.mixer.D")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_value, "norm_f.weight has values that are not finite"),
        (spoil_type, "norm_f.weight is no plain tensor of real numbers"),
        (spoil_shape, r"layers.1.mixer.A_log has shape \(5,\), the model's is \(1,\); is it of another size"),
        (spoil_names, r"1 missing \(layers.0.mixer.D\) and 1 unexpected \(layers.0.mixer.E\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    state = dict(model_of("adventurer-nano/4@32").state_dict())
    state = {name: value.clone() for name, value in state.items()}
    spoil(state)
    torch.save({"model": state}, tmp_path / "a.pth")
    model = model_of("adventurer-nano/4@32", seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model, tmp_path / "a.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("deit-nano/4@32", 10, "is an Adventurer's checkpoint, and the model is a DeiT"),
        ("adventurer-micro/4@32", 10, "16 missing .*another size"),
        ("adventurer-64x3/4@32", 10, "cls_token has shape .*another size"),
        ("adventurer-nano/2@32", 10, "for patches of 4, the model's are 2; resize it by 'flexivit' or 'bicubic'"),
        ("adventurer-nano/4@32", 7, r"head.\w+ has shape .*set recipe.new_head = true"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(name: str, classes: int, message: str, tmp_path: Path) -> None:
    path = released(model_of("adventurer-nano/4@32"), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model_of(name, classes), path)


def test_an_unknown_resize_is_refused(tmp_path: Path) -> None:
    path = released(model_of("deit-nano/4@32"), tmp_path / "a.pth")
    with pytest.raises(UsageError, match="unknown resize 'flexvit': did you mean 'flexivit'"):
        load_checkpoint(model_of("deit-nano/2@32"), path, "flexvit")


class Dangerous:
    """What a pickle can hold: unpickling it would call anything."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.touch, ("never",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Dangerous(), "holds more than tensors and plain values"),
        ([1, 2], "is not a state dict"),
        ({"model": {"a": 1}}, "is not a state dict"),
        ({}, "is not a state dict"),
        ({"cls_token": torch.zeros(1)}, "another size"),
    ],
)
def test_a_pickle_that_is_no_state_dict_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model_of("deit-nano/4@32"), tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"hello", bytes(range(256)) * 64])
def test_a_file_of_other_bytes_is_refused(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(model_of("deit-nano/4@32"), tmp_path / name)
