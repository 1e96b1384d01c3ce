"""State-space duality (SSD) as one differentiable operator, and the recurrence that it equals.

Shapes: B images, L tokens, H heads, P channels of a head, N state size; b, n, q as in `chunks`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from scaling.models.mamba2.chunks import Chunk, chunk_backward, chunk_forward
from scaling.models.mamba2.tiles import CHUNK, Shape, Span, image_groups, scan_flops, spans_of, working_dtype
from scaling.models.mamba2.workspace import Workspace, workspace_of


def ssd(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
) -> Float[Tensor, "B L H P"]:
    """Selective state-space scan by its dual form (Dao and Gu 2024, Section 6).

    Computed in float32 for 16-bit inputs. Backward starts again from one state per chunk.

    Args:
        x: inputs.
        dt: positive step sizes.
        A: negative decay rate of each head.
        B: input maps, shared by all heads.
        C: output maps, shared by all heads.

    Returns:
        Outputs, in the type of x.
    """
    return scan(x, dt, A, B, C)[0]


def ssd_recurrence(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
) -> Float[Tensor, "B L H P"]:
    """The same token by token (Dao and Gu 2024, equation 2): slow, and plain enough to be right."""
    state = x.new_zeros(x.shape[0], x.shape[2], B.shape[2], x.shape[3])
    outputs = []
    for token in range(x.shape[1]):
        step = dt[:, token]
        state = state * torch.exp(step * A)[..., None, None]
        state = state + torch.einsum("bh,bn,bhp->bhnp", step, B[:, token], x[:, token])
        outputs.append(torch.einsum("bn,bhnp->bhp", C[:, token], state))
    return torch.stack(outputs, dim=1)


@torch.library.custom_op("scaling::ssd", mutates_args=())
def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """As `ssd`, and the states at the borders of the chunks."""
    dtype = working_dtype(x)
    batch, length, heads, channels = x.shape
    spans = spans_of(length)
    y = x.new_empty(x.shape)
    borders = x.new_empty(batch, len(spans) - 1, B.shape[2], heads, channels, dtype=dtype)
    with torch.autocast(x.device.type, enabled=False):
        for images in image_groups(x, heads * channels):
            state = borders.new_zeros(len(x[images]), *borders.shape[2:])
            for index, span in enumerate(spans):
                space = workspace_of(dtype, x.device)
                chunk = _chunk(span, x[images], dt[images], A, B[images], C[images], space)
                outputs, kept = chunk_forward(chunk, state, space)
                y[images, span.start : span.stop] = outputs.flatten(1, 2)[:, : span.length]
                if index < len(spans) - 1:
                    state = borders[images, index].copy_(kept.states[:, -1])
    return y, borders


@torch.library.custom_op("scaling::ssd_backward", mutates_args=())
def scan_backward(
    dy: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, borders: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the tensors that `scan` takes, in their order."""
    dx, ddt, dB, dC = (torch.empty_like(given, memory_format=torch.contiguous_format) for given in (x, dt, B, C))
    dA = torch.zeros_like(A, dtype=borders.dtype)
    spans = spans_of(x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        for images in image_groups(x, x.shape[2] * x.shape[3]):
            dstate = borders.new_zeros(len(x[images]), *borders.shape[2:])
            for index in reversed(range(len(spans))):
                span, space = spans[index], workspace_of(borders.dtype, x.device)
                chunk = _chunk(span, x[images], dt[images], A, B[images], C[images], space)
                state = borders[images, index - 1] if index else torch.zeros_like(dstate)
                _, kept = chunk_forward(chunk, state, space)
                dy_here = span.cut(dy[images, span.start : span.stop].to(borders.dtype), space)
                found = chunk_backward(chunk, kept, dy_here, dstate, space)
                dstate.copy_(found.state)
                dA.add_(found.A)
                for gradient, part in ((dx, found.x), (ddt, found.dt), (dB, found.B), (dC, found.C)):
                    gradient[images, span.start : span.stop] = part.flatten(1, 2)[:, : span.length]
    return dx, ddt, dA.to(A.dtype), dB, dC


def _chunk(span: Span, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, space: Workspace) -> Chunk:
    """One chunk's inputs in the working type."""
    cut = [span.cut(given[:, span.start : span.stop].to(space.dtype), space) for given in (x, dt, B, C)]
    return Chunk(cut[0], cut[1], A.to(space.dtype), cut[2], cut[3])


@scan.register_fake
def _scan_shapes(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    chunks = (x.shape[1] + CHUNK - 1) // CHUNK
    borders = x.new_empty(x.shape[0], chunks - 1, B.shape[2], *x.shape[2:], dtype=working_dtype(x))
    return x.new_empty(x.shape), borders


@scan_backward.register_fake
def _scan_backward_shapes(dy: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(given, memory_format=torch.contiguous_format) for given in inputs[:-1])


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # else zeros are made for the borders


def _differentiate(ctx: Any, dy: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * len(ctx.saved_tensors[:-1])
    return scan_backward(dy, *ctx.saved_tensors)


scan.register_autograd(_differentiate, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.scaling.ssd)
def ssd_flops(x: Shape, dt: Shape, A: Shape, B: Shape, *others: Any, **options: Any) -> int:
    """Products of the dual form; a multiply-add is 2 FLOPs."""
    batch, length, heads, channels = x
    return batch * scan_flops(length, heads * channels, B[2])


@register_flop_formula(torch.ops.scaling.ssd_backward)
def ssd_backward_flops(dy: Shape, *forward: Any, **options: Any) -> int:
    """Twice the forward pass; what is computed again is not counted."""
    return 2 * ssd_flops(*forward)
