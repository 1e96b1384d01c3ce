"""Closed forms against timm's modules, torch's counter, and autograd's own saved bytes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from scaling.cost import Execution, Head, cost_of, cost_of_cell
from scaling.design import Design, task_of_head
from scaling.errors import UsageError
from scaling.models import build_model, kernels_on
from scaling.training import check as module
from scaling.training.cells import example_of, model_of
from scaling.training.check import check
from scaling.training.measure import Example, activation_bytes_per_image, count_flops, saved_bytes
from tests.conftest import small_study

SCANS = ("fused", "recomputed")
SIZES = ("tiny", "small", "base", "large", "huge")
PATCHES = (16, 8, 4, 2, 1)


def exact(name: str, execution: Execution, auxiliary: bool = False) -> None:
    design = Design.parse(name)
    head = Head(1000, design.head, auxiliary=auxiliary)
    found = check(design, head, execution)
    assert {one.quantity for one in found} >= {
        "parameters",
        "forward FLOPs",
        "training FLOPs",
        "saved activation bytes",
    }
    for one in found:
        assert one.counted is None or one.closed_form == one.counted, one
        assert one.agrees is (None if one.counted is None else True)
    assert sum(one.counted is None for one in found) <= 1  # fvcore, on large models


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_a_size_is_exact_to_the_byte_and_the_flop(size: str, architecture: str) -> None:
    exact(f"{architecture}-{size}/16@224", Execution("bf16"))


@pytest.mark.slow
@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
def test_every_size_and_patch_is_exact(architecture: str, size: str, patch_size: int) -> None:
    exact(f"{architecture}-{size}/{patch_size}@224", Execution("bf16"))


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("deit-192x3/8@224", Execution("fp32")),
        ("deit-192x3/16@224", Execution("bf16", attention="materialised")),
        ("deit-192x3/16@224", Execution("fp32", attention="materialised")),
        ("deit-192x3/16@224", Execution("bf16", checkpointing=True)),
        ("deit-192x3/16@224", Execution("fp32", checkpointing=True)),
        ("deit-192x3/16@224x320", Execution("bf16")),
        ("deit-192x3/16@224+extend=784", Execution("bf16")),
        ("deit-192x3/16@64x128+extend=128", Execution("fp32")),
        ("deit-128x3/8@64", Execution("bf16")),
        ("deit-192x3/16@64x128+linear", Execution("bf16")),
        ("adventurer-256x3/8@224", Execution("fp32")),
        ("adventurer-256x3/16@224", Execution("bf16", checkpointing=True)),
        ("adventurer-256x3/16@224", Execution("fp32", checkpointing=True)),
        ("adventurer-256x3/16@224x320", Execution("bf16")),
        ("adventurer-256x3/16@224+extend=784", Execution("bf16")),
        ("adventurer-128x3/8@64", Execution("bf16")),
        ("adventurer-256x3/16@64x128+linear", Execution("bf16")),
    ],
    ids=lambda value: str(value)[:60],
)
def test_every_way_to_train_is_exact(name: str, execution: Execution) -> None:
    exact(name, execution)


@pytest.mark.parametrize(
    ("name", "execution", "auxiliary"),
    [
        ("deit-256x4/16@112x80+upernet", Execution("bf16"), True),  # an odd grid
        ("deit-256x4/16@64x128+upernet", Execution("fp32", checkpointing=True), False),
        ("deit-nano/8@24+upernet", Execution("bf16", checkpointing=True), True),  # narrow, and of three blocks
        ("deit-nano/8@8+upernet", Execution("fp32"), False),
        ("adventurer-256x4/16@96+upernet", Execution("bf16"), False),
        ("adventurer-128x1/8@64+upernet", Execution("fp32"), True),
    ],
    ids=lambda value: str(value)[:60],
)
def test_upernet_is_exact(name: str, execution: Execution, auxiliary: bool) -> None:
    exact(name, execution, auxiliary)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("size", "head"), [("nano", None), ("micro", "linear"), ("nano", "upernet")])
@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
def test_cells_are_exact(architecture: str, head: str | None, size: str, precision: str) -> None:
    study = small_study(
        data__task=task_of_head(head),
        grid__heads=[head] if head else [],
        data__digits=1,
        grid__architectures=[architecture],
        grid__sizes=[size],
        grid__patch_sizes=[4, 2],
        recipe__precision=precision,
    )
    for cell in study.cells():
        model, example = model_of(cell), example_of(cell)
        cost = cost_of_cell(cell, scan="recomputed")
        counted = count_flops(model, example)
        assert counted.forward == cost.forward_flops_per_image
        assert counted.training == cost.training_flops_per_image
        assert counted.fvcore_forward == counted.forward
        assert counted.note is None
        assert activation_bytes_per_image(model, example, precision) == cost.activation_bytes_per_image


def test_a_term_that_is_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention counted as if causal, half its products, moves the term and the total."""

    def halved(design: Design, head: Head, execution: Execution) -> object:
        true = cost_of(design, head, execution)
        return replace(true, forward=replace(true.forward, attention=true.forward.attention // 2))

    monkeypatch.setattr(module, "cost_of", halved)
    wrong = {one.quantity for one in check(Design.parse("deit-tiny/16@64"), Head(), Execution()) if not one.agrees}
    assert "forward FLOPs: attention" in wrong
    assert "forward FLOPs: mlp" not in wrong


@pytest.mark.usefixtures("twins")
def test_what_has_no_model_cannot_be_checked() -> None:
    with pytest.raises(UsageError, match="'twin' has costs and no model"):
        check(Design.parse("twin-one/16@224"), Head(), Execution())


def test_the_fused_scan_saves_its_output_and_the_torch_path_a_state_per_chunk() -> None:
    """784 + 2 tokens are four chunks with three borders; 2 bytes an element, 4 of a statistic."""
    design, inner, tokens = Design.parse("adventurer-tiny/8@224"), 2 * 256, 784 + 2
    fused, torch_path = (cost_of(design, Head(), Execution("bf16", scan=scan)).saved.mixer for scan in SCANS)
    assert fused - torch_path == 12 * (tokens * (2 * inner + 4) - 3 * 4 * 64 * inner)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adventurer-tiny/16@224", "adventurer-tiny/4@224"])
def test_the_fused_scan_saves_what_the_closed_form_says_on_a_gpu(name: str) -> None:
    if str(kernels_on("cuda")) != "mamba-ssm, causal-conv1d":
        pytest.skip("mamba-ssm and causal-conv1d are not both installed")
    design = Design.parse(name)
    model = build_model(design, 1000).cuda()

    def saved(batch_size: int) -> int:
        images, labels = Example(design.input_sides).batch(batch_size, "cuda")

        def forward() -> torch.Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(images)
            return F.cross_entropy(logits.float(), labels)

        return saved_bytes(forward)

    ours = cost_of(design, Head(), Execution("bf16")).activation_bytes_per_image
    assert saved(3) - saved(2) == pytest.approx(ours, rel=0.005)


@pytest.mark.parametrize("name", ["deit-nano/8@16x32", "deit-nano/8@16+extend=16", "deit-nano/8@16x32+linear"])
def test_rectangles_and_extension_run(name: str) -> None:
    design = Design.parse(name)
    logits = build_model(design, 10)(torch.zeros(2, 3, *design.input_sides))
    assert logits.shape == ((2, 10, *design.input_sides) if design.head else (2, 10))
