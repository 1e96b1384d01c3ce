"""The mixer's one operator against its parts, the module around it, and the choice of kernels."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scaling.errors import UsageError
from scaling.models.mamba2 import Mamba2Mixer, kernels, kernels_on, ssd_recurrence
from scaling.models.mamba2.kernels import composed, images_that_fit, mix_with
from scaling.models.mamba2.mixing import mix, mix_backward
from scaling.models.mamba2.stages import Weights
from scaling.training.measure import saved_bytes
from tests.models.mamba2.test_ssd import relative_error

HEADS, CHANNELS, STATE, WIDTH, EPS = 3, 4, 5, 7, 1e-5
INNER = HEADS * CHANNELS
PROJECTED = 2 * INNER + 2 * STATE + HEADS


def given(images: int, tokens: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The operator's tensors, all of them leaves."""
    torch.manual_seed(tokens)
    convolved = INNER + 2 * STATE
    shapes = [(convolved, 4), (convolved,), (HEADS,), (HEADS,), (HEADS,), (INNER,), (WIDTH, INNER)]
    tensors = [torch.randn(images, tokens, PROJECTED), *(torch.randn(shape) for shape in shapes)]
    tensors[4] = torch.log(1 + 15 * torch.rand(HEADS))
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def token_by_token(zxbcdt: Tensor, weights: Weights) -> Tensor:
    """The mixer from torch's convolution, the recurrence and a norm written out."""
    z, xBC, dt = zxbcdt.split([INNER, INNER + 2 * STATE, HEADS], dim=-1)
    padded = F.pad(xBC.transpose(1, 2), (3, 0))
    xBC = F.silu(F.conv1d(padded, weights.conv_weight[:, None], weights.conv_bias, groups=len(weights.conv_bias)))
    x, B, C = xBC.transpose(1, 2).split([INNER, STATE, STATE], dim=-1)
    x = x.unflatten(-1, (HEADS, CHANNELS))
    y = ssd_recurrence(x, F.softplus(dt + weights.dt_bias), -weights.A_log.exp(), B, C) + weights.D[:, None] * x
    gated = y.flatten(2) * F.silu(z)
    return gated / (gated.square().mean(-1, keepdim=True) + EPS).sqrt() * weights.norm_weight @ weights.out_weight.T


