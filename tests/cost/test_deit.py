"""Closed forms against timm's modules, torch's counter, and autograd's own saved bytes."""

import pytest
import torch

from scaling.cost import deit, estimate
from scaling.design import Design
from scaling.models import build_deit, build_model
from scaling.training.measure import activation_bytes_per_image, count_flops
from tests.conftest import small_study

NAMES = ["deit-nano/4@32", "deit-micro/1@16", "deit-tiny/16@224", "deit-base/8@224", "deit-large/32@64"]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_timm(name: str) -> None:
    design = Design.parse(name)
    with torch.device("meta"):
        model = build_deit(design, classes=1000)
    counted = {name: value.numel() for name, value in model.named_parameters()}
    parts = estimate(design, 1000).parameters
    assert parts.total == sum(counted.values())
    assert parts.positions == counted["pos_embed"]
    assert parts.blocks == sum(count for name, count in counted.items() if name.startswith("blocks."))


# Millions of parameters and GFLOP of the forward pass at 224 pixels and 1000 classes, as published for
# DeiT-B/16 (Touvron et al. 2021: 86.6 M, 17.6 GMAC), the others counted once on timm's model.
@pytest.mark.parametrize(
    ("name", "millions", "gflop"),
    [("deit-base/16@224", 86.568, 35.128), ("deit-tiny/4@224", 6.144, 124.06), ("deit-huge/1@224", 695.195, 475_643)],
)
def test_published_costs(name: str, millions: float, gflop: float) -> None:
    cost = estimate(Design.parse(name), 1000)
    assert cost.parameters.total / 1e6 == pytest.approx(millions, abs=6e-4)
    assert cost.forward_flops_per_image / 1e9 == pytest.approx(gflop, rel=1e-4)


# Table 6 of the paper: MiB per image of DeiT-Base under 16-bit autocast with fused attention.
@pytest.mark.parametrize(("patch_size", "mebibytes"), [(16, 62), (8, 252), (4, 1024), (2, 4057), (1, 16118)])
def test_activation_memory_is_table_6(patch_size: int, mebibytes: float) -> None:
    cost = estimate(Design("deit", "base", patch_size, 224), 1000, precision="fp16")
    assert cost.activation_bytes_per_image / 2**20 == pytest.approx(mebibytes, rel=0.022)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("size", ["nano", "micro"])
def test_flops_and_memory_equal_counts_on_the_model(task: str, size: str, precision: str) -> None:
    study = small_study(
        data__task=task, data__digits=1, grid__sizes=[size], grid__patch_sizes=[4, 2], recipe__precision=precision
    )
    for cell in study.cells():
        model = build_model(cell.design, cell.data, cell.recipe)
        pixels = 1 if task == "classification" else cell.data.canvas**2
        cost = estimate(cell.design, cell.data.classes, pixels, precision)
        counted = count_flops(model, cell)
        assert counted.forward == cost.forward_flops_per_image
        assert counted.training == cost.training_flops_per_image
        assert counted.fvcore_forward == counted.forward
        assert counted.note is None
        assert activation_bytes_per_image(model, cell) == cost.activation_bytes_per_image


def test_halving_the_patch() -> None:
    """Projections grow with the tokens, attention with their square; the patch embedding stays."""
    coarse, fine = (Design("deit", "base", patch, 224) for patch in (16, 8))
    assert deit.patch_embedding_flops(fine) == deit.patch_embedding_flops(coarse)
    T, t, d = 785, 197, 768
    assert deit.block_flops(fine) * t == deit.block_flops(coarse) * T + 4 * T * t * d * (T - t)
    assert deit.parameters(fine, 1).blocks == deit.parameters(coarse, 1).blocks
