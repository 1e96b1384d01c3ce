"""Closed forms of the detector against counts on the built model: parameters, products, and bytes kept by autograd."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from scaling.cost import Cost, Execution, Head, cost_of, cost_of_shape, shape_arrays
from scaling.design import Design, Detector
from scaling.models import build_model
from scaling.training.measure import _forced_autocast, saved_bytes

# Patches below, at and above the strides; no power of 2; inputs that patches do not divide; wider pyramids than 256.
NAMES = (
    *("deit-nano/4@64+cascade", "deit-nano/16@64+cascade", "adventurer-nano/64@64+cascade"),
    *("deit-nano/6@64x100+cascade", "adventurer-micro/3@50+cascade", "deit-nano/128@200+cascade"),
    "deit-base/16@200+cascade",
)
FEW = Detector(strides=(2, 4, 8), sampled_regions=64)


class Counted(nn.Module):
    """What training samples, for whatever is in the images."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.detector.counted(images)  # pyright: ignore[reportCallIssue]


def built(design: Design, head: Head) -> Counted:
    with torch.device("meta"):
        return Counted(build_model(design, head.classes, detector=head.detector).train())


def cost(name: str, head: Head, precision: str = "fp32") -> Cost:
    return cost_of(Design.parse(name), head, Execution(precision, scan="recomputed"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("settings", [Detector(), FEW])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_products_are_those_of_the_model(name: str, settings: Detector) -> None:
    design, head = Design.parse(name), Head(7, "cascade", detector=settings)
    model, found = built(design, head), cost(name, head)
    assert found.parameters.total == sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as forward:
        model(torch.zeros(1, 3, *design.padded_sides, device="meta"))
    assert found.forward.total == forward.get_total_flops()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_saved_bytes_are_what_autograd_keeps(name: str, precision: str) -> None:
    design, head = Design.parse(name), Head(7, "cascade")
    assert cost(name, head, precision).saved.total == kept_bytes(built(design, head), design, precision)


def kept_bytes(model: nn.Module, design: Design, precision: str) -> int:
    """By autograd, of one image: the slope over batches, so that parameters cancel."""
    with FakeTensorMode():
        fakes = {key: torch.empty(one.shape, requires_grad=True) for key, one in model.named_parameters()}

        def saved(batch_size: int) -> int:
            images = torch.zeros(batch_size, 3, *design.padded_sides)

            def forward() -> list[Tensor]:
                with _forced_autocast("cpu", precision != "fp32"):
                    return functional_call(model, fakes, images)

            return saved_bytes(forward)  # pyright: ignore[reportArgumentType]

        return saved(3) - saved(2)


@pytest.mark.parametrize("name", ["deit-64x6/4@64x100+cascade", "deit-64x3/4@64+cascade", "deit-64x6/4@24+cascade"])
def test_windows_of_attention_are_counted(name: str) -> None:
    """Whole windows and those that are left at two edges; all blocks global; one window."""
    design, head = Design.parse(name), Head(7, "cascade", detector=Detector(attention_window=7, sampled_regions=64))
    model = built(design, head)
    with FlopCounterMode(display=False) as forward:
        model(torch.zeros(1, 3, *design.padded_sides, device="meta"))
    assert cost(name, head).forward.total == forward.get_total_flops()
    for precision in ("fp32", "bf16"):
        assert cost(name, head, precision).saved.total == kept_bytes(model, design, precision)


def test_many_designs_at_once_are_each_their_own() -> None:
    patches, execution, head = [64, 40, 16, 10, 4, 1], Execution("bf16"), Head(80, "cascade")
    shape = shape_arrays("deit", width=[[192], [768]], depth=12, patch_size=patches, input_size=320)
    found = cost_of_shape("deit", shape, head, execution)
    for row, size in enumerate(("tiny", "base")):
        for column, patch in enumerate(patches):
            alone = cost_of(Design.parse(f"deit-{size}/{patch}@320+cascade"), head, execution)
            for name in ("parameters", "forward", "saved"):
                values = np.broadcast_to(getattr(found, name).head, (2, len(patches)))
                assert values[row, column] == getattr(alone, name).head


def test_the_pyramid_of_an_input_that_patches_do_not_divide_is_that_of_the_padded_one() -> None:
    head = Head(80, "cascade")
    assert cost("deit-tiny/64@800+cascade", head).forward.head == cost("deit-tiny/64@832+cascade", head).forward.head
