"""Costs counted on the real model: FLOPs two ways, and bytes saved for backward.

torch's counter runs on the meta device and autograd's bytes on fake tensors, so neither computes
nor allocates anything, whatever the size of the model.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from scaling.cost import Head
from scaling.design import Design
from scaling.models import CascadeMaskRCNN
from scaling.models.mamba2.mixing import mix_flops

with warnings.catch_warnings():
    # fvcore scripts its losses while it is imported, which torch deprecates.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis

# fvcore traces a real forward pass; above this it would take minutes on a CPU.
FVCORE_LIMIT_FLOPS = 50e9
AGREEMENT = 0.01
ELEMENTWISE = ("layer_norm", "upsample_bilinear2d", "adaptive_avg_pool2d")


@dataclass(frozen=True, slots=True)
class FlopCount:
    """FLOPs per image, one multiply-add being 2; `note` says why fvcore's count differs or lacks."""

    forward: int
    training: int
    fvcore_forward: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Example:
    """Height and width of an image and of its label map; None for one label per image."""

    image_sides: tuple[int, int]
    label_sides: tuple[int, int] | None = None

    @classmethod
    def of(cls, design: Design, head: Head) -> "Example":
        """What a design sees with a head."""
        labelled = head.task == "segmentation"
        return cls(design.padded_sides, (head.label_sides or design.input_sides) if labelled else None)

    def batch(self, size: int, device: str) -> tuple[Tensor, Tensor]:
        """Images and labels of these shapes, with no meaningful content."""
        images = torch.zeros(size, 3, *self.image_sides, device=device)
        return images, torch.zeros(size, *(self.label_sides or ()), dtype=torch.long, device=device)


class Countable(nn.Module):
    """A detector whose regions are as many as training samples, whatever is in the images."""

    def __init__(self, detector: CascadeMaskRCNN) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> list[Tensor]:
        """Every output that a loss is taken of."""
        return self.detector.counted(images)


def countable(model: nn.Module) -> nn.Module:
    """A model of images alone, whose work does not depend on what is in them."""
    return Countable(model) if isinstance(model, CascadeMaskRCNN) else model


def count_flops(model: nn.Module, example: Example, fvcore: bool = True) -> FlopCount:
    """Count matrix and convolution products with torch, and cross-check with fvcore if asked to."""
    shadow = countable(copy.deepcopy(model)).to("meta").train()
    images, labels = example.batch(1, "meta")
    with FlopCounterMode(display=False) as forward:
        shadow(images)
    with FlopCounterMode(display=False) as training:
        _loss(shadow(images), labels).backward()
    ours = forward.get_total_flops()
    if not fvcore:
        return FlopCount(ours, training.get_total_flops(), None, "fvcore: switched off in the study")
    if ours > FVCORE_LIMIT_FLOPS:
        return FlopCount(ours, training.get_total_flops(), None, "fvcore: not run, its trace needs a real forward pass")
    theirs, unknown = count_with_fvcore(model, example.batch(1, "cpu")[0])
    apart = theirs / ours - 1
    note = f"fvcore counts {apart:+.1%}; it does not know {', '.join(unknown)}" if abs(apart) > AGREEMENT else None
    return FlopCount(ours, training.get_total_flops(), theirs, note)


def _loss(outputs: Tensor | tuple[Tensor, ...] | list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy of each head's logits; of a detector a sum, since its losses are small beside the rest."""
    if isinstance(outputs, list):
        return torch.stack([each.float().sum() for each in outputs]).sum()
    logits = (outputs,) if isinstance(outputs, Tensor) else outputs
    return torch.stack([F.cross_entropy(each.float(), labels) for each in logits]).sum()


def count_with_fvcore(model: nn.Module, images: Tensor) -> tuple[int, list[str]]:
    """Forward FLOPs by fvcore (2 x its multiply-adds), and the operators it does not know.

    It skips fused attention and mixers, which are added here; its own counts of norms and interpolation are
    elementwise work and are left out.
    """
    traced = countable(copy.deepcopy(model)).to("cpu").train()  # with heads that only train
    analysis = FlopCountAnalysis(traced, images).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_products)
    analysis.set_op_handle("scaling::mix", _mixer_products)
    products = sum(count for kind, count in analysis.by_operator().items() if kind not in ELEMENTWISE)
    return 2 * int(products), sorted(analysis.unsupported_ops())


def _attention_products(inputs: list[Any], _outputs: list[Any]) -> int:
    """Multiply-adds of Q K^T and of its product with V: inputs are (B, H, T, P) each."""
    (b, h, t, p), (_, _, s, _), (_, _, _, v) = (value.type().sizes() for value in inputs[:3])
    return b * h * t * s * (p + v)


def _mixer_products(inputs: list[Any], _outputs: list[Any]) -> int:
    """Multiply-adds of a mixer after its input projection."""
    return mix_flops(*(value.type().sizes() for value in inputs[:8])) // 2


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


def activation_bytes_per_image(model: nn.Module, example: Example, precision: str, rules: str = "cpu") -> int:
    """Slope of the saved bytes from two images to three, so that parameters and their casts cancel.

    Not from one: a slice of a single image is contiguous, and is kept as a view of the whole.

    Args:
        model: on any device; its parameters are replaced by fake ones.
        example: shapes of an image and its label.
        precision: fp32, or bf16 / fp16 autocast.
        rules: whose autocast, 'cpu' or 'cuda'; they differ where softmax is not fused. Without a
            GPU torch's fake CUDA tensors do not know fused attention, so the default is 'cpu'.
    """
    half, model = precision != "fp32", countable(model)
    with FakeTensorMode():
        parameters = {
            name: torch.empty(value.shape, dtype=value.dtype, device=rules, requires_grad=value.requires_grad)
            for name, value in (*model.named_parameters(), *model.named_buffers())
        }

        def saved(batch_size: int) -> int:
            images, labels = example.batch(batch_size, rules)

            def forward() -> Tensor:
                with _forced_autocast(rules, enabled=half):
                    outputs = functional_call(model, parameters, images)
                return _loss(outputs, labels)

            return saved_bytes(forward)

        return saved(3) - saved(2)


@contextmanager
def _forced_autocast(device: str, enabled: bool) -> Iterator[None]:
    """bf16 autocast also for a fake device: torch.autocast switches itself off without a real one."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, enabled)
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
        torch.clear_autocast_cache()
