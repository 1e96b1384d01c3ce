"""The Mamba-2 mixer as a module (Dao and Gu 2024, Section 7)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scaling.errors import UsageError
from scaling.models.mamba2.kernels import mix_tokens
from scaling.models.mamba2.stages import Weights

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1  # dt starts log-uniform between them
LARGEST_DECAY = 16.0  # A starts uniform between -1 and its negative


class Mamba2Mixer(nn.Module):
    """Projects to z, x, B, C and dt; convolves, scans and gates them; projects back.

    Parameters have the names of mamba-ssm's Mamba2, so that its checkpoints load.

    Args:
        width: channels W of the model.
        head_width: channels P of a state-space head.
        state: state size N.
        expand: inner channels per channel of the model.
        taps: of the causal convolution.
        eps: of the gated norm.

    Raises:
        UsageError: if the inner channels are not a multiple of the head's.
    """

    def __init__(
        self, width: int, head_width: int = 64, state: int = 64, expand: int = 2, taps: int = 4, eps: float = 1e-5
    ) -> None:
        super().__init__()
        inner = expand * width
        if inner % head_width:
            raise UsageError(f"a mixer of {inner} inner channels has no heads of {head_width}: not a multiple")
        heads, convolved = inner // head_width, inner + 2 * state
        self.in_proj = nn.Linear(width, inner + convolved + heads, bias=False)
        self.conv1d = nn.Conv1d(convolved, convolved, taps, groups=convolved, padding=taps - 1)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = nn.RMSNorm(inner, eps=eps)  # its weight only; mix_tokens applies it
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.eps = eps
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start dt log-uniform, A uniform and D at one, as Mamba-2 does."""
        low, high = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
        step = torch.exp(torch.empty_like(self.dt_bias).uniform_(low, high))
        self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.A_log.uniform_(1.0, LARGEST_DECAY).log_()
        self.D.fill_(1.0)

    def forward(self, tokens: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        """Mix tokens causally: an output depends on its own token and those before it."""
        weights = Weights(
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,  # pyright: ignore[reportArgumentType]
            self.dt_bias,
            self.A_log,
            self.D,
            self.norm.weight,
            self.out_proj.weight,
        )
        return mix_tokens(self.in_proj(tokens), weights, self.eps)
