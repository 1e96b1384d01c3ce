"""Devices that ship, devices of one's own, architectures of one's own, and published recipes."""

import pytest

from scaling.cost import (
    Backbone,
    BlockParameters,
    BlockSaved,
    ElementwiseFlops,
    Execution,
    Flops,
    Head,
    Request,
    Shape,
    constants_of,
    cost_of,
    estimate,
    find_hardware,
    hardware_names,
    hardware_of_device,
    recipe_names,
    register_architecture,
    stages_of,
)
from scaling.cost import architectures as registry
from scaling.design import (
    Architecture,
    Design,
    DesignError,
    ModelSize,
    StudyError,
    build_study,
    known_architectures,
    parse_study,
    study_to_toml,
)
from scaling.errors import UsageError
from tests.cli.command import scaling_afresh
from tests.conftest import study_values

OWN = {
    "memory_bytes": 16_000_000_000,
    "peak_flops": {"fp16": 65e12, "fp32": 8e12},
    "bandwidth_bytes_per_second": 320e9,
    "link_bytes_per_second": 16e9,
    "network_bytes_per_second": 1.25e9,
    "power_watts": 70,
}


EFFICIENCY = {
    "products": 0.5,
    "attention": 0.5,
    "scan": 0.5,
    "bandwidth": 0.7,
    "step_overhead_seconds": 0.01,
    "source": "measured",
}


@pytest.mark.parametrize("name", hardware_names())
def test_every_device_is_complete_and_estimates(name: str) -> None:
    device = find_hardware(name)
    assert device.source
    assert device.description
    assert device.name == name
    found = estimate("deit-tiny/16@224", name)
    assert found.gpu_hours_per_epoch is not None
    assert 0 < found.gpu_hours_per_epoch.low < found.gpu_hours_per_epoch.high < 1000
    assert constants_of(device).source


def test_faster_devices_take_less_time() -> None:
    hours = []
    for name in ("v100", "a100-80gb", "h100", "b200"):
        found = estimate("deit-base/8@224", name, execution=Execution("fp16")).gpu_hours_per_epoch
        assert found is not None
        hours.append(found.estimate)
    assert hours == sorted(hours, reverse=True)


def test_devices_are_found_by_the_name_torch_gives() -> None:
    assert hardware_of_device("NVIDIA H200") == "h200"
    assert hardware_of_device("NVIDIA GeForce GT 710") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a100", "did you mean 'a100-40gb' or 'a100-80gb'?"),
        ("h10", "did you mean 'h100'?"),
        ("xyz", r"known: v100, [^\"]*\nor describe it as \[hardware.NAME\] in a study"),
    ],
)
def test_unknown_devices_are_refused_with_the_known(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        find_hardware(name)


def test_a_device_of_a_study() -> None:
    study = build_study(study_values(hardware={"t4": OWN}))
    device = find_hardware("t4", study.hardware)
    assert (device.name, device.default_precision) == ("t4", "fp16")
    assert estimate("deit-tiny/16@224", device).gpu_hours_per_epoch is not None
    assert parse_study(study_to_toml(study), "copy") == study
    assert [cell.id for cell in study.cells()] == [cell.id for cell in build_study(study_values()).cells()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_bytes": 16}, "hardware.t4.memory_bytes: 16 is too small; write FLOP/s, bytes/s and bytes"),
        ({"peak_flops": {"fp16": 65}}, "hardware.t4.peak_flops: 65 is too small"),
        ({"power_watts": -1}, "hardware.t4.power_watts"),
        ({"peak_flops": {"fp8": 1e12}}, "hardware.t4.peak_flops"),
        ({"speed": 3}, "hardware.t4.speed: unknown key"),
        ({"link_bytes_per_second": 16}, "hardware.t4.link_bytes_per_second: 16 is too small"),
        ({"efficiency": {"products": 0.5}}, "hardware.t4.efficiency.attention: missing"),
        ({"efficiency": EFFICIENCY}, "hardware.t4.efficiency: give one of uncertainty and covariance"),
        ({"efficiency": EFFICIENCY | {"uncertainty": 1000}}, "hardware.t4.efficiency.uncertainty"),
        (
            {"efficiency": EFFICIENCY | {"covariance": [[-1.0] * 6] * 6}},
            "hardware.t4.efficiency: covariance: not a symmetric positive definite matrix",
        ),
    ],
)
def test_bad_devices_are_refused_with_their_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(hardware={"t4": OWN | change}))
    assert message in str(caught.value)


