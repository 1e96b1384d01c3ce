import math
from typing import Any

import pytest

from scaling.design import Recipe, StudyError
from scaling.records import describe
from scaling.training.cells import model_of
from scaling.training.optimizer import build_optimizer, build_schedule, learning_rate_factor
from tests.conftest import small_study

IDENTITY = "104d1087e3cb"


def test_schedule_rises_then_follows_a_half_cosine_to_zero() -> None:
    factors = [learning_rate_factor(step, steps=100, warmup=10) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_steps_are_those_of_twelve_epochs_of_detection() -> None:
    """A tenth from the ninth epoch on and a hundredth in the twelfth, with the warm-up inside the first."""
    factors = [learning_rate_factor(step, steps=120, warmup=4, decay="steps") for step in range(120)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, *[1] * 77, *[0.1] * 30, *[0.01] * 10])
    short = [learning_rate_factor(step, steps=5, warmup=4, decay="steps") for step in range(5)]
    assert short == pytest.approx([0.25, 0.5, 0.75, 1, 0.1])


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert learning_rate_factor(0, steps=10, warmup=0) == 1


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_biases_norms_positions_and_tokens_are_not_decayed(task: str) -> None:
    cell = small_study(data__task=task, data__digits=1).cells()[0]
    model = model_of(cell)
    optimizer = build_optimizer(model, cell.recipe)
    decayed = {id(value) for group in optimizer.param_groups if group["weight_decay"] for value in group["params"]}
    names = {name for name, value in model.named_parameters() if id(value) in decayed}
    assert names == {
        name
        for name, value in model.named_parameters()
        if value.ndim > 1 and "pos_embed" not in name and "cls_token" not in name
    }
    assert any("patch_embed" in name for name in names)


def test_schedule_drives_the_optimizer() -> None:
    cell = small_study(recipe__steps=4, recipe__warmup_steps=2).cells()[0]
    optimizer = build_optimizer(model_of(cell), cell.recipe)
    schedule = build_schedule(optimizer, cell.recipe, None)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("duration", "steps"), [({"steps": 7}, 7), ({"images": 640}, 20), ({"epochs": 2.5}, 78), ({"images": 1}, 1)]
)
def test_durations_become_steps(duration: dict[str, float], steps: int) -> None:
    recipe = Recipe.model_validate({"batch_size": 32, "learning_rate": 1e-3, **duration})
    assert recipe.training_steps(epoch_images=1000) == steps


@pytest.mark.parametrize("architecture", ["deit", "adventurer"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_layer_decay_slows_each_block_by_the_same_factor(task: str, architecture: str) -> None:
    """From the embedding, over blocks in order, to the head at the full rate."""
    options = {"data__task": task, "data__digits": 1, "grid__architectures": [architecture]}
    cell = small_study(recipe__layer_decay=0.5, recipe__learning_rate=1e-2, **options).cells()[0]
    model = model_of(cell)
    optimizer = build_optimizer(model, cell.recipe)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    by_name = {name.removeprefix("backbone."): rates[id(value)] for name, value in model.named_parameters()}
    assert len(by_name) == len(rates)
    depth = cell.design.shape.depth
    for name, rate in by_name.items():
        kind, _, rest = name.partition(".")
        if kind in ("blocks", "layers"):
            above = depth - int(rest.split(".")[0])
        else:
            above = {"head": 0, "norm": 1, "norm_f": 1}.get(kind, depth + 1)  # the last norm goes with the last block
        assert rate == pytest.approx(1e-2 * 0.5**above), name


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_a_cosine_and_a_line_end_at_the_least_rate(decay: str) -> None:
    cell = small_study(recipe__steps=4, recipe__minimum_learning_rate=1e-4, recipe__decay=decay).cells()[0]
    recipe = cell.recipe
    optimizer = build_optimizer(model_of(cell), recipe)
    schedule = build_schedule(optimizer, recipe, None)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-3)
    assert rates[1] == pytest.approx(1e-4 + 9e-4 * {"cosine": 0.5 + 0.5**1.5, "linear": 0.75}[decay])
    assert rates[2] == pytest.approx((1e-3 + 1e-4) / 2)
    assert rates[4] == pytest.approx(1e-4)


def test_a_rate_for_another_batch_is_scaled_to_this_one() -> None:
    recipe = Recipe(steps=1, batch_size=1024, learning_rate=5e-4, learning_rate_batch=512)
    assert recipe.peak_learning_rate == pytest.approx(1e-3)
    assert Recipe(steps=1, batch_size=1024, learning_rate=5e-4).peak_learning_rate == 5e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimum_learning_rate": 2e-3}, "recipe.minimum_learning_rate: 0.002 is above the highest learning rate"),
        ({"decay": "step"}, "recipe.decay: 'step' is not allowed; use 'cosine', 'linear' or 'steps'"),
        (
            {"decay": "steps", "minimum_learning_rate": 1e-5},
            "recipe.minimum_learning_rate: 1e-05 is for a cosine or a line",
        ),
        ({"layer_decay": 1.5}, "recipe.layer_decay: 1.5"),
        ({"ema_decay": 1.0}, "recipe.ema_decay: 1.0"),
        ({"learning_rate_batch": 0}, "recipe.learning_rate_batch: 0"),
        ({"optimizer": "adam"}, "recipe.optimizer: 'adam' is not allowed; use 'adamw' or 'adamw-8bit'"),
    ],
)
def test_bad_keys_are_refused_with_the_study(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as refused:
        small_study(**{f"recipe__{key}": value for key, value in changes.items()})
    assert message in str(refused.value)


def test_keys_at_their_defaults_leave_the_cell_s_id_alone() -> None:
    """As it was before there were these keys."""
    assert small_study().cells()[0].id == IDENTITY
    assert small_study(recipe__optimizer="adamw", recipe__minimum_learning_rate=0).cells()[0].id == IDENTITY
    assert small_study(recipe__decay="cosine").cells()[0].id == IDENTITY
    assert "decay" not in describe(small_study().cells()[0])["recipe"]
    for changed in ({"recipe__ema_decay": 0.9}, {"recipe__decay": "linear"}):
        assert small_study(**changed).cells()[0].id != IDENTITY
