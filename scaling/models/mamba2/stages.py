"""What surrounds the scan of a chunk: convolution before it, skip and gated norm after it; forward and backward.

Shapes: B images, L tokens, H heads, P channels of a head, D = H P inner channels, N state size,
E = D + 2 N convolved channels, K taps of the convolution, Z = D + E + H projected channels, W width;
of a chunk: b images, l tokens, U = l + K - 1 with the tokens before it, n blocks of q, T = n q >= l.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scaling.models.mamba2.chunks import Chunk
from scaling.models.mamba2.tiles import Span
from scaling.models.mamba2.workspace import Workspace
from scaling.models.rms_norm import reciprocal_rms, rms_norm_backward


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of a mixer after its input projection."""

    conv_weight: Float[Tensor, "E K"]
    conv_bias: Float[Tensor, " E"]
    dt_bias: Float[Tensor, " H"]
    A_log: Float[Tensor, " H"]
    D: Float[Tensor, " H"]
    norm_weight: Float[Tensor, " D"]
    out_weight: Float[Tensor, "W D"]

    def __iter__(self) -> Iterator[Tensor]:
        return (getattr(self, name) for name in self.__slots__)

    @property
    def inner(self) -> int:
        """Inner channels."""
        return self.norm_weight.shape[0]

    @property
    def head_shape(self) -> tuple[int, int]:
        """Heads and their channels."""
        heads = self.D.shape[0]
        return heads, self.inner // heads

    @property
    def state(self) -> int:
        """State size."""
        return (self.conv_bias.shape[0] - self.inner) // 2

    @property
    def before(self) -> int:
        """Tokens before a chunk that its convolution reads."""
        return self.conv_weight.shape[1] - 1

    def to(self, dtype: torch.dtype) -> "Weights":
        """The same in another type, with each tap of the convolution in a row: four times faster on a CPU."""
        conv_weight, *others = (tensor.to(dtype) for tensor in self)
        return Weights(conv_weight.T.contiguous().T, *others)


@dataclass(frozen=True, slots=True)
class Step:
    """Work on one chunk: which tokens, with which parameters, in which memory."""

    span: Span
    weights: Weights
    eps: float
    space: Workspace

    def padded(self, tokens: Float[Tensor, "b l *rest"]) -> Float[Tensor, "b n q *rest"]:
        """The blocks of a chunk's tokens, the last filled up with zeros."""
        return self.span.cut(tokens, self.space)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a chunk's gate, convolution and scan."""

    z: Float[Tensor, "b l D"]
    taps: Float[Tensor, "b U E"]
    convolved: Float[Tensor, "b l E"]
    raw_dt: Float[Tensor, "b l H"]
    chunk: Chunk


def read(step: Step, rows: Float[Tensor, "b L Z"]) -> Inputs:
    """Convolve x, B and C of a chunk, and make its dt positive."""
    span, weights, space = step.span, step.weights, step.space
    inner, heads = weights.inner, len(weights.D)
    here = rows[:, span.start : span.stop]
    z = space.copy(here[:, :, :inner]) if rows.dtype != space.dtype else here[:, :, :inner]
    taps = _with_tokens_before(step, rows[:, :, inner:-heads])
    convolved = torch.addcmul(
        weights.conv_bias,
        taps[:, : span.length],
        weights.conv_weight[:, 0],
        out=space.empty(len(rows), span.length, taps.shape[2]),
    )
    for tap in range(1, weights.before + 1):
        convolved.addcmul_(taps[:, tap : tap + span.length], weights.conv_weight[:, tap])
    active = torch.ops.aten.silu.out(convolved, out=space.empty(*convolved.shape))
    raw_dt = here[:, :, -heads:] + weights.dt_bias
    x, B, C = step.padded(active).split([inner, weights.state, weights.state], dim=-1)
    dt = step.padded(F.softplus(raw_dt))
    return Inputs(
        z, taps, convolved, raw_dt, Chunk(x.unflatten(-1, weights.head_shape), dt, -weights.A_log.exp(), B, C)
    )


