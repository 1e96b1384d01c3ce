"""State-space duality (SSD) within one chunk, forward and backward (Dao and Gu 2024, Sections 6 and 7).

The recurrence of a head, with decay a_t = dt_t A, is

    h_t = exp(a_t) h_(t-1) + dt_t B_t x_t^T,    y_t = C_t h_t.

A chunk is cut into n blocks of q tokens. Inside a block it is a masked matrix product, which is what
the duality says; between blocks a state is carried. Nothing here is tracked by autograd: the backward
pass is written out, so that a chunk's intermediates live only while it is worked on.

Shapes: b images, n blocks, m = n + 1 borders of blocks, q tokens of a block, H heads, P channels of a
head, N state size.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scaling.models.mamba2.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Chunk:
    """Inputs of one chunk, cut into blocks; padding has dt = 0 and changes nothing."""

    x: Float[Tensor, "b n q H P"]
    dt: Float[Tensor, "b n q H"]
    A: Float[Tensor, " H"]
    B: Float[Tensor, "b n q N"]
    C: Float[Tensor, "b n q N"]


@dataclass(frozen=True, slots=True)
class Intermediates:
    """What the forward pass of a chunk leaves for its backward pass."""

    scaled: Float[Tensor, "b n H q P"]
    """dt x, heads first."""
    decays: Float[Tensor, "b n H q q"]
    """exp(a_(u+1) + ... + a_t) from token u to token t; 1 above the diagonal, where scores are 0."""
    mixing: Float[Tensor, "b n H q q"]
    """Decayed scores: the matrix that the duality multiplies with."""
    from_start: Float[Tensor, "b n q H"]
    """Decay from the state that enters a block to token t."""
    to_end: Float[Tensor, "b n q H"]
    """Decay from token t to the state that leaves the block."""
    weighted: Float[Tensor, "b n q H P"]
    """dt x, decayed to the end of the block."""
    states: Float[Tensor, "b m N H P"]
    """The state that enters each block, and last the one that leaves the chunk."""
    carried: Float[Tensor, "b n q H P"]
    """The part of the outputs that comes from the states."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of a chunk's inputs, and of the state that entered it."""

    x: Float[Tensor, "b n q H P"]
    dt: Float[Tensor, "b n q H"]
    A: Float[Tensor, " H"]
    B: Float[Tensor, "b n q N"]
    C: Float[Tensor, "b n q N"]
    state: Float[Tensor, "b N H P"]


def chunk_forward(
    chunk: Chunk, state: Float[Tensor, "b N H P"], space: Workspace
) -> tuple[Float[Tensor, "b n q H P"], Intermediates]:
    """Outputs of a chunk, given the state that enters it.

    Decays are sums of logarithms, and only differences that are at most 0 are exponentiated, so no
    length and no decay can overflow.
    """
    x, dt, B, C = chunk.x, chunk.dt, chunk.B, chunk.C
    b, n, q, H, P = x.shape
    total = torch.cumsum(dt * chunk.A, dim=2)
    total_by_head = total.transpose(2, 3)
    scaled = torch.mul(x.transpose(2, 3), dt.transpose(2, 3).unsqueeze(-1), out=space.empty(b, n, H, q, P))
    decays = torch.sub(total_by_head.unsqueeze(-1), total_by_head.unsqueeze(-2), out=space.empty(b, n, H, q, q))
    decays.clamp_(max=0).exp_()
    scores = (C @ B.mT).tril_()
    mixing = torch.mul(decays, scores.unsqueeze(2), out=space.empty(b, n, H, q, q))
    within = torch.matmul(mixing, scaled, out=space.empty(b, n, H, q, P))
    from_start, to_end = total.exp(), (total[:, :, -1:] - total).exp_()
    weighted = torch.mul(x, (dt * to_end).unsqueeze(-1), out=space.empty(b, n, q, H, P))
    states = _carry(B, weighted, from_start[:, :, -1], state, space)
    carried = torch.matmul(C, states[:, :-1].flatten(3), out=space.empty(b, n, q, H * P)).view(x.shape)
    carried.mul_(from_start.unsqueeze(-1))
    y = torch.add(carried, within.transpose(2, 3), out=space.empty(b, n, q, H, P))
    return y, Intermediates(scaled, decays, mixing, from_start, to_end, weighted, states, carried)