def gradients(output: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(output, tensors, torch.randn(output.shape).bfloat16().to(output))


@pytest.mark.parametrize("tokens", [1, 2, 5, 64, 100, 256, 257, 258, 600])
def test_the_operator_is_convolution_recurrence_gate_and_projection(tokens: int) -> None:
    ours, true, parts = given(2, tokens), given(2, tokens), given(2, tokens)
    y, expected = mix(*ours, EPS)[0], token_by_token(true[0], Weights(*true[1:]))
    separate = composed(None, None, parts[0], Weights(*parts[1:]), EPS)
    assert relative_error(y, expected) < 1e-9
    assert relative_error(separate, expected) < 1e-9
    known = gradients(expected, true)
    for found in (gradients(y, ours), gradients(separate, parts)):
        for gradient, wanted in zip(found, known, strict=True):
            assert relative_error(gradient, wanted) < 1e-9


def test_16_bit_projections_are_mixed_in_float32() -> None:
    true, low = given(2, 300), given(2, 300, torch.float32)
    low[0] = low[0].detach().bfloat16().requires_grad_()
    true[0] = low[0].detach().double().requires_grad_()  # the same rounding
    expected, y = mix(*true, EPS)[0], mix(*low, EPS)[0]
    assert y.dtype == torch.bfloat16
    assert relative_error(y, expected) < 2e-2
    for gradient, wanted, tensor in zip(gradients(y, low), gradients(expected, true), low, strict=True):
        assert gradient.dtype == tensor.dtype
        assert relative_error(gradient, wanted) < 2e-2


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own
def test_the_operator_keeps_torch_s_rules() -> None:
    torch.library.opcheck(mix, (*given(2, 300), EPS))
    tensors = [tensor.detach() for tensor in given(2, 300)]
    out, borders = mix(*tensors, EPS)
    torch.library.opcheck(mix_backward, (torch.ones_like(out), *tensors, EPS, borders))


def test_it_keeps_its_inputs_and_one_state_per_chunk() -> None:
    """Each convolved, scanned or gated token would be INNER elements more."""
    size, saved = 4, []
    for images in (2, 3):
        tensors = given(images, 600, torch.float32)
        saved.append(saved_bytes(lambda given=tensors: mix(*given, EPS)[0]))
    assert saved[1] - saved[0] == size * (600 * PROJECTED + 2 * STATE * INNER)


def test_flops_are_convolution_scan_and_projection() -> None:
    tensors = given(2, 100)
    with FlopCounterMode(display=False) as counter:
        y = mix(*tensors, EPS)[0]
    scan = 2 * 100**2 * (STATE + INNER) + 4 * 100 * STATE * INNER
    assert counter.get_total_flops() == 2 * (100 * (8 * (INNER + 2 * STATE) + 2 * INNER * WIDTH) + scan)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 2 * counter.get_total_flops()


def test_the_module_is_causal_and_starts_as_mamba_2_does() -> None:
    torch.manual_seed(0)
    mixer = Mamba2Mixer(512)
    step = F.softplus(mixer.dt_bias.detach())
    assert 1e-3 <= float(step.min()) < 5e-3 < 2e-2 < float(step.max()) <= 0.1
    decay = mixer.A_log.detach().exp()
    assert 1 <= float(decay.min()) < float(decay.max()) <= 16
    assert torch.equal(mixer.D, torch.ones(16))
    tokens = torch.randn(1, 70, 512)
    changed = tokens.clone()
    changed[:, 50:] += 1
    before, after = mixer(tokens), mixer(changed)
    assert torch.equal(before[:, :50], after[:, :50])
    assert not torch.equal(before[:, 50], after[:, 50])


def test_dt_starts_log_uniform() -> None:
    """1,024 heads against the quartiles of a uniform logarithm: each has a quarter, within five sigma."""
    torch.manual_seed(0)
    logs = torch.log10(F.softplus(Mamba2Mixer(512, head_width=1).dt_bias.detach().double()))
    counts = torch.histc(logs, bins=4, min=-3, max=-1)
    assert counts.sum() == len(logs) == 1024
    assert (counts - 256).abs().max() < 5 * math.sqrt(1024 * 0.25 * 0.75)


def test_a_width_without_whole_heads_is_refused() -> None:
    with pytest.raises(UsageError, match="66 inner channels has no heads of 64"):
        Mamba2Mixer(33)


def test_the_cpu_runs_on_torch() -> None:
    assert kernels_on("cpu") == kernels.Kernels("torch", "torch")


@pytest.mark.parametrize(
    ("batch", "length", "channels", "fits"),
    [
        (64, 50_178, 3_224, 13),  # Adventurer-Base at single pixels
        (8, 50_178, 3_224, 8),
        (1, 700_000, 3_224, 0),
        (70_000, 3, 200, 65_535),  # the launch grid
        (4, 2**31 // 200, 100, 1),
    ],
)
def test_no_offset_passes_32_bits(batch: int, length: int, channels: int, fits: int) -> None:
    assert images_that_fit(batch, length, channels) == fits
    assert fits * length * channels < 2**31


def test_a_batch_too_large_for_32_bit_offsets_is_split_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the scan of this package in place of mamba-ssm's, which needs a GPU."""
    seen = []

    def triton_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int, **options: Tensor) -> Tensor:
        seen.append(len(x))
        y = ssd_recurrence(x, F.softplus(dt + options["dt_bias"]), A, B[:, :, 0], C[:, :, 0])
        return y + options["D"][:, None] * x

    tensors = given(5, 20)
    weights, package = Weights(*tensors[1:]), SimpleNamespace(mamba_chunk_scan_combined=triton_scan)
    expected = mix(*tensors, EPS)[0]
    monkeypatch.setattr(kernels, "LARGEST_OFFSET", 2 * 20 * PROJECTED)
    with pytest.warns(UserWarning, match="2 images at a time"):
        torch.testing.assert_close(mix_with(package, None, tensors[0], weights, EPS), expected)
    assert seen == [2, 2, 1]
    monkeypatch.setattr(kernels, "LARGEST_OFFSET", 19 * PROJECTED)
    with pytest.warns(UserWarning, match="20 tokens is too long"):
        torch.testing.assert_close(mix_with(package, None, tensors[0], weights, EPS), expected)
    assert seen == [2, 2, 1]


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("tokens", [197, 3_137, 50_177])
def test_every_kernel_gives_the_same_on_a_gpu(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    triton, convolve = kernels.mamba_ssm(), kernels.causal_conv1d()
    if triton is None and convolve is None:
        pytest.skip("neither mamba-ssm nor causal-conv1d is installed")
    torch.manual_seed(0)
    mixer, tokens_in = Mamba2Mixer(256).cuda(), torch.randn(1, tokens, 256, device="cuda")
    with torch.no_grad():
        projected = mixer.in_proj(tokens_in).to(dtype)
    weights = [mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias, mixer.dt_bias, mixer.A_log, mixer.D]
    weights += [mixer.norm.weight, mixer.out_proj.weight]

    def run(scan: object, convolution: object) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in (projected, *weights)]
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = mix_with(scan, convolution, leaves[0], Weights(*leaves[1:]), EPS)  # pyright: ignore[reportArgumentType]
        return y, gradients(y, leaves)

    expected, known = run(None, None)
    for scan, convolution in {(triton, convolve), (triton, None), (None, convolve)} - {(None, None)}:
        y, found = run(scan, convolution)
        assert relative_error(y, expected) < tolerance
        for gradient, wanted in zip(found, known, strict=True):
            assert relative_error(gradient, wanted) < 5 * tolerance
