"""Memory that is used again for every chunk."""

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

    def empty(self, *shape: int) -> Tensor:
        """An uninitialised tensor, valid until `clear`."""
        size = 1
        for length in shape:
            size *= length
        if self.device.type != "cpu":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        with torch.inference_mode(False):  # else a buffer made in inference could not be used in training
            if self._next == len(self._buffers):
                self._buffers.append(torch.empty(size, dtype=self.dtype))
            if self._buffers[self._next].numel() < size:
                self._buffers[self._next] = torch.empty(size, dtype=self.dtype)
        self._next += 1
        return self._buffers[self._next - 1][:size].view(shape)

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
