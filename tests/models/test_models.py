import pytest
import torch
from torch import nn

from scaling.design import Design
from scaling.errors import UsageError
from scaling.models import LinearSegmenter, build_deit, build_model
from scaling.models.deit import FlashAttention


@pytest.mark.parametrize("patch_size", [16, 8, 4, 2, 1])
def test_classifier_shape_at_any_patch(patch_size: int) -> None:
    model = build_deit(Design("deit", "nano", patch_size, 16), classes=10)
    assert model(torch.zeros(3, 3, 16, 16)).shape == (3, 10)


@pytest.mark.parametrize(("patch_size", "input_size"), [(8, 16), (1, 16), (4, 32), (8, 8)])
def test_segmenter_covers_the_label_map(patch_size: int, input_size: int) -> None:
    design = Design("deit", "nano", patch_size, input_size, "linear")
    model = LinearSegmenter(build_deit(design, 0), classes=11, label_sides=(16, 16))
    assert model(torch.zeros(2, 3, input_size, input_size)).shape == (2, 11, 16, 16)


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
def test_patch_tokens_keep_their_place(architecture: str) -> None:
    """Changing one corner of the image moves that corner's logits most, in an untrained model."""
    torch.manual_seed(0)
    model = build_model(Design(architecture, "nano", 4, 16, "linear"), 11).eval()
    image = torch.zeros(1, 3, 16, 16)
    changed = image.clone()
    changed[..., :4, 12:] = 3.0  # upper right patch
    moved = (model(changed) - model(image)).square().sum(1)[0]
    row, column = divmod(int(moved.argmax()), 16)
    assert row < 4
    assert column >= 12


def test_without_positions_patches_may_be_permuted() -> None:
    torch.manual_seed(0)
    model = build_deit(Design("deit", "nano", 4, 16), classes=10).eval()
    nn.init.zeros_(model.pos_embed)  # pyright: ignore[reportArgumentType]
    image = torch.randn(2, 3, 16, 16)
    patches = image.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[:, :, torch.randperm(16)]
    shuffled = patches.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 16, 16)
    assert not torch.equal(image, shuffled)
    torch.testing.assert_close(model(image), model(shuffled))


@pytest.mark.parametrize(("size", "deviation"), [("nano", 1 / (3 * 32) ** 0.5), ("tiny", 0.02)])
def test_weights_start_by_fan_in_in_narrow_models_only(size: str, deviation: float) -> None:
    torch.manual_seed(0)
    model = build_deit(Design("deit", size, 4, 16), classes=10)
    assert float(model.blocks[0].attn.qkv.weight.detach().std()) == pytest.approx(deviation, rel=0.05)  # pyright: ignore


def test_sincos_positions_are_learned_and_distinct() -> None:
    model = build_deit(Design("deit", "nano", 2, 16), classes=10, position_init="sincos")
    positions = model.pos_embed
    assert isinstance(positions, nn.Parameter)
    assert positions.requires_grad
    assert positions[0, 0].abs().sum() == 0  # the class token's
    assert len({tuple(row.tolist()) for row in positions[0, 1:]}) == 64


@pytest.mark.usefixtures("twins")
def test_an_architecture_with_costs_and_no_model_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'twin' has costs and no model; give its Architecture a block"):
        build_model(Design.parse("twin-one/4@16"), 10)


def test_flash_attention_falls_back_on_the_cpu() -> None:
    torch.manual_seed(0)
    attention = FlashAttention(64, num_heads=4, qkv_bias=True)
    x = torch.randn(2, 5, 64)
    torch.testing.assert_close(attention(x), super(FlashAttention, attention).forward(x))


@pytest.mark.gpu
def test_flash_attention_equals_torch_on_cuda() -> None:
    pytest.importorskip("flash_attn")
    torch.manual_seed(0)
    attention = FlashAttention(192, num_heads=3, qkv_bias=True).cuda().half()
    x = torch.randn(2, 785, 192, device="cuda", dtype=torch.half)
    torch.testing.assert_close(attention(x), super(FlashAttention, attention).forward(x), rtol=2e-3, atol=2e-3)
