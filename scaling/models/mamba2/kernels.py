"""Which kernels a mixer runs on, decided here and nowhere else.

mamba-ssm's Triton scan and causal-conv1d's convolution run on CUDA where they are installed; anything
else runs in plain torch, with the same weights and results.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scaling.models.mamba2.mixing import mix
from scaling.models.mamba2.ssd import ssd
from scaling.models.mamba2.stages import Weights
from scaling.models.mamba2.tiles import CHUNK, working_dtype

# mamba-ssm's Triton kernels address elements with 32-bit offsets: past this many in a tensor they give
# wrong results without an error (state-spaces/mamba issue 1015). CUDA bounds their launch grid.
LARGEST_OFFSET = 2**31 - 1
LARGEST_GRID = 65_535
COMPILED_PACKAGES = any(importlib.util.find_spec(name) for name in ("mamba_ssm", "causal_conv1d"))

Convolve: TypeAlias = Callable[..., Tensor]
"""causal-conv1d's function: (B, E, L), weight (E, K), bias and activation to (B, E, L)."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Names of the kernels that mixers run on."""

    scan: str
    convolution: str

    def __str__(self) -> str:
        return self.scan if self.scan == self.convolution else f"{self.scan}, {self.convolution}"


def kernels_on(device: str) -> Kernels:
    """The kernels that are used on 'cpu' or 'cuda'."""
    if device != "cuda":
        return Kernels("torch", "torch")
    return Kernels("mamba-ssm" if mamba_ssm() else "torch", "causal-conv1d" if causal_conv1d() else "torch")


@cache
def mamba_ssm() -> ModuleType | None:
    """mamba-ssm's module of Triton kernels for SSD, if it is installed and loads."""
    try:
        return load_mamba_ssm()
    except Exception:  # built for another torch or Triton, it fails in many ways
        return None


def load_mamba_ssm() -> ModuleType:
    """Import mamba-ssm's Triton kernels for SSD, or raise whatever importing them raises.

    Builds without CUDA extensions lack `selective_scan_cuda`, which the package's __init__ imports and
    the Triton kernels do not need; there the package is entered without its __init__.
    """
    name = "mamba_ssm.ops.triton.ssd_combined"
    try:
        return importlib.import_module(name)
    except ImportError:
        found = importlib.util.find_spec("mamba_ssm")
        if found is None:
            raise
    package = ModuleType("mamba_ssm")
    package.__path__ = list(found.submodule_search_locations or ())
    package.__spec__ = found
    sys.modules["mamba_ssm"] = package
    try:
        return importlib.import_module(name)
    except BaseException:
        del sys.modules["mamba_ssm"]
        raise


@cache
def causal_conv1d() -> Convolve | None:
    """causal-conv1d's function, if it is installed and loads."""
    try:
        return importlib.import_module("causal_conv1d").causal_conv1d_fn
    except Exception:  # its extension is built for one torch and one CUDA
        return None


def mix_tokens(zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float) -> Float[Tensor, "B L W"]:
    """A mixer after its input projection, on the kernels of the tensor's device."""
    if zxbcdt.is_cuda and COMPILED_PACKAGES:
        return _mix_with_packages(zxbcdt, weights, eps)
    return mix(zxbcdt, *weights, eps)[0]


@torch.compiler.disable()  # importing them, and their autotuning, cannot be traced
def _mix_with_packages(zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float) -> Float[Tensor, "B L W"]:
    return mix_with(mamba_ssm(), causal_conv1d(), zxbcdt, weights, eps)


