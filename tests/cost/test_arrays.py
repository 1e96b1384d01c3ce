"""A million designs at once give what one at a time gives."""

import random

import numpy as np
import pytest

from scaling.cost import Execution, Head, Interval, estimate, estimate_arrays, find_hardware, shape_arrays
from scaling.design import Design, DesignError
from scaling.errors import UsageError

FIELDS = ("images_per_gpu", "min_gpus", "min_nodes", "gpus", "micro_batch_size", "accumulation")


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
@pytest.mark.parametrize(("gpus", "batch_size"), [(None, 1024), (None, 36), (16, 1024)])
def test_arrays_equal_single_estimates(architecture: str, gpus: int | None, batch_size: int) -> None:
    draw = random.Random(1)
    sizes = [(64 * draw.randint(1, 40), draw.randint(1, 48), draw.choice([16, 8, 4, 2, 1])) for _ in range(40)]
    sizes.append((8192, 64, 1))  # fits no GPU
    width, depth, patch_size = np.array(sizes).T
    shape = shape_arrays(architecture, width=width, depth=depth, patch_size=patch_size, input_size=112)
    found = estimate_arrays(architecture, shape, batch_size=batch_size, gpus=gpus, execution=Execution("fp16"))
    for index, (d, blocks, p) in enumerate(sizes):
        design = Design(architecture, f"{d}x{blocks}", p, 112)
        one = estimate(design, batch_size=batch_size, gpus=gpus, execution=Execution("fp16"))
        assert found.parameters[index] == one.cost.parameters.total
        assert found.training_flops_per_image[index] == pytest.approx(one.cost.training_flops_per_image, rel=1e-14)
        assert found.saved_activation_bytes_per_image[index] == one.cost.activation_bytes_per_image
        assert found.fits[index] == (one.placement is not None)
        if one.placement is None:
            assert np.isnan(found.gpu_hours_per_epoch[index])
            continue
        for field in FIELDS:
            assert getattr(found, field)[index] == getattr(one.placement, field), field
        hours: Interval | None = one.gpu_hours_per_epoch
        assert hours is not None
        assert found.gpu_hours_per_epoch[index] == pytest.approx(hours.estimate, rel=1e-12)
        assert found.gpu_hours_per_epoch_low[index] == pytest.approx(hours.low, rel=1e-12)
        assert found.gpu_hours_per_epoch_high[index] == pytest.approx(hours.high, rel=1e-12)
    assert not found.fits[-1]
    assert found.fits.sum() > 20


def test_shapes_broadcast() -> None:
    shape = shape_arrays("deit", width=[[192], [384]], depth=12, patch_size=[16, 8, 4], input_size=224)
    assert shape.tokens.shape == (2, 3)
    assert estimate_arrays("deit", shape).gpu_hours_per_epoch.shape == (2, 3)


def test_dense_heads_label_the_pixels_of_each_input() -> None:
    shape = shape_arrays("deit", width=[128, 256], depth=12, patch_size=16, input_size=[112, 512])
    for kind in ("linear", "upernet"):
        found = estimate_arrays("deit", shape, head=Head(150, kind))
        for index, name in enumerate((f"deit-128x12/16@112+{kind}", f"deit-256x12/16@512+{kind}")):
            one = estimate(name, classes=150).cost
            assert found.parameters[index] == one.parameters.total
            assert found.forward_flops_per_image[index] == one.forward_flops_per_image
            assert found.saved_activation_bytes_per_image[index] == one.activation_bytes_per_image
            assert found.peak_activation_bytes_per_image[index] == one.peak_bytes_per_image


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"train_images": -5}])
def test_absurd_settings_are_refused_as_for_one(changes: dict[str, int]) -> None:
    shape = shape_arrays("deit", width=192, depth=12, patch_size=16, input_size=224)
    with pytest.raises(UsageError, match="must be 1 to"):
        estimate_arrays("deit", shape, **changes)  # pyright: ignore[reportArgumentType]


def test_fsdp_with_a_number_of_gpus() -> None:
    execution = Execution("bf16", sharding="fsdp")
    shape = shape_arrays("deit", width=[1280], depth=32, patch_size=4, input_size=224)
    one = estimate("deit-huge/4@224", execution=execution, gpus=64).gpu_hours_per_epoch
    assert one is not None
    found = estimate_arrays("deit", shape, execution=execution, gpus=64)
    assert found.gpu_hours_per_epoch[0] == pytest.approx(one.estimate, rel=1e-12)
    assert np.isnan(found.min_gpus[0])
    with pytest.raises(UsageError, match="fsdp over arrays"):
        estimate_arrays("deit", shape, execution=execution)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": [192, 100]}, "width 100 is not a multiple of 64"),
        ({"patch_size": 15}, "patch size 15 does not divide input size 224"),
        ({"depth": 0}, "whole numbers from 1"),
        ({"width": [192.5]}, "whole numbers from 1"),
        ({"width": [float("nan")]}, "whole numbers from 1"),
    ],
)
def test_bad_arrays_are_refused(changes: dict[str, object], message: str) -> None:
    values = {"width": 192, "depth": 12, "patch_size": 16, "input_size": 224} | changes
    with pytest.raises((UsageError, DesignError), match=message):
        shape_arrays("deit", **values)  # pyright: ignore[reportArgumentType]


def test_unknown_rates_are_refused() -> None:
    shape = shape_arrays("deit", width=192, depth=12, patch_size=16, input_size=224)
    with pytest.raises(UsageError, match="v100 has no rate for precision 'bf16'"):
        estimate_arrays("deit", shape, find_hardware("v100"), execution=Execution("bf16"))
