"""Placement against brute force, the paper's protocol, and designs that do not fit."""

import random

import pytest

from scaling.cost import (
    SAFETY_MARGIN,
    Execution,
    Head,
    cell_speed,
    cost_of,
    cost_of_cell,
    estimate,
    find_hardware,
    place,
    usable_bytes,
)
from scaling.cost.memory import Layout, communication_bytes, even_gpus, state_on_gpu
from scaling.design import Cell, Design
from scaling.errors import UsageError
from tests.conftest import small_study

A100 = find_hardware("a100-80gb")


def test_nodes_of_table_6() -> None:
    """Fewest nodes of 8 that hold a batch of 1,024, and as many as divide it evenly."""
    expected = {"deit": ((1, 1, 2, 8, 32), (1, 1, 2, 8, 32)), "adventurer": ((1, 1, 3, 10, 43), (1, 1, 4, 16, 64))}
    for architecture, (fewest, even) in expected.items():
        for patch_size, nodes, used in zip((16, 8, 4, 2, 1), fewest, even, strict=True):
            found = estimate(Design(architecture, "base", patch_size, 224), execution=Execution("fp16")).placement
            assert found is not None
            assert (found.min_nodes, found.gpus // 8) == (nodes, used)


def fits(design: Design, execution: Execution, gpus: int, images: int) -> bool:
    cost = cost_of(design, Head(), execution)
    state = state_on_gpu(cost, execution, gpus).total
    return state + images * cost.peak_bytes_per_image <= usable_bytes(A100)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_placement_equals_brute_force(sharding: str) -> None:
    draw = random.Random(0)
    for _ in range(60):
        size = draw.choice(["tiny", "base", "large", "huge", "4096x24"])
        design = Design(draw.choice(["deit", "adventurer"]), size, draw.choice([32, 16, 8, 4, 2]), 224)
        execution = Execution(sharding=sharding)  # pyright: ignore[reportArgumentType]
        batch = draw.choice([1, 6, 32, 100, 256])
        counts = [g for g in range(1, batch + 1) if fits(design, execution, g, -(-batch // g))]
        found = place(cost_of(design, Head(), execution), A100, execution, batch)
        if not counts:
            assert found is None
            continue
        assert found is not None
        assert found.min_gpus == counts[0]
        assert found.min_nodes == -(-counts[0] // 8)
        assert found.gpus >= found.min_gpus
        assert batch == found.gpus * found.micro_batch_size * found.accumulation
        assert fits(design, execution, found.gpus, found.images_per_gpu)
        assert not fits(design, execution, found.gpus, found.images_per_gpu + 1)


def test_accumulation_is_the_least_that_fits() -> None:
    design = Design.parse("deit-base/4@224")
    for gpus in (1, 2, 4, 8, 16, 1024):
        found = place(cost_of(design, Head(), Execution()), A100, Execution(), 1024, gpus)
        assert found is not None
        assert found.gpus * found.micro_batch_size * found.accumulation == 1024
        assert found.micro_batch_size <= found.images_per_gpu
        local = 1024 // gpus
        fewer = [count for count in range(1, found.accumulation) if local % count == 0]
        assert all(local // count > found.images_per_gpu for count in fewer)


def test_fsdp_holds_what_ddp_cannot() -> None:
    design = Design.parse("deit-8192x48/16@224")  # 38.7 G parameters, 619 GB of state
    assert place(cost_of(design, Head(), Execution()), A100, Execution(), 1024) is None
    execution = Execution(sharding="fsdp")
    found = place(cost_of(design, Head(), execution), A100, execution, 1024)
    assert found is not None
    assert found.min_gpus > 8


def test_communication_by_hand() -> None:
    cost = cost_of(Design.parse("deit-tiny/16@224"), Head(), Execution("bf16"))
    parameters = cost.parameters.total
    assert communication_bytes(cost, 1, 1, Execution()).total == 0
    assert communication_bytes(cost, 8, 4, Execution()).all_reduce == pytest.approx(2 * 7 / 8 * 4 * parameters)
    sharded = communication_bytes(cost, 8, 4, Execution("bf16", sharding="fsdp"))
    assert sharded.total == pytest.approx(4 * 7 / 8 * (2 + 2 + 4) * parameters)
    assert sharded.all_gather == sharded.reduce_scatter


def test_a_design_that_does_not_fit_says_by_how_much_and_what_would() -> None:
    found = estimate("deit-huge/1@224")
    assert found.placement is None
    assert found.gpu_hours_per_epoch is None
    cost = found.cost
    excess = (cost.training_bytes(1) - usable_bytes(A100)) / 2**30
    assert found.misfit is not None
    assert f"{excess:.1f} GiB more than the {usable_bytes(A100) / 2**30:.1f} GiB" in found.misfit
    assert f"margin of {SAFETY_MARGIN:.0%}" in found.misfit
    assert found.misfit.endswith("it fits with --checkpointing")
    assert estimate("deit-huge/1@224", execution=Execution(checkpointing=True)).placement is not None


@pytest.mark.parametrize(
    ("name", "hardware", "execution", "remedy"),
    [
        ("deit-base/2@224", "rtx-3090", Execution(attention="materialised"), "--attention fused"),
        ("deit-8192x48/16@224", "h200", Execution(), "--sharding fsdp over"),
        ("deit-huge/1@640", "a100-80gb", Execution(), "--hardware h200 with --checkpointing"),
        ("deit-huge/1@2048", "a100-80gb", Execution(), "no known device holds it; use a larger patch"),
    ],
)
def test_the_remedy_is_the_first_that_works(name: str, hardware: str, execution: Execution, remedy: str) -> None:
    misfit = estimate(name, hardware, execution=execution).misfit
    assert misfit is not None
    assert remedy in misfit


def test_the_remedy_names_the_fewest_gpus() -> None:
    design, sharded = Design.parse("deit-8192x48/16@224"), Execution(sharding="fsdp")
    misfit = estimate(design, "a100-80gb", execution=Execution()).misfit
    least = next(count for count in range(1, 1025) if fits(design, sharded, count, 1))
    assert misfit is not None
    assert misfit.endswith(f"it fits with --sharding fsdp over {least} GPUs or more")


def test_a_hopeless_design_with_a_large_batch_is_answered() -> None:
    """The search for GPUs takes a few steps, not one for each of a million."""
    misfit = estimate("deit-16384x100/1@224", batch_size=2**20).misfit
    assert misfit is not None
    assert misfit.endswith("no known device holds it; use a smaller model")


@pytest.mark.parametrize(
    ("batch_size", "gpus", "message"),
    [
        (1024, 7, "a batch of 1024 does not divide over 7 GPUs; use 4 or 8"),
        (8, 16, "a batch of 8 does not divide over 16 GPUs; use 4 or 8"),
        (1024, 0, "at least 1"),
        (0, None, "batch size must be 1 to 1,048,576, not 0"),
        (2**21, None, "batch size must be 1 to 1,048,576"),
    ],
)
def test_impossible_batches_are_refused(batch_size: int, gpus: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        estimate("deit-tiny/16@224", batch_size=batch_size, gpus=gpus)


def test_images_per_step() -> None:
    assert Layout(4, 8, 3).images_per_step == 24


def test_fsdp_state_by_hand() -> None:
    cost = cost_of(Design.parse("deit-tiny/16@224"), Head(), Execution("bf16", sharding="fsdp", ema=True))
    total, block = cost.parameters.total, cost.block_parameters
    assert cost.parameters.blocks == 12 * block
    found = state_on_gpu(cost, Execution("bf16", sharding="fsdp", ema=True), 8)
    assert found.weights == -(-4 * total // 8)
    assert found.optimizer == -(-8 * total // 8)
    assert found.gathered == 2 * (total - 12 * block) + 3 * 2 * block
    assert found.casts == 0
    known = estimate("deit-tiny/16@224", execution=Execution("bf16", sharding="fsdp"), gpus=8)
    assert known.to_json()["model_state_bytes"] == sum(known.breakdown()["model_state_bytes"].values())


@pytest.mark.parametrize(
    ("batch_size", "min_gpus", "gpus"),
    [(1024, 1, 8), (1024, 19, 32), (12, 1, 6), (36, 10, 12), (1, 1, 1), (100, 9, 10), (1021, 256, None)],
)
def test_batches_that_whole_nodes_do_not_divide(batch_size: int, min_gpus: int, gpus: int | None) -> None:
    """The divisor nearest to the nodes needed, from below if there is one; never more than twice as many."""
    if gpus is None:
        with pytest.raises(UsageError, match="needs 256 GPUs, but divides over no number of them up to 512"):
            even_gpus(batch_size, min_gpus, 8)
    else:
        assert even_gpus(batch_size, min_gpus, 8) == gpus


def test_a_micro_batch_of_ones_own() -> None:
    found = estimate("deit-tiny/16@224", batch_size=64, gpus=2, micro_batch_size=4).placement
    assert found is not None
    assert (found.micro_batch_size, found.accumulation) == (4, 8)
    with pytest.raises(UsageError, match="micro-batches of 5 do not divide the 32 images of a GPU"):
        estimate("deit-tiny/16@224", batch_size=64, gpus=2, micro_batch_size=5)
    large = estimate("deit-base/1@224", batch_size=64, gpus=1, micro_batch_size=64)
    assert large.misfit is not None
    assert "64 images need" in large.misfit


def cells_of(**resources: object) -> list[Cell]:
    values = {f"resources__{name}": value for name, value in resources.items()}
    return small_study(recipe__batch_size=64, **values).cells()


def test_a_sharded_cell_holds_its_part_of_the_state() -> None:
    """What is judged to fit is one of its processes."""
    for one, two in zip(cells_of(), cells_of(processes=4, sharding="fsdp"), strict=True):
        whole, part = (cost_of_cell(cell, "recomputed") for cell in (one, two))
        sharded = state_on_gpu(part.final, Execution("fp32", sharding="fsdp"), 4)
        assert whole.training_bytes(0) == whole.final.state.total
        assert part.training_bytes(0) == sharded.total < whole.training_bytes(0)
        assert part.training_bytes(3) - part.training_bytes(0) == 3 * whole.final.peak_bytes_per_image


def test_deit_huge_fits_eight_small_gpus_together() -> None:
    grid = {"grid__sizes": ["huge"], "grid__patch_sizes": [8], "data__task": "classification", "data__digits": 1}
    alone = small_study(**grid).cells()[0]
    eight = small_study(**grid, resources__processes=8, resources__sharding="fsdp").cells()[0]
    memory = 6 << 30
    assert cost_of_cell(alone, "fused").training_bytes(1) > memory > cost_of_cell(eight, "fused").training_bytes(1)


def test_the_speed_of_a_cell_is_that_of_all_its_gpus() -> None:
    one, eight = (cost_of_cell(cells_of(processes=count)[0], "fused") for count in (1, 8))
    single, many = (cell_speed(cost, Layout(gpus, 8, 64 // (gpus * 8)), A100) for cost, gpus in ((one, 1), (eight, 8)))
    assert single is not None
    assert many is not None
    assert single.estimate < many.estimate