def mix_with(
    triton: Any, convolve: Convolve | None, zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float
) -> Float[Tensor, "B L W"]:
    """A mixer on the kernels that are given; mamba-ssm's get no more images at once than they can address."""
    if triton is None:
        if convolve is None:
            return mix(zxbcdt, *weights, eps)[0]
        return _composed_again(None, convolve, zxbcdt, weights, eps)
    images = images_that_fit(*zxbcdt.shape)
    if not images:
        _say_once(f"a sequence of {zxbcdt.shape[1]:,} tokens is too long for mamba-ssm's 32-bit offsets; using torch")
        return mix_with(None, convolve, zxbcdt, weights, eps)
    if images < len(zxbcdt):
        _say_once(f"mamba-ssm runs on {images} images at a time: more would overflow its 32-bit offsets")
    whole = convolve is not None and getattr(triton, "causal_conv1d_fwd_function", None) is not None
    run = fused if whole else _composed_again
    parts = [run(triton, convolve, part, weights, eps) for part in zxbcdt.split(images)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def images_that_fit(batch: int, length: int, channels: int) -> int:
    """Largest batch, at most this one, that mamba-ssm's Triton kernels can address; 0 if no image fits."""
    return min(batch, LARGEST_OFFSET // (length * channels), LARGEST_GRID // -(-length // CHUNK))


def fused(
    triton: Any, _: Convolve | None, zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float
) -> Float[Tensor, "B L W"]:
    """mamba-ssm's one operator for everything after the input projection; it calls causal-conv1d itself."""
    return triton.mamba_split_conv1d_scan_combined(
        zxbcdt,
        weights.conv_weight,
        weights.conv_bias,
        weights.dt_bias,
        _decay(weights),
        D=weights.D,
        chunk_size=CHUNK,
        activation="silu",
        rmsnorm_weight=weights.norm_weight,
        rmsnorm_eps=eps,
        outproj_weight=weights.out_weight,
        headdim=weights.head_shape[1],
        ngroups=1,
        norm_before_gate=False,
    )


def composed(
    triton: Any, convolve: Convolve | None, zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float
) -> Float[Tensor, "B L W"]:
    """The same from separate operators, where only one of the two packages is there."""
    inner, heads, state = weights.inner, len(weights.D), weights.state
    z, xBC, dt = zxbcdt.split([inner, inner + 2 * state, heads], dim=-1)
    taps = weights.conv_weight.to(xBC.dtype), weights.conv_bias.to(xBC.dtype)
    # Contiguous, since causal-conv1d wants strides that are multiples of 8.
    xBC = (convolve or _convolve)(xBC.contiguous().transpose(1, 2), *taps, activation="silu").transpose(1, 2)
    x, B, C = xBC.split([inner, state, state], dim=-1)
    x, A = x.unflatten(-1, weights.head_shape), _decay(weights)
    if triton is None:
        y = ssd(x, F.softplus(dt + weights.dt_bias), A, B, C) + weights.D.unsqueeze(-1) * x
    else:
        options = {"D": weights.D, "dt_bias": weights.dt_bias, "dt_softplus": True}
        y = triton.mamba_chunk_scan_combined(x, dt, A, B.unsqueeze(2), C.unsqueeze(2), CHUNK, **options)
    gated = (y.flatten(2) * F.silu(z)).to(working_dtype(zxbcdt))
    normed = F.rms_norm(gated, (inner,), weights.norm_weight, eps)
    return F.linear(normed.to(zxbcdt.dtype), weights.out_weight.to(zxbcdt.dtype))


def _composed_again(
    triton: Any, convolve: Convolve | None, zxbcdt: Float[Tensor, "B L Z"], weights: Weights, eps: float
) -> Float[Tensor, "B L W"]:
    """`composed`, run again in backward: it would keep six times what the other forms keep."""
    given = triton, convolve, zxbcdt, weights, eps
    return checkpoint(composed, *given, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore[reportReturnType]


def _decay(weights: Weights) -> Float[Tensor, " H"]:
    return -torch.exp(weights.A_log.to(working_dtype(weights.A_log)))


def _convolve(
    xBC: Float[Tensor, "B E L"], weight: Float[Tensor, "E K"], bias: Float[Tensor, " E"], activation: str
) -> Float[Tensor, "B E L"]:
    """A causal depthwise convolution, then SiLU: causal-conv1d's function in torch."""
    padded = F.pad(xBC, (weight.shape[1] - 1, 0))
    return F.silu(F.conv1d(padded, weight.unsqueeze(1), bias, groups=len(bias)))


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
