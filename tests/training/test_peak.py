"""The peak of a training step against torch's memory tracker, on fake tensors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from scaling.cost import Execution, Head, cost_of
from scaling.design import Design, Precision
from scaling.models import build_model
from scaling.training.check import configure, reentrant_checkpoints
from scaling.training.measure import Example

CLASSIFIER = Head()
LARGE, SMALL = 96, 64  # images; few enough would hide activations behind gradients of weights


def tracked_peak(design: Design, head: Head, execution: Execution, batch_size: int) -> int:
    with torch.device("meta"):
        model = build_model(design, head.classes, auxiliary=head.auxiliary)
    configure(model, execution)
    with FakeTensorMode(), reentrant_checkpoints():  # the kind with the higher peak
        for module in model.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = nn.Parameter(torch.empty(value.shape, dtype=value.dtype))
        images, labels = Example.of(design, head).batch(batch_size, "cpu")
        tracker = MemTracker()
        tracker.track_external(model, images, labels)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=execution.autocast):
                logits = model(images)
            logits = [each.float() for each in ((logits,) if isinstance(logits, torch.Tensor) else logits)]
            sum(F.cross_entropy(each, labels) for each in logits).backward()

        step()  # allocates the gradients of weights
        with tracker:
            step()
        return next(iter(tracker.get_tracker_snapshot("peak").values()))["Total"]


@pytest.mark.parametrize(
    "name",
    [
        "deit-128x2/8@224",
        pytest.param("deit-tiny/8@224", marks=pytest.mark.slow),
        pytest.param("deit-base/8@224", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "execution",
    [
        Execution("bf16"),
        Execution("fp32"),
        Execution("bf16", checkpointing=True),
        Execution("fp32", checkpointing=True),
        Execution("fp32", attention="materialised"),
        Execution("fp32", attention="materialised", checkpointing=True),
    ],
    ids=lambda value: f"{value.precision}-{value.attention}-{'checkpointing' * value.checkpointing}",
)
def test_the_peak_is_an_upper_bound_and_a_close_one(name: str, execution: Execution) -> None:
    upper_and_close(name, execution)


@pytest.mark.parametrize(
    "name", ["adventurer-256x3/8@224", pytest.param("adventurer-tiny/8@224", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_peak_of_an_adventurer(precision: Precision, checkpointing: bool, name: str) -> None:
    upper_and_close(name, Execution(precision, scan="recomputed", checkpointing=checkpointing))


@pytest.mark.parametrize("execution", [Execution("bf16"), Execution("fp32"), Execution("bf16", checkpointing=True)])
@pytest.mark.parametrize(
    ("head", "auxiliary", "classes"),
    [("linear", False, 11), ("linear", False, 150), ("upernet", False, 11), ("upernet", True, 150)],
)
def test_the_peak_of_a_segmenter(head: str, auxiliary: bool, classes: int, execution: Execution) -> None:
    design = Design.parse(f"deit-128x4/8@112+{head}")
    upper_and_close(str(design), execution, Head(classes, design.head, auxiliary=auxiliary))


def upper_and_close(name: str, execution: Execution, head: Head = CLASSIFIER) -> None:
    design = Design.parse(name)
    large, small = (tracked_peak(design, head, execution, images) for images in (LARGE, SMALL))
    slope = (large - small) / (LARGE - SMALL)
    ours = cost_of(design, head, execution).peak_bytes_per_image
    assert 1 <= ours / slope < 1.1
