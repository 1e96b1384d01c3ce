"""Memory that is used again for every chunk."""

import math
import threading

import torch
from torch import Tensor


class Workspace:
    """Buffers handed out in the order they are asked for, the same ones again after `clear`.

    On a CPU, first touching fresh pages costs more than the arithmetic that is done in them. CUDA's
    caching allocator has no such cost, so there every buffer is new.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._buffers: list[Tensor] = []
        self._next = 0
        self._scratch: Tensor | None = None

    def empty(self, *shape: int) -> Tensor:
        """An uninitialised tensor, valid until `clear`."""
        if self.device.type != "cpu":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        size = math.prod(shape)
        if self._next == len(self._buffers):
            self._buffers.append(self._allocate(size))
        if self._buffers[self._next].numel() < size:
            self._buffers[self._next] = self._allocate(size)
        self._next += 1
        return self._buffers[self._next - 1][:size].view(shape)

    def _allocate(self, size: int) -> Tensor:
        with torch.inference_mode(False):  # else a buffer made in inference could not be used in training
            return torch.empty(size, dtype=self.dtype, device=self.device)

    def scratch(self, *shape: int) -> Tensor:
        """An uninitialised tensor, valid until the next one: what is used up at once stays in cache."""
        if self.device.type != "cpu":  # streams must not share memory
            return self.empty(*shape)
        if self._scratch is None or self._scratch.numel() < math.prod(shape):
            self._scratch = self._allocate(math.prod(shape))
        return self._scratch[: math.prod(shape)].view(shape)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy in the workspace's type, valid until `clear`."""
        return self.empty(*tensor.shape).copy_(tensor)

    def clear(self) -> None:
        """Take all buffers back."""
        self._next = 0


_kept = threading.local()


def workspace_of(dtype: torch.dtype, device: torch.device) -> Workspace:
    """This thread's workspace, cleared; it is kept from call to call."""
    kept: dict[tuple[torch.dtype, torch.device], Workspace] = _kept.__dict__.setdefault("workspaces", {})
    workspace = kept.setdefault((dtype, device), Workspace(dtype, device))
    workspace.clear()
    return workspace
