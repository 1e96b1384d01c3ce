"""A Mamba-2 mixer after its input projection, in plain torch: convolution, scan, gated norm, output projection.

Autograd keeps the operator's inputs and one state per chunk; everything else is computed again in
backward, chunk by chunk. This is what mamba-ssm's fused kernel does (Dao and Gu 2024, Section 7), and on
a CPU it also keeps the work in cache. Shapes as in `stages`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from scaling.models.mamba2.chunks import chunk_backward, chunk_forward
from scaling.models.mamba2.stages import Step, Weights, convolution_backward, gate, gate_backward, read, skip
from scaling.models.mamba2.tiles import CHUNK, Shape, image_groups, scan_flops, spans_of, working_dtype
from scaling.models.mamba2.workspace import workspace_of


@torch.library.custom_op("scaling::mix", mutates_args=())
def mix(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    out_weight: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """norm(silu(z) (SSD(silu(conv(x, B, C)), softplus(dt)) + D x)) projected to the model's width.

    Args:
        zxbcdt: (B, L, Z), the input projection: z, x, B, C and dt.
        conv_weight: (E, K), of a causal depthwise convolution.
        conv_bias: (E,).
        dt_bias: (H,), added to dt before its softplus.
        A_log: (H,); A = -exp(A_log).
        D: (H,), the skip of each head.
        norm_weight: (D,), of the gated RMSNorm.
        out_weight: (W, D), of the output projection, which runs in the type of `zxbcdt`.
        eps: of the norm.

    Returns:
        (B, L, W) in the type of `zxbcdt`; and (B, chunks - 1, N, H, P), the states at the borders of the
        chunks, which backward starts from.
    """
    with torch.autocast(zxbcdt.device.type, enabled=False):
        return _forward(zxbcdt, Weights(conv_weight, conv_bias, dt_bias, A_log, D, norm_weight, out_weight), eps)


def _forward(zxbcdt: Float[Tensor, "B L Z"], given: Weights, eps: float) -> tuple[Tensor, Tensor]:
    dtype = working_dtype(zxbcdt)
    weights, projection = given.to(dtype), given.out_weight.to(zxbcdt.dtype).mT
    spans = spans_of(zxbcdt.shape[1])
    out = zxbcdt.new_empty(*zxbcdt.shape[:2], len(given.out_weight))
    borders = zxbcdt.new_empty(len(out), len(spans) - 1, weights.state, *weights.head_shape, dtype=dtype)
    for images in image_groups(zxbcdt, weights.inner):
        rows = zxbcdt[images]
        state = borders.new_zeros(len(rows), *borders.shape[2:])
        for index, span in enumerate(spans):
            step = Step(span, weights, eps, workspace_of(dtype, rows.device))
            inputs = read(step, rows)
            y, kept = chunk_forward(inputs.chunk, state, step.space)
            gated, _, scale = gate(step, skip(step, y, inputs), inputs.z)
            normed = gated.mul_(scale).mul_(weights.norm_weight)
            out[images, span.start : span.stop] = normed.to(zxbcdt.dtype) @ projection
            if index < len(spans) - 1:
                state = borders[images, index].copy_(kept.states[:, -1])
    return out, borders


@torch.library.custom_op("scaling::mix_backward", mutates_args=())
def mix_backward(
    dout: Tensor,
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    out_weight: Tensor,
    eps: float,
    borders: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the tensors that `mix` takes, in their order."""
    given = Weights(conv_weight, conv_bias, dt_bias, A_log, D, norm_weight, out_weight)
    with torch.autocast(zxbcdt.device.type, enabled=False):
        dzxbcdt, gradients = _backward(dout, zxbcdt, given, eps, borders)
    found = (gradient.to(weight.dtype).contiguous() for gradient, weight in zip(gradients, given, strict=True))
    return dzxbcdt, *found  # pyright: ignore[reportReturnType]


def _backward(
    dout: Float[Tensor, "B L W"],
    zxbcdt: Float[Tensor, "B L Z"],
    given: Weights,
    eps: float,
    borders: Float[Tensor, "B borders N H P"],
) -> tuple[Float[Tensor, "B L Z"], Weights]:
    weights = given.to(borders.dtype)
    gradients = Weights(*map(torch.zeros_like, weights))
    dzxbcdt = torch.empty_like(zxbcdt, memory_format=torch.contiguous_format)
    spans = spans_of(zxbcdt.shape[1])
    for images in image_groups(zxbcdt, weights.inner):
        rows, drows = zxbcdt[images], dzxbcdt[images]
        dstate = borders.new_zeros(len(rows), *borders.shape[2:])
        dlater = borders.new_zeros(len(rows), weights.before, len(weights.conv_bias))
        for index in reversed(range(len(spans))):
            step = Step(spans[index], weights, eps, workspace_of(borders.dtype, rows.device))
            state = borders[images, index - 1] if index else torch.zeros_like(dstate)
            _step_backward(step, dout[images], rows, state, dstate, dlater, drows, gradients)
    gradients.A_log.mul_(-weights.A_log.exp())
    return dzxbcdt, gradients


