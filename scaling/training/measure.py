"""Costs counted on the real model: FLOPs two ways, and bytes saved for backward.

torch's counter runs on the meta device and autograd's bytes on fake tensors, so neither computes
nor allocates anything, whatever the size of the model.
"""

import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from scaling.design import Cell

with warnings.catch_warnings():
    # fvcore scripts its losses while it is imported, which torch deprecates.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis

# fvcore traces a real forward pass; above this it would take minutes on a CPU.
FVCORE_LIMIT_FLOPS = 50e9
AGREEMENT = 0.01
ELEMENTWISE = ("layer_norm", "upsample_bilinear2d")


@dataclass(frozen=True, slots=True)
class FlopCount:
    """FLOPs per image, one multiply-add being 2; `note` says why fvcore's count differs or lacks."""

    forward: int
    training: int
    fvcore_forward: int | None
    note: str | None


def images_like(cell: Cell, batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    """Images and labels of a cell's shapes, with no meaningful content."""
    side, canvas = cell.design.input_size, cell.data.canvas
    labels = (batch_size,) if cell.data.task == "classification" else (batch_size, canvas, canvas)
    images = torch.zeros(batch_size, 3, side, side, device=device)
    return images, torch.zeros(labels, dtype=torch.long, device=device)


def count_flops(model: nn.Module, cell: Cell) -> FlopCount:
    """Count matrix and convolution products with torch, and cross-check with fvcore."""
    shadow = copy.deepcopy(model).to("meta").train()
    images, labels = images_like(cell, 1, "meta")
    with FlopCounterMode(display=False) as forward:
        shadow(images)
    with FlopCounterMode(display=False) as training:
        F.cross_entropy(shadow(images), labels).backward()
    ours = forward.get_total_flops()
    if not cell.measure.fvcore:
        return FlopCount(ours, training.get_total_flops(), None, "fvcore: switched off in the study")
    if ours > FVCORE_LIMIT_FLOPS:
        return FlopCount(ours, training.get_total_flops(), None, "fvcore: not run, its trace needs a real forward pass")
    theirs, unknown = count_with_fvcore(model, images_like(cell, 1, "cpu")[0])
    apart = theirs / ours - 1
    note = f"fvcore counts {apart:+.1%}; it does not know {', '.join(unknown)}" if abs(apart) > AGREEMENT else None
    return FlopCount(ours, training.get_total_flops(), theirs, note)


def count_with_fvcore(model: nn.Module, images: Tensor) -> tuple[int, list[str]]:
    """Forward FLOPs by fvcore (2 x its multiply-adds), and the operators it does not know.

    It skips scaled_dot_product_attention, which is added here; its own counts of norms and interpolation are
    elementwise work and are left out.
    """
    traced = copy.deepcopy(model).to("cpu").eval()
    analysis = FlopCountAnalysis(traced, images).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    products = sum(count for kind, count in analysis.by_operator().items() if kind not in ELEMENTWISE)
    return 2 * int(products), sorted(analysis.unsupported_ops())


def _attention_products(inputs: list[Any], _outputs: list[Any]) -> int:
    """Multiply-adds of Q K^T and of its product with V: inputs are (B, H, T, P) each."""
    (b, h, t, p), (_, _, s, _), (_, _, _, v) = (value.type().sizes() for value in inputs[:3])
    return b * h * t * s * (p + v)


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for backward after `forward`, each storage counted once."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storages.values())


def activation_bytes_per_image(model: nn.Module, cell: Cell) -> int:
    """Slope of the saved bytes from two images to three, so that parameters and their casts cancel.

    Not from one: a slice of a single image is contiguous, and is kept as a view of the whole.
    """
    half = cell.recipe.precision != "fp32"
    with FakeTensorMode() as fake:
        parameters: dict[str, Tensor] = {name: fake.from_tensor(value) for name, value in model.named_parameters()}

        def saved(batch_size: int) -> int:
            images, labels = images_like(cell, batch_size, "cpu")

            def forward() -> Tensor:
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    logits = functional_call(model, parameters, images)
                return F.cross_entropy(logits.float(), labels)

            return saved_bytes(forward)

        return saved(3) - saved(2)


def peak_memory_bytes_per_image(
    model: nn.Module, cell: Cell, batch_size: int, autocast: Callable[[], AbstractContextManager[Any]]
) -> int | None:
    """Slope of peak allocated CUDA memory of a training step over two batch sizes up to `batch_size`.

    None on a CPU, or where only one image fits.
    """
    if batch_size < 2 or not next(model.parameters()).is_cuda:
        return None

    def peak(count: int) -> int:
        images, labels = images_like(cell, count, "cuda")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        with autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        torch.cuda.synchronize()
        model.zero_grad(set_to_none=False)
        return torch.cuda.max_memory_allocated()

    half = batch_size // 2
    peak(half)  # allocates gradients and workspaces, which would count for the smaller batch only
    small, large = peak(half), peak(2 * half)
    return (large - small) // half