def chunk_backward(
    chunk: Chunk,
    kept: Intermediates,
    dy: Float[Tensor, "b n q H P"],
    dstate: Float[Tensor, "b N H P"],
    space: Workspace,
) -> Gradients:
    """Gradients of a chunk, given those of its outputs y and of the state that leaves it."""
    x, dt, B, C = chunk.x, chunk.dt, chunk.B, chunk.C
    b, n, q, H, P = x.shape
    N = B.shape[3]
    dy_by_head = space.empty(b, n, H, q, P).copy_(dy.transpose(2, 3))
    dmixing = torch.matmul(dy_by_head, kept.scaled.mT, out=space.empty(b, n, H, q, q))
    within_blocks = _differences(torch.mul(dmixing, kept.mixing, out=space.scratch(b, n, H, q, q)))
    dscores = dmixing.mul_(kept.decays).sum(2).tril_()
    within = torch.matmul(kept.mixing.mT, dy_by_head, out=space.empty(b, n, H, q, P))

    decayed = torch.mul(dy, kept.from_start.unsqueeze(-1), out=space.empty(b, n, q, H, P)).flatten(3)
    dC = dscores @ B + decayed @ kept.states[:, :-1].flatten(3).mT
    dstates = _carry_back(C, decayed.view(x.shape), kept.from_start[:, :, -1], dstate, space)
    leaving = dstates[:, 1:].flatten(3)
    dB = dscores.mT @ C + kept.weighted.flatten(3) @ leaving.mT
    dscaled = torch.matmul(B, leaving, out=space.empty(b, n, q, H * P)).view(x.shape)
    dscaled.mul_(kept.to_end.unsqueeze(-1))

    product = space.scratch(b, n, q, H, P)
    into_state = torch.mul(dscaled, x, out=product).sum(-1).mul_(dt)
    ddt = torch.mul(dscaled.add_(within.transpose(2, 3)), x, out=product).sum(-1)
    from_state = torch.mul(dy, kept.carried, out=product).sum(-1)
    across = torch.mul(dstates[:, 1:], kept.states[:, :-1], out=space.scratch(b, n, N, H, P)).sum((2, 4))
    # A token's decay acts on what later tokens read of the state, what earlier ones add, and what crosses the block.
    dlog = (within_blocks + from_state).flip(2).cumsum(2).flip(2)
    dlog[:, :, 1:] += into_state[:, :, :-1].cumsum(2)
    dlog += (across * kept.from_start[:, :, -1]).unsqueeze(2)
    return Gradients(
        x=dscaled.mul_(dt.unsqueeze(-1)),
        dt=ddt.addcmul_(dlog, chunk.A),
        A=(dlog * dt).sum((0, 1, 2)),
        B=dB,
        C=dC,
        state=dstates[:, 0],
    )


def _differences(dlogs: Float[Tensor, "b n H q q"]) -> Float[Tensor, "b n q H"]:
    """Gradients of the logarithms' sums: rows less columns, without the diagonal, which decays by nothing.

    With the diagonal both sums would be cheaper (dy . y and x . dx), and their difference noise for
    heads that forget fast. Overwrites its argument.
    """
    dlogs.diagonal(dim1=-2, dim2=-1).zero_()
    return (dlogs.sum(-1) - dlogs.sum(-2)).transpose(2, 3)


def _carry(
    B: Float[Tensor, "b n q N"],
    weighted: Float[Tensor, "b n q H P"],
    decay: Float[Tensor, "b n H"],
    state: Float[Tensor, "b N H P"],
    space: Workspace,
) -> Float[Tensor, "b m N H P"]:
    """States at the borders of the blocks, the one that enters first; all heads share B, so one product adds."""
    b, n, _, H, P = weighted.shape
    states = space.empty(b, n + 1, B.shape[3], H, P)
    states[:, 0] = state
    decay = decay.repeat_interleave(P, dim=2).unsqueeze(2)
    for block in range(n):
        later = states[:, block + 1].flatten(2)
        torch.mul(states[:, block].flatten(2), decay[:, block], out=later)
        torch.baddbmm(later, B[:, block].mT, weighted[:, block].flatten(2), out=later)
    return states


def _carry_back(
    C: Float[Tensor, "b n q N"],
    decayed: Float[Tensor, "b n q H P"],
    decay: Float[Tensor, "b n H"],
    dstate: Float[Tensor, "b N H P"],
    space: Workspace,
) -> Float[Tensor, "b m N H P"]:
    """Gradients of the states at the borders of the blocks."""
    b, n, _, H, P = decayed.shape
    dstates = space.empty(b, n + 1, C.shape[3], H, P)
    dstates[:, -1] = dstate
    decay = decay.repeat_interleave(P, dim=2).unsqueeze(2)
    for block in reversed(range(n)):
        earlier = dstates[:, block].flatten(2)
        torch.mul(dstates[:, block + 1].flatten(2), decay[:, block], out=earlier)
        torch.baddbmm(earlier, C[:, block].mT, decayed[:, block].flatten(2), out=earlier)
    return dstates
