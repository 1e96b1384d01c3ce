"""Adventurer: sizes, order of tokens, flips, and where it starts."""

import shutil
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from scaling.design import Design
from scaling.models import Adventurer, build_adventurer, build_model
from scaling.models.adventurer import Block, reverse_patches

PARAMETERS = {
    "tiny": 11_608_840,
    "small": 44_491_816,
    "base": 98_657_608,
    "large": 346_196_200,
    "huge": 718_033_640,
}  # counted on the released code; the paper's Table 7 prints 759M for huge


def adventurer(name: str = "adventurer-nano/4@16", **options: str | float) -> Adventurer:
    torch.manual_seed(0)
    return build_adventurer(Design.parse(name), 10, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_are_those_of_the_released_code(size: str) -> None:
    with torch.device("meta"):
        model = build_model(Design.parse(f"adventurer-{size}/16@224"), 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]


def test_names_are_those_of_the_released_code() -> None:
    names = set(adventurer().state_dict())
    mixer = (
        "in_proj.weight",
        "conv1d.weight",
        "conv1d.bias",
        "dt_bias",
        "A_log",
        "D",
        "norm.weight",
        "out_proj.weight",
    )
    mlp = (f"mlp.{layer}.{kind}" for layer in ("w1", "w2", "w3") for kind in ("weight", "bias"))
    block = {*(f"mixer.{name}" for name in mixer), *mlp, "norm.weight", "norm_mlp.weight"}
    around = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm_f.weight"}
    assert names == around | {f"layers.{i}.{name}" for i in range(3) for name in block} | {"head.weight", "head.bias"}


@pytest.mark.parametrize("patch_size", [16, 8, 4, 2, 1])
def test_classifier_shape_at_any_patch(patch_size: int) -> None:
    assert adventurer(f"adventurer-nano/{patch_size}@16")(torch.zeros(3, 3, 16, 16)).shape == (3, 10)


@pytest.mark.parametrize(
    "name",
    ["adventurer-nano/8@16x32", "adventurer-nano/8@16+extend=16", "adventurer-64x2/8@16x32+linear"],
)
def test_rectangles_and_extension_run(name: str) -> None:
    design = Design.parse(name)
    logits = build_model(design, 10)(torch.zeros(2, 3, *design.input_sides))
    assert logits.shape == ((2, 10, *design.input_sides) if design.head else (2, 10))


def test_flips_undo_themselves_and_leave_the_class_token_last() -> None:
    tokens = torch.arange(10.0).reshape(1, 5, 2)
    flipped = reverse_patches(tokens)
    assert flipped[0, :, 0].tolist() == [6, 4, 2, 0, 8]
    assert torch.equal(reverse_patches(flipped), tokens)


@pytest.mark.parametrize(("flip", "flipped"), [("alternate", [1, 3, 5]), ("released", [2, 3])])
def test_which_blocks_flip(flip: str, flipped: list[int]) -> None:
    model = adventurer("adventurer-64x6/4@16", flip=flip)
    blocks = [index for index, block in enumerate(model.layers) if block.flip]  # pyright: ignore
    assert blocks == flipped
    images = torch.randn(1, 3, 16, 16)
    other = adventurer("adventurer-64x6/4@16", flip="released" if flip == "alternate" else "alternate")
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model(images), other(images))


def without_heading(block: Block) -> Block:
    """The heading token is the mean of all tokens, the one way in which later patches reach earlier ones."""
    block.mixer.register_forward_pre_hook(lambda _, args: torch.cat([0 * args[0][:, :1], args[0][:, 1:]], dim=1))
    return block


@pytest.mark.parametrize("flip", [False, True])
def test_a_block_reads_in_one_direction_and_the_class_token_reads_all(flip: bool) -> None:
    torch.manual_seed(0)
    block = Block(32, 80, flip, drop_path=0.0)
    tokens = torch.randn(1, 6, 32)

    def moved(model: nn.Module, changed: int) -> list[bool]:
        other = tokens.clone()
        other[:, changed] += 1
        return (model(other) - model(tokens)).abs().amax(dim=2)[0].gt(0).tolist()

    assert all(moved(block, 2))  # through the heading token
    alone = without_heading(block)
    seeing = [True, True, True, False, False, True] if flip else [False, False, True, True, True, True]
    assert moved(alone, 2) == seeing
    assert moved(alone, 5) == [False] * 5 + [True]  # no patch sees the class token


def test_where_weights_start() -> None:
    model = adventurer("adventurer-tiny/4@32")
    for parameter in (model.patch_embed.proj.weight, model.cls_token, model.pos_embed, model.head.weight):
        assert isinstance(parameter, Tensor)
        assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.15)
    bound = 1 / (512**0.5) / (12**0.5)  # Kaiming-uniform with a = sqrt(5), divided by sqrt(depth)
    for layer in model.layers:
        projection = layer.mixer.out_proj.weight.detach()  # pyright: ignore
        assert 0.99 * bound < float(projection.abs().max()) <= bound
        assert float(projection.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
        assert not layer.mlp.w1.bias.any()  # pyright: ignore


def test_sincos_positions_leave_out_the_class_token() -> None:
    positions = adventurer("adventurer-nano/2@16", position_init="sincos").pos_embed
    assert positions.requires_grad
    assert positions[0, -1].abs().sum() == 0
    assert len({tuple(row.tolist()) for row in positions[0, :-1]}) == 64


def test_stochastic_depth_rises_from_the_first_block() -> None:
    drops = [getattr(layer.drop_path, "drop_prob", 0.0) for layer in adventurer(drop_path=0.2).layers]
    assert drops == pytest.approx([0.0, 0.1, 0.2])


def test_checkpointing_changes_memory_and_nothing_else() -> None:
    model, images = adventurer(), torch.randn(2, 3, 16, 16)
    found = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images).square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


COMPILED = """
import sys

import torch
from scaling.design import Design
from scaling.models import build_model
torch.manual_seed(0)
model, images = build_model(Design.parse("adventurer-nano/4@16"), 10), torch.randn(2, 3, 16, 16)
expected = model(images)
expected.square().sum().backward()
gradients = [parameter.grad for parameter in model.parameters()]
model.zero_grad()
found = torch.compile(model, fullgraph=True, backend=sys.argv[1])(images)
found.square().sum().backward()
torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
for parameter, gradient in zip(model.parameters(), gradients, strict=True):
    torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_model_compiles_in_one_graph(backend: str) -> None:
    """In a process of its own: torch cannot compile the shape checks of the tests."""
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    subprocess.run([sys.executable, "-c", COMPILED, backend], check=True, capture_output=True, text=True)
