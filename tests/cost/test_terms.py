"""Closed forms against hand-computed cases, published counts, and what scaling a design must do."""

import pytest

from scaling.cost import Cost, Execution, Head, Shape, cost_of, find_backbone, scan_flops_by_convention
from scaling.cost.breakdowns import Breakdown
from scaling.design import Design

EXECUTIONS = [Execution(), Execution("fp32", "materialised", "recomputed", checkpointing=True, ema=True)]


def cost(name: str, execution: Execution | None = None, classes: int = 1000) -> Cost:
    design = Design.parse(name)
    return cost_of(design, Head(classes), execution or Execution("fp16"))


def test_a_small_deit_by_hand() -> None:
    """Width 64, one block of one head, two by two patches of 4 pixels, 10 classes: T = 5, m = 256."""
    found = cost("deit-64x1/4@8", classes=10)
    assert found.parameters.terms() == {
        "patch_embedding": 48 * 64 + 64,
        "class_token": 64,
        "positions": 5 * 64,
        "mixer": 64 * 192 + 192 + 64 * 64 + 64,
        "mlp": 64 * 256 + 256 + 256 * 64 + 64,
        "norms": 256,
        "final_norm": 128,
        "head": 650,
    }
    assert found.forward.terms() == {
        "patch_embedding": 2 * 4 * 48 * 64,
        "projections": 2 * 5 * 64 * 256,
        "attention": 2 * (2 * 5 * 5 * 64),
        "scan": 0,
        "convolution": 0,
        "mlp": 2 * 2 * 5 * 64 * 256,
        "head": 2 * 64 * 10,
    }
    assert found.recomputed.total == 2 * 5 * 5 * 64
    assert found.state.weights == 4 * found.parameters.total
    assert found.state.casts == 2 * (found.parameters.total - 64 - 320 - 256 - 128)


def test_a_small_adventurer_by_hand() -> None:
    """Width 64, one block, inner width 128, two heads, state 64; 4 patches: T = 5, M = 6 in one chunk."""
    found = cost("adventurer-64x1/4@8", classes=10)
    assert found.parameters.mixer == 64 * (256 + 128 + 2) + 4 * 256 + 256 + 3 * 2 + 128 + 128 * 64
    assert found.parameters.mlp == 2 * (64 * 160 + 160) + 160 * 64 + 64
    assert found.parameters.norms + found.parameters.final_norm == 3 * 64
    scores, product, states = 2 * 6 * 6 * 64, 2 * 6 * 6 * 128, 2 * (2 * 6 * 64 * 128)
    assert found.forward.scan == scores + product + states
    assert found.forward.convolution == 2 * 4 * 6 * 256
    assert found.forward.projections == 2 * 6 * 64 * (386 + 128)
    assert found.forward.mlp == 3 * 2 * 5 * 64 * 160
    assert found.recomputed.convolution == found.forward.convolution
    assert found.recomputed.scan == scores + states // 2


def test_the_last_chunk_has_its_true_length() -> None:
    """L + 2 = 258 tokens are a chunk of 256 and one of 2."""
    backbone = find_backbone("adventurer")
    shape = Shape.of(Design.parse("adventurer-64x1/1@16"))
    assert backbone.block_flops(shape).scan == 2 * (256**2 + 4) * (64 + 128) + 4 * 258 * 64 * 128


# Table 7 and the released code, at 224 pixels, patch 16, 1,000 classes; the paper prints 759M for Huge.
ADVENTURER_PARAMETERS = {
    "tiny": 11_608_840,
    "small": 44_491_816,
    "base": 98_657_608,
    "large": 346_196_200,
    "huge": 718_033_640,
}


@pytest.mark.parametrize(("size", "parameters"), ADVENTURER_PARAMETERS.items())
def test_adventurer_has_the_parameters_of_the_released_code(size: str, parameters: int) -> None:
    assert cost(f"adventurer-{size}/16@224").parameters.total == parameters


# GFLOP of the forward pass at 224 pixels, counted once with torch's counter on timm's model and on a
# plain-torch chunked scan: patch 16, 8, 4, 2, 1.
FORWARD_GFLOP = {
    "deit-tiny": (2.51, 14.07, 124.06, 1583.6, 23736),
    "deit-small": (9.20, 44.81, 314.72, 3433.6, 48538),
    "deit-base": (35.128, 156.297, 895.883, 7932.8, 101337),
    "deit-large": (123.11, 535.01, 2862.4, 23048, 277809),
    "deit-huge": (254.63, 1089.1, 5560.0, 41570, 475643),
    "adventurer-tiny": (5.30, 21.42, 85.38, 341.8, 1367.0),
    "adventurer-small": (18.94, 75.96, 303.05, 1212.6, 4849.6),
    "adventurer-base": (40.991, 163.932, 654.274, 2617.4, 10467.9),
    "adventurer-large": (142.57, 570.37, 2277.8, 9112.0, 36444),
    "adventurer-huge": (293.48, 1173.2, 4685.6, 18743, 74965),
}


@pytest.mark.parametrize("name", FORWARD_GFLOP)
def test_forward_flops_are_those_counted_on_models(name: str) -> None:
    for patch_size, gflop in zip((16, 8, 4, 2, 1), FORWARD_GFLOP[name], strict=True):
        digits = len(f"{gflop:g}".replace(".", ""))
        assert cost(f"{name}/{patch_size}@224").forward_flops_per_image / 1e9 == pytest.approx(
            gflop, rel=0.6 * 10 ** (1 - min(digits, 4))
        )