class Mixerless(Backbone):
    """An MLP-only backbone: the least an architecture can say."""

    def block_parameters(self, shape: Shape) -> BlockParameters:
        return BlockParameters(mixer=0, mlp=2 * shape.width * shape.mlp_width, norms=shape.width)

    def uncast_parameters(self, shape: Shape) -> int:
        return shape.width

    def final_norm_parameters(self, shape: Shape) -> int:
        return shape.width

    def block_flops(self, shape: Shape) -> Flops:
        return Flops(mlp=4 * (shape.tokens + 1) * shape.width * shape.mlp_width)

    def block_elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        return ElementwiseFlops(norms=shape.tokens * shape.width, activations=0, softmax=0, residuals=0)

    def final_norm_elementwise_flops(self, shape: Shape) -> int:
        return shape.tokens * shape.width

    def recomputed_block_flops(self, shape: Shape, execution: Execution) -> Flops:
        return Flops()

    def block_saved_bytes(self, shape: Shape, execution: Execution) -> BlockSaved:
        return BlockSaved(mixer=0, mlp=execution.element_bytes * shape.tokens * shape.mlp_width, norms=0)

    def final_norm_saved_bytes(self, shape: Shape) -> int:
        return 4 * shape.tokens * shape.width

    def transient_bytes(self, shape: Shape, execution: Execution) -> int:
        return 0


def test_another_architecture_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.design.architectures._ARCHITECTURES", dict(known_architectures()))
    monkeypatch.setattr(registry, "_BACKBONES", dict(registry._BACKBONES))
    architecture = Architecture(lambda width, depth: ModelSize(width, depth, 2 * width, 1), {})
    register_architecture("mixerless", architecture, Mixerless())
    found = estimate("mixerless-128x6/8@64")
    assert found.cost.parameters.mlp == 6 * 2 * 128 * 256
    assert found.cost.forward.mlp == 6 * 4 * 65 * 128 * 256
    assert found.gpu_hours_per_epoch is not None
    with pytest.raises(DesignError, match="lower-case letters and digits"):
        register_architecture("Mixer-less", architecture, Mixerless())
    with pytest.raises(UsageError, match="str is not a Backbone"):
        register_architecture("wrong", architecture, "no backbone")  # pyright: ignore[reportArgumentType]


def test_recipes_of_the_paper() -> None:
    """Tables 8 to 10: Base at 224 pretrains at 128, trains on at 224, and is finetuned."""
    stages = stages_of("adventurer", Design.parse("adventurer-base/8@224"), 1000)
    assert [(stage.design.input_size, stage.epochs, stage.batch_size) for stage in stages] == [
        (128, 300, 1024),
        (224, 100, 1024),
        (224, 20, 512),
    ]
    assert [stage.epochs for stage in stages_of("adventurer", Design.parse("adventurer-large/8@128"), 1000)] == [
        200,
        50,
    ]
    assert [stage.epochs for stage in stages_of("deit", Design.parse("deit-small/16@128"), 1000)] == [300]
    assert [stage.epochs for stage in stages_of("deit", Design.parse("deit-large/16@224"), 1000)] == [200]
    assert recipe_names() == ["ade20k", "adventurer", "coco", "deit"]