def _with_tokens_before(step: Step, xBC: Float[Tensor, "b L E"]) -> Float[Tensor, "b U E"]:
    """A chunk's tokens and those before it that the convolution reads; zeros before the first."""
    span, before = step.span, step.weights.before
    if span.start >= before and xBC.dtype == step.space.dtype:
        return xBC[:, span.start - before : span.stop]
    missing = max(0, before - span.start)
    taps = step.space.empty(len(xBC), before + span.length, xBC.shape[2])
    taps[:, :missing] = 0
    taps[:, missing:] = xBC[:, span.start - before + missing : span.stop]
    return taps


def skip(step: Step, y: Float[Tensor, "b n q H P"], inputs: Inputs) -> Float[Tensor, "b l D"]:
    """Y + D x, without the padding; overwrites y."""
    skipped = y.addcmul_(inputs.chunk.x, step.weights.D.unsqueeze(-1))
    return skipped.flatten(3).flatten(1, 2)[:, : step.span.length]


def gate(
    step: Step, y: Float[Tensor, "b l D"], z: Float[Tensor, "b l D"]
) -> tuple[Float[Tensor, "b l D"], Float[Tensor, "b l D"], Float[Tensor, "b l 1"]]:
    """Y silu(z), silu(z), and the reciprocal root mean square of the first."""
    opening = torch.ops.aten.silu.out(z, out=step.space.empty(*z.shape))
    gated = torch.mul(y, opening, out=step.space.empty(*z.shape))
    return gated, opening, reciprocal_rms(gated, step.eps)


def gate_backward(
    step: Step,
    dnormed: Float[Tensor, "b l D"],
    y: Float[Tensor, "b l D"],
    gates: tuple[Float[Tensor, "b l D"], Float[Tensor, "b l D"], Float[Tensor, "b l 1"]],
    z: Float[Tensor, "b l D"],
    dz: Float[Tensor, "b l D"],
    gradients: Weights,
) -> Float[Tensor, "b l D"]:
    """Gradient of y through the gated norm; fills in that of z. Overwrites `dnormed` and what `gate` returned."""
    gated, opening, scale = gates
    product = step.space.scratch(*y.shape)
    dweight = rms_norm_backward(dnormed, gated, scale, step.weights.norm_weight, dnormed, product)
    gradients.norm_weight.add_(dweight)
    dopening = torch.mul(dnormed, y, out=product)
    into = dz if dz.dtype == gated.dtype else gated
    torch.ops.aten.silu_backward.grad_input(dopening, z, grad_input=into)
    if into is not dz:
        dz.copy_(into)
    return dnormed.mul_(opening)


def convolution_backward(
    step: Step,
    dactive: Float[Tensor, "b l E"],
    inputs: Inputs,
    dlater: Float[Tensor, "b before E"],
    gradients: Weights,
) -> Float[Tensor, "b l E"]:
    """Gradient of x, B and C as projected.

    `dlater` holds what the chunk after this one adds to its last tokens, and takes what this one adds
    to the chunk before it.
    """
    length, before = step.span.length, step.weights.before
    dconvolved = torch.ops.aten.silu_backward.grad_input(
        dactive, inputs.convolved, grad_input=step.space.empty(*dactive.shape)
    )
    gradients.conv_bias.add_(dconvolved.sum((0, 1)))
    product = step.space.scratch(*dactive.shape)
    dtaps = step.space.empty(*inputs.taps.shape)
    dtaps[:, :length] = 0
    dtaps[:, length:] = dlater
    for tap in range(before + 1):
        here = slice(tap, tap + length)
        gradients.conv_weight[:, tap].add_(torch.mul(dconvolved, inputs.taps[:, here], out=product).sum((0, 1)))
        dtaps[:, here].addcmul_(dconvolved, step.weights.conv_weight[:, tap])
    dlater.copy_(dtaps[:, :before])
    return dtaps[:, before:]