# Table 6 of the paper: MiB per image of DeiT-Base under 16-bit autocast with fused attention.
@pytest.mark.parametrize(("patch_size", "mebibytes"), [(16, 62), (8, 252), (4, 1024), (2, 4057), (1, 16118)])
def test_activation_memory_is_table_6(patch_size: int, mebibytes: float) -> None:
    saved = cost(f"deit-base/{patch_size}@224").activation_bytes_per_image
    assert saved / 2**20 == pytest.approx(mebibytes, rel=0.025)


# MiB per image that mamba-ssm's fused path saves, counted once on an autograd function that keeps the same tensors.
@pytest.mark.parametrize(
    ("patch_size", "mebibytes"), [(16, 81.35), (8, 322.93), (4, 1289.2), (2, 5154.5), (1, 20615.5)]
)
def test_adventurer_saves_what_the_fused_path_saves(patch_size: int, mebibytes: float) -> None:
    saved = cost(f"adventurer-base/{patch_size}@224").activation_bytes_per_image
    assert saved / 2**20 == pytest.approx(mebibytes, rel=1e-4)


def test_scan_conventions() -> None:
    """GFLOP of 12 layers at patch 16 and 1, by hand-written loops elsewhere."""
    for patch_size, dual, causal, recurrence in ((16, 2.44, 1.72, 1.18), (1, 730.0, 494.2, 298.7)):
        found = scan_flops_by_convention(Design("adventurer", "base", patch_size, 224))
        assert found is not None
        assert [round(found[name] / 1e9, 2) for name in ("dual", "causal", "recurrence")] == pytest.approx(
            [dual, causal, recurrence], rel=3e-3
        )
    assert scan_flops_by_convention(Design.parse("deit-base/16@224")) is None


@pytest.mark.parametrize("name", ["deit-tiny/8@64", "adventurer-nano/4@64x128", "deit-128x3/8@64+linear"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_breakdown_sums_to_its_total(name: str, execution: Execution) -> None:
    found = cost_of(Design.parse(name), Head(7), execution)
    for breakdown in (
        found.parameters,
        found.forward,
        found.training,
        found.recomputed,
        found.saved,
        found.elementwise,
        found.state,
    ):
        assert isinstance(breakdown, Breakdown)
        assert breakdown.total == sum(breakdown.terms().values())
        assert min(breakdown.terms().values()) >= 0
    parameters = found.parameters
    assert parameters.without_positions == parameters.total - parameters.positions
    assert parameters.without_embedding_and_head == parameters.blocks + parameters.final_norm


def test_training_is_three_times_forward_without_the_gradient_of_the_image() -> None:
    for name in ("deit-small/4@64", "adventurer-small/4@64"):
        found = cost(name)
        forward = found.forward
        assert found.training_flops_per_image == 3 * forward.total - forward.patch_embedding


def test_halving_the_patch() -> None:
    """Patch embedding and blocks' parameters stay, projections grow with tokens, attention with their square."""
    coarse, fine = cost("deit-base/16@224"), cost("deit-base/8@224")
    assert fine.forward.patch_embedding == coarse.forward.patch_embedding
    assert fine.forward.mlp * 197 == coarse.forward.mlp * 785
    assert fine.forward.attention * 197**2 == coarse.forward.attention * 785**2
    assert fine.parameters.blocks == coarse.parameters.blocks


def test_adventurer_is_linear_in_tokens_up_to_the_last_chunk() -> None:
    coarse, fine = cost("adventurer-base/2@224"), cost("adventurer-base/1@224")
    ratio = fine.forward_flops_per_image / coarse.forward_flops_per_image
    assert ratio == pytest.approx(4, rel=2e-3)


def test_a_rectangle_costs_its_area() -> None:
    assert cost("adventurer-tiny/8@64x256") == cost("adventurer-tiny/8@128")
    assert cost("deit-tiny/8@256x64") == cost("deit-tiny/8@64x256")


def test_extension_costs_tokens_but_no_patches() -> None:
    """Extended to the length of patch 8, the blocks cost what they cost there, the embedding what it was."""
    extended, coarse, fine = (cost(f"deit-tiny/{name}") for name in ("16@224+extend=784", "16@224", "8@224"))
    assert extended.forward.mlp == fine.forward.mlp
    assert extended.parameters.positions == fine.parameters.positions
    assert extended.parameters.patch_embedding == coarse.parameters.patch_embedding
    assert extended.forward.patch_embedding == coarse.forward.patch_embedding


def test_executions_change_what_they_should() -> None:
    name = "deit-tiny/16@224"
    plain = cost(name, Execution("bf16"))
    materialised = cost(name, Execution("bf16", attention="materialised"))
    checkpointed = cost(name, Execution("bf16", checkpointing=True))
    averaged = cost(name, Execution("bf16", ema=True))
    assert materialised.recomputed.total == 0
    assert materialised.saved.mixer - plain.saved.mixer == 12 * (6 * 197**2 * 3 - 4 * 197 * 3)
    assert checkpointed.saved.block_inputs == 12 * 197 * 4 * 192
    assert checkpointed.activation_bytes_per_image < plain.activation_bytes_per_image
    blocks = plain.forward.total - plain.forward.patch_embedding - plain.forward.head
    assert checkpointed.recomputed.total - plain.recomputed.total == blocks
    assert averaged.state.total - plain.state.total == 4 * plain.parameters.total
    assert cost(name, Execution("fp32")).state.casts == 0
    assert cost(name, Execution("fp16")).saved == plain.saved


def test_elementwise_work_is_a_small_share_and_never_added() -> None:
    for name in ("deit-tiny/1@224", "deit-huge/16@224", "adventurer-tiny/16@224", "adventurer-huge/1@224"):
        found = cost(name)
        assert 0.001 < found.elementwise.total / found.forward_flops_per_image < 0.021
