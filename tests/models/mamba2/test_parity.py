"""Our Mamba-2 against mamba-ssm's own code on a CPU: its references, and its kernels in Triton's interpreter.

The references round dt and the norm's weight to float32. Inputs here are float32 numbers held in float64,
which that does not change; of the gradients it leaves seven digits.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.cost.architectures import find_backbone
from scaling.cost.shapes import Execution, Shape
from scaling.design import Precision
from scaling.models.mamba2 import Mamba2Mixer, ssd
from scaling.models.mamba2.kernels import composed, load_mamba_ssm
from tests.models.mamba2.interpreted import (
    EPS,
    HEAD_WIDTH,
    HEADS,
    LENGTHS,
    STATE,
    Function,
    Named,
    convolution,
    example,
    on_kernels,
    on_torch,
    outcome,
    relative_errors,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        importlib.util.find_spec("mamba_ssm") is None, reason="mamba-ssm is not installed; make test-parity installs it"
    ),
]
ROOT = Path(__file__).parents[3]
EXACT, ROUNDED, FLOAT32 = 1e-9, 1e-6, 3e-5
OUR_MIXERS = {"mix": on_torch, "composed": on_kernels(composed, None)}
PARAMETERS = ("conv_weight", "conv_bias", "dt_bias", "A_log", "D", "norm_weight", "out_weight")


def theirs(module: str) -> Any:
    """A module of mamba-ssm."""
    load_mamba_ssm()
    return importlib.import_module(f"mamba_ssm.{module}")


def scan_inputs(length: int) -> Named:
    """Raw steps, not yet positive; decay rates of heads that forget within a step and in a hundred."""
    torch.manual_seed(length)
    inputs = {
        "x": torch.randn(2, length, HEADS, HEAD_WIDTH),
        "dt": torch.randn(2, length, HEADS) - 1,
        "A": -torch.logspace(-2, 1, HEADS),
        "B": torch.randn(2, length, STATE),
        "C": torch.randn(2, length, STATE),
    }
    return {name: tensor.double() for name, tensor in inputs.items()}


def assert_equal(ours: Function, reference: Function, inputs: Named, output: float, gradients: float) -> None:
    """Outputs and all gradients, to these shares of their largest value."""
    errors = relative_errors(outcome(ours, inputs), outcome(reference, inputs))
    assert all(error < (output if name == "output" else gradients) for name, error in errors.items()), errors


@pytest.mark.parametrize(("length", "block"), [(2, 1), (64, 16), (256, 256), (300, 50), (777, 111)])
def test_ssd_is_the_papers_listing(length: int, block: int) -> None:
    minimal = theirs("modules.ssd_minimal").ssd_minimal_discrete

    def listing(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        maps = (shared.unsqueeze(2).expand(-1, -1, HEADS, -1) for shared in (B, C))
        return minimal(x * dt.unsqueeze(-1), A * dt, *maps, block)[0]

    inputs = scan_inputs(length)
    inputs["dt"] = F.softplus(inputs["dt"])
    assert_equal(ssd, listing, inputs, EXACT, EXACT)


@pytest.mark.parametrize(("length", "dtype"), [(64, torch.float32), (64, torch.float64), (320, torch.float64)])
def test_ssd_with_skip_and_softplus_is_the_kernels_reference(length: int, dtype: torch.dtype) -> None:
    scan = theirs("ops.triton.ssd_combined").ssd_chunk_scan_combined_ref

    def ours(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
        return ssd(x, F.softplus(dt + dt_bias), A, B, C) + D.unsqueeze(-1) * x

    def reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
        return scan(x, dt, A, B.unsqueeze(2), C.unsqueeze(2), 16, D, None, dt_bias, dt_softplus=True)

    inputs = scan_inputs(length) | {"D": torch.randn(HEADS), "dt_bias": torch.randn(HEADS)}
    inputs["A"] /= 10  # the reference's gradients are NaN where the inverse of a sequence's whole decay overflows
    limits = (FLOAT32, FLOAT32) if dtype == torch.float32 else (EXACT, ROUNDED)
    assert_equal(ours, reference, {name: tensor.to(dtype) for name, tensor in inputs.items()}, *limits)


def reference_mixer(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    out_weight: Tensor,
) -> Tensor:
    """A mixer put together from mamba-ssm's references."""
    scan = theirs("ops.triton.ssd_combined").ssd_chunk_scan_combined_ref
    norm = theirs("ops.triton.layernorm_gated").rms_norm_ref
    inner = HEADS * HEAD_WIDTH
    z, xBC, dt = zxbcdt.split([inner, inner + 2 * STATE, HEADS], dim=-1)
    xBC = convolution(xBC.transpose(1, 2), conv_weight, conv_bias).transpose(1, 2)
    x, B, C = xBC.split([inner, STATE, STATE], dim=-1)
    x, B, C = x.unflatten(-1, (HEADS, HEAD_WIDTH)), B.unsqueeze(2), C.unsqueeze(2)
    y = scan(x, dt, -A_log.exp(), B, C, 20, D, None, dt_bias, dt_softplus=True).flatten(2)
    return F.linear(norm(y, norm_weight, None, z, EPS, norm_before_gate=False, upcast=False), out_weight)


@pytest.mark.parametrize("ours", OUR_MIXERS)
@pytest.mark.parametrize("length", [20, 300])
def test_the_mixer_is_put_together_as_its_references_are(ours: str, length: int) -> None:
    inputs = {name: tensor.double() for name, tensor in example(length).items()}
    assert_equal(OUR_MIXERS[ours], reference_mixer, inputs, EXACT, ROUNDED)


def test_parameters_have_their_names_and_shapes() -> None:
    module = theirs("modules.mamba2").Mamba2(d_model=48, d_state=STATE, headdim=HEAD_WIDTH)
    ours = Mamba2Mixer(48, HEAD_WIDTH, STATE)
    assert shapes_of(ours) == shapes_of(module)


def shapes_of(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What the program `interpreted` prints."""
    command = [sys.executable, "-m", "tests.models.mamba2.interpreted"]
    switches = {"TRITON_INTERPRET": "1", "MAMBA_DETERMINISTIC": "1"}
    result = subprocess.run(command, cwd=ROOT, env=os.environ | switches, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("run", ["fused", "composed"])
def test_the_kernels_are_called_as_our_mixer_computes(interpreted: dict[str, Any], run: str, length: int) -> None:
    errors = interpreted["errors"][f"{run}, {length} tokens"]
    assert errors.keys() == {"output", "zxbcdt", *PARAMETERS}
    assert all(error < FLOAT32 for error in errors.values()), errors


def test_their_module_gives_the_same_with_the_same_weights(interpreted: dict[str, Any]) -> None:
    assert interpreted["errors"]["module"]["output"] < FLOAT32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_fused_kernels_keep_what_is_estimated(interpreted: dict[str, Any], precision: Precision) -> None:
    """The estimate less the input of the input projection, which is not the kernels'."""
    width = HEADS * HEAD_WIDTH // 2
    shape = Shape(width, depth=1, mlp_width=1, heads=HEADS, patch_size=1, pixels=22, tokens=22, rows=1)
    execution = Execution(precision, scan="fused")
    saved = find_backbone("adventurer").block_saved_bytes(shape, execution).mixer / (shape.tokens + 2)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert interpreted["saved_bytes_per_token"][str(dtype)] == saved - execution.element_bytes * width
