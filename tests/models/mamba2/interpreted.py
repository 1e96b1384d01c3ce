"""mamba-ssm's Triton kernels against our mixer on a machine without a GPU; prints JSON.

A program of its own, which test_parity runs: Triton's interpreter is chosen for a whole process, by
TRITON_INTERPRET=1 when Triton is imported, and what the kernels ask of CUDA is replaced in torch itself.
MAMBA_DETERMINISTIC=1 keeps mamba-ssm from choosing block sizes by timing them.
"""

import importlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.models.mamba2 import Mamba2Mixer
from scaling.models.mamba2.kernels import composed, fused, load_mamba_ssm
from scaling.models.mamba2.mixing import mix
from scaling.models.mamba2.stages import Weights
from scaling.training.measure import saved_bytes

EPS = 0.1  # far from every default, so that a call without it shows
HEADS, HEAD_WIDTH, STATE = 3, 16, 32
LENGTHS = (24, 260)  # part of a chunk; a chunk and part of one
Function: TypeAlias = Callable[..., Tensor]
Named: TypeAlias = dict[str, Tensor]


def main() -> None:
    """Print the largest relative error of each result, and the bytes that `fused` saves per token."""
    triton = load_mamba_ssm()
    do_without_cuda(triton)
    errors = {
        f"{run.__name__}, {length} tokens": kernel_errors(on_kernels(run, triton), length)
        for run in (fused, composed)
        for length in LENGTHS
    }
    errors["module"] = {"output": module_error()}
    saved = {str(dtype): saved_bytes_per_token(triton, dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(json.dumps({"errors": errors, "saved_bytes_per_token": saved}))


def do_without_cuda(triton: ModuleType) -> None:
    """Replace what mamba-ssm's kernels need of CUDA and of causal-conv1d."""
    torch.cuda.device = lambda *_: nullcontext()  # pyright: ignore[reportAttributeAccessIssue]
    torch.cuda.get_device_properties = lambda *_: SimpleNamespace(multi_processor_count=4)
    vars(triton).update(
        causal_conv1d_fwd_function=_convolution_forward, causal_conv1d_bwd_function=_convolution_backward
    )


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of a causal depthwise convolution of (B, E, L), as a sum over taps."""
    taps = weight.shape[1]
    windows = F.pad(x, (taps - 1, 0)).unfold(2, taps, 1)
    return F.silu((windows * weight.unsqueeze(1)).sum(3) + bias.unsqueeze(1))


def _convolution_forward(x: Tensor, weight: Tensor, bias: Tensor, *others: Any) -> Tensor:
    assert others == (None, None, None, True)  # nothing packed, no states; SiLU
    return convolution(x, weight, bias)


def _convolution_backward(
    x: Tensor, weight: Tensor, bias: Tensor, dout: Tensor, *others: Any
) -> tuple[Tensor | None, ...]:
    *states, dx, with_initial_state, silu = others
    assert (*states, with_initial_state, silu) == (None, None, None, False, True)
    with torch.enable_grad():
        inputs = [given.detach().requires_grad_() for given in (x, weight, bias)]
        gradients = torch.autograd.grad(convolution(*inputs), inputs, dout)
    return dx.copy_(gradients[0]), *gradients[1:], None


def example(length: int, batch: int = 2, state: int = STATE) -> Named:
    """Random inputs of a mixer in float32, with heads that forget within a few tokens and within hundreds."""
    torch.manual_seed(length)
    width, inner = 20, HEADS * HEAD_WIDTH
    convolved = inner + 2 * state
    return {
        "zxbcdt": torch.randn(batch, length, inner + convolved + HEADS),
        "conv_weight": torch.randn(convolved, 4) / 2,
        "conv_bias": torch.randn(convolved) / 2,
        "dt_bias": torch.randn(HEADS) - 1,
        "A_log": torch.linspace(-5, 1, HEADS),
        "D": torch.randn(HEADS),
        "norm_weight": torch.randn(inner),
        "out_weight": torch.randn(width, inner) / inner**0.5,
    }


def on_torch(*inputs: Tensor) -> Tensor:
    """Our mixer, on the inputs of `example`."""
    return mix(*inputs, EPS)[0]


def on_kernels(run: Function, triton: ModuleType | None) -> Function:
    """`fused` or `composed` as a function of the inputs of `example`."""
    return lambda zxbcdt, *weights: run(triton, None, zxbcdt, Weights(*weights), EPS)


def outcome(run: Function, inputs: Named) -> Named:
    """The output, and every input's gradient for one fixed gradient of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs.values()]
    output = run(*leaves)
    dout = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.dtype)
    gradients = torch.autograd.grad(output, leaves, dout)
    return {"output": output.detach()} | dict(zip(inputs, gradients, strict=True))


def relative_errors(found: Named, expected: Named) -> dict[str, float]:
    """Largest difference of each tensor, as a share of its largest value."""
    assert found.keys() == expected.keys()
    return {name: float((found[name] - right).abs().max() / right.abs().max()) for name, right in expected.items()}


def kernel_errors(run: Function, length: int) -> dict[str, float]:
    """Errors of a mixer in float32, our torch path in float64 being right."""
    inputs = example(length)
    expected = outcome(on_torch, {name: tensor.double() for name, tensor in inputs.items()})
    return relative_errors(outcome(run, inputs), expected)


@torch.no_grad()
def module_error() -> float:
    """Difference between mamba-ssm's own module, as it is by default, and ours with its weights."""
    torch.manual_seed(0)
    theirs = importlib.import_module("mamba_ssm.modules.mamba2").Mamba2(d_model=24, d_state=STATE, headdim=HEAD_WIDTH)
    ours = Mamba2Mixer(24, HEAD_WIDTH, STATE)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, LENGTHS[0], 24) / 10  # small, so that eps matters
    return relative_errors({"output": theirs(tokens)}, {"output": ours(tokens)})["output"]


def saved_bytes_per_token(triton: ModuleType, dtype: torch.dtype) -> float:
    """Slope of the bytes that `fused` keeps for backward from two images to three, so that weights cancel."""

    def saved(batch: int) -> int:
        inputs = example(LENGTHS[0], batch, state=64)  # the state size that the estimator knows
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs.values()]
        return saved_bytes(lambda: on_kernels(fused, triton)(*leaves))

    return (saved(3) - saved(2)) / LENGTHS[0]


if __name__ == "__main__":
    main()