def _step_backward(
    step: Step,
    dout: Float[Tensor, "b L W"],
    rows: Float[Tensor, "b L Z"],
    state: Float[Tensor, "b N H P"],
    dstate: Float[Tensor, "b N H P"],
    dlater: Float[Tensor, "b before E"],
    drows: Float[Tensor, "b L Z"],
    gradients: Weights,
) -> None:
    """One chunk's share of `drows` and `gradients`.

    `dstate` and `dlater` come from the chunk after it, and are overwritten for the one before it.
    """
    span, weights, space = step.span, step.weights, step.space
    inner, heads = weights.inner, len(weights.D)
    drows = drows[:, span.start : span.stop]
    inputs = read(step, rows)
    y, kept = chunk_forward(inputs.chunk, state, space)
    skipped = skip(step, y, inputs)
    gates = gate(step, skipped, inputs.z)
    dnormed = _projection_backward(step, dout[:, span.start : span.stop], gates, gradients)
    dskipped = gate_backward(step, dnormed, skipped, gates, inputs.z, drows[:, :, :inner], gradients)

    dy = step.padded(dskipped).view(y.shape)
    through = chunk_backward(inputs.chunk, kept, dy, dstate, space)
    dstate.copy_(through.state)
    gradients.A_log.add_(through.A)
    product = space.scratch(*y.shape)
    gradients.D.add_(torch.mul(dy, inputs.chunk.x, out=product).sum((0, 1, 2, 4)))
    through.x.add_(torch.mul(dy, weights.D.unsqueeze(-1), out=product))

    ddt = through.dt.flatten(1, 2)[:, : span.length]
    draw_dt = torch.ops.aten.softplus_backward(ddt, inputs.raw_dt, 1, 20)
    gradients.dt_bias.add_(draw_dt.sum((0, 1)))
    dactive = space.empty(*y.shape[:3], len(weights.conv_bias))
    torch.cat([through.x.flatten(3), through.B, through.C], dim=3, out=dactive)
    dxBC = convolution_backward(step, dactive.flatten(1, 2)[:, : span.length], inputs, dlater, gradients)
    drows[:, :, inner:-heads] = dxBC
    drows[:, :, -heads:] = draw_dt


def _projection_backward(
    step: Step,
    dout: Float[Tensor, "b l W"],
    gates: tuple[Float[Tensor, "b l D"], Float[Tensor, "b l D"], Float[Tensor, "b l 1"]],
    gradients: Weights,
) -> Float[Tensor, "b l D"]:
    """Gradient of the output projection's input, in the working type; its products run in the type of `dout`."""
    gated, _, scale = gates
    weights, space = step.weights, step.space
    normed = torch.mul(gated, scale, out=space.scratch(*gated.shape)).mul_(weights.norm_weight)
    if dout.dtype == space.dtype:
        gradients.out_weight.addmm_(dout.flatten(0, 1).mT, normed.flatten(0, 1))
        return torch.matmul(dout, weights.out_weight, out=space.empty(*gated.shape))
    gradients.out_weight.add_(dout.flatten(0, 1).mT @ normed.flatten(0, 1).to(dout.dtype))
    return space.copy(dout @ weights.out_weight.to(dout.dtype))


@mix.register_fake
def _mix_shapes(zxbcdt: Tensor, *parameters: Any) -> tuple[Tensor, Tensor]:
    _, conv_bias, _, _, D, _, out_weight, _ = parameters
    (batch, length), (width, inner), heads = zxbcdt.shape[:2], out_weight.shape, D.shape[0]
    chunks, state = (length + CHUNK - 1) // CHUNK, (conv_bias.shape[0] - inner) // 2
    borders = zxbcdt.new_empty(batch, chunks - 1, state, heads, inner // heads, dtype=working_dtype(zxbcdt))
    return zxbcdt.new_empty(batch, length, width), borders


@mix_backward.register_fake
def _mix_backward_shapes(dout: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in inputs[:-2])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # else zeros are made for the borders


def _differentiate(ctx: Any, dout: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    *tensors, borders = ctx.saved_tensors
    if dout is None:
        return (None,) * (len(tensors) + 1)
    return *mix_backward(dout, *tensors, ctx.eps, borders), None


mix.register_autograd(_differentiate, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.scaling.mix)
def mix_flops(zxbcdt: Shape, conv_weight: Shape, *others: Any, **options: Any) -> int:
    """Products of the convolution, the scan and the output projection; a multiply-add is 2 FLOPs."""
    (batch, length), (channels, taps), (width, inner) = zxbcdt[:2], conv_weight, others[5]
    per_token = 2 * taps * channels + 2 * inner * width
    return batch * (length * per_token + scan_flops(length, inner, (channels - inner) // 2))


@register_flop_formula(torch.ops.scaling.mix_backward)
def mix_backward_flops(dout: Shape, *forward: Any, **options: Any) -> int:
    """Twice the forward pass; what is computed again is not counted."""
    return 2 * mix_flops(*forward)
