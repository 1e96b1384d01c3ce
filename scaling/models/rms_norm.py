"""RMSNorm that keeps its input and one number per token for backward, on every device.

torch fuses it on CUDA only; its CPU form keeps two copies of the input and is twenty times slower
than LayerNorm. Shapes: D channels, any leading dimensions.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm (Zhang and Sennrich 2019), with a fused form off CUDA too."""

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """X / rms(x) * weight, over the last dimension."""
        if x.is_cuda or x.dtype != self.weight.dtype:
            return super().forward(x)
        return _RMSNorm.apply(x, self.weight, self.eps)  # pyright: ignore[reportReturnType]


def reciprocal_rms(x: Float[Tensor, "... D"], eps: float) -> Float[Tensor, "... 1"]:
    """1 / sqrt(mean(x^2) + eps)."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    return torch.rsqrt(mean_square + eps)


def rms_norm_backward(
    dy: Float[Tensor, "... D"],
    x: Float[Tensor, "... D"],
    scale: Float[Tensor, "... 1"],
    weight: Float[Tensor, " D"],
    dx: Float[Tensor, "... D"],
    product: Float[Tensor, "... D"],
) -> Float[Tensor, " D"]:
    """Gradient of the weight; that of x is written to `dx`, which may be `dy`. `product` is overwritten."""
    torch.mul(dy, x, out=product)
    dweight = product.reshape(-1, x.shape[-1]).mT @ scale.flatten()
    projection = (product @ weight).unsqueeze(-1) * scale**3 / -x.shape[-1]
    torch.mul(dy, weight, out=dx).mul_(scale).add_(torch.mul(x, projection, out=product))
    return dweight


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = reciprocal_rms(x, eps)
        ctx.save_for_backward(x, scale, weight)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        dx = torch.empty_like(x)
        with torch.autocast("cpu", enabled=False):  # CUDA has its own form above
            dweight = rms_norm_backward(dys[0], x, scale, weight, dx, torch.empty_like(x))
        return dx, dweight, None