@pytest.mark.parametrize(
    ("recipe", "name", "images", "epochs"),
    [
        ("ade20k", "deit-base/16@512+linear", 20_210, 160_000 * 16 / 20_210),  # given in steps
        ("ade20k", "adventurer-tiny/4@512+upernet", 20_210, 160_000 * 16 / 20_210),
        ("coco", "adventurer-base/32@800+cascade", 118_287, 12),
    ],
)
def test_recipes_of_dense_tasks_are_for_every_architecture(recipe: str, name: str, images: int, epochs: float) -> None:
    (stage,) = stages_of(recipe, Design.parse(name), images)
    assert (stage.epochs, stage.batch_size, stage.design) == (pytest.approx(epochs), 16, Design.parse(name))


@pytest.mark.parametrize(
    ("recipe", "name", "message"),
    [
        ("diet", "deit-base/16@224", "unknown recipe 'diet': did you mean 'deit'"),
        ("deit", "adventurer-base/16@224", "does not say how adventurer-base/16@224 is trained"),
        ("adventurer", "adventurer-tiny/16@224", "does not say how adventurer-tiny/16@224 is trained"),
        ("adventurer", "adventurer-huge/16@224", "does not say how"),
        ("deit", "deit-base/16@512+linear", "does not say how"),  # it trains classifiers
        ("ade20k", "deit-base/16@224", "does not say how"),
        ("coco", "deit-base/16@512+upernet", "does not say how"),
        ("adventurer", "adventurer-base/56@224", "56 does not divide input size 128"),
    ],
)
def test_recipes_that_do_not_apply(recipe: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stages_of(recipe, Design.parse(name), 1000)


def test_a_budget_sums_its_stages() -> None:
    request = Request(find_hardware("a100-80gb"), Execution("fp16"), gpus=64, price_per_gpu_hour=2.0)
    (row,) = request.rows([Design.parse("adventurer-base/4@224")], recipe="adventurer")
    assert row.budget is not None
    parts = [stage.gpu_hours.estimate for stage in row.budget.stages]
    assert len(parts) == 3
    assert row.budget.gpu_hours.estimate == pytest.approx(sum(parts))
    assert row.budget.days.estimate == pytest.approx(sum(parts) / 64 / 24)
    assert row.budget.kilowatt_hours.estimate == pytest.approx(sum(parts) * 0.4)
    assert row.budget.dollars is not None
    assert row.budget.dollars.high == pytest.approx(2 * row.budget.gpu_hours.high)
    whole = estimate("adventurer-base/4@224", gpus=64, execution=Execution("fp16")).gpu_hours_per_epoch
    assert whole is not None
    assert parts[1] == pytest.approx(100 * whole.estimate)


def test_a_study_is_budgeted_for_all_its_seeds() -> None:
    study = build_study(study_values(grid__seeds=[0, 1, 2]))
    request = Request(find_hardware("a100-80gb"), Execution("fp32"))
    rows = request.study_rows(study)
    assert [str(row.estimate.design) for row in rows] == ["deit-nano/8@16+linear", "deit-nano/4@16+linear"]
    known, found = rows[0].estimate, rows[0].budget
    assert found is not None
    hours = known.gpu_hours(3 * 6 * 8)
    assert hours is not None
    assert found.gpu_hours.estimate == pytest.approx(hours.estimate)
    head = Head(11, "linear", (16, 16))
    assert known.cost == cost_of(known.design, head, Execution("fp32"))


@pytest.mark.usefixtures("twins")
def test_a_plug_in_makes_its_architecture_known_to_the_command_line() -> None:
    found = scaling_afresh("estimate", "twin-*/16@224", "twin-64x3/16@224")
    assert found.returncode == 0, found.stderr
    assert "twin-one/16@224" in found.stdout
    broken = scaling_afresh("estimate", "bad-64x3/16@224")
    assert broken.returncode == 2
    assert "architecture 'bad': its plug-in twins:broken does not load: RuntimeError: no luck" in broken.stderr
