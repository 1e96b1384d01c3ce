import math

import pytest

from scaling.design import Recipe
from scaling.training.cells import model_of
from scaling.training.optimizer import build_optimizer, build_schedule, learning_rate_factor
from tests.conftest import small_study


def test_schedule_rises_then_follows_a_half_cosine_to_zero() -> None:
    factors = [learning_rate_factor(step, steps=100, warmup=10) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)


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
    cell = small_study().cells()[0]
    optimizer = build_optimizer(model_of(cell), cell.recipe)
    schedule = build_schedule(optimizer, steps=4, warmup=2)
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
