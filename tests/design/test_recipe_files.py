"""Recipes that ship, settings by size, and how a study takes one as its base."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.design import Recipe, StudyError, build_study, builtin_recipes
from scaling.design.recipes import settings_over
from tests.conftest import small_study, study_values

# Tables 8 to 10 of the paper: epochs, batch, base learning rate, weight decay, betas, warm-up, drop path, smoothing.
PRINTED = {
    ("pretraining", "base"): (300, 1024, 5e-4, 0.05, (0.9, 0.999), 5, 0.1, 0.0),
    ("pretraining", "tiny"): (300, 1024, 5e-4, 0.05, (0.9, 0.999), 5, 0.1, 0.0),
    ("pretraining", "huge"): (200, 4096, 2e-4, 0.3, (0.9, 0.95), 20, 0.2, 0.0),
    ("intermediate", "small"): (100, 1024, 5e-4, 0.05, (0.9, 0.999), 5, 0.2, 0.0),
    ("intermediate", "base"): (100, 1024, 5e-4, 0.05, (0.9, 0.999), 5, 0.4, 0.0),
    ("intermediate", "large"): (50, 4096, 8e-4, 0.3, (0.9, 0.95), 20, 0.4, 0.0),
    ("finetuning", "small"): (20, 512, 1e-5, 0.1, (0.9, 0.999), 5, 0.4, 0.1),
    ("finetuning", "base"): (20, 512, 1e-5, 0.1, (0.9, 0.999), 5, 0.6, 0.1),
    ("finetuning", "large"): (50, 512, 2e-5, 0.1, (0.9, 0.95), 5, 0.6, 0.1),
}


@pytest.mark.parametrize(("stage", "size"), list(PRINTED))
def test_adventurer_s_stages_are_those_of_the_tables(stage: str, size: str) -> None:
    epochs, batch, rate, decay, betas, warmup, drop_path, smoothing = PRINTED[stage, size]
    found = builtin_recipes()["adventurer"].stages[stage]
    recipe = found.recipe.of_size(size)
    scaled = rate if stage == "finetuning" else rate * batch / 512  # the released commands
    assert size in found.sizes
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay, recipe.betas) == (epochs, batch, decay, betas)
    assert recipe.peak_learning_rate == pytest.approx(scaled)
    assert recipe.layer_decay == {("intermediate", "large"): 0.9, ("finetuning", "large"): 0.95}.get((stage, size))
    assert (recipe.augmentation == "three-augment") is (recipe.repeated_augmentation == 3) is (stage != "finetuning")
    assert (recipe.warmup_epochs, recipe.drop_path, recipe.label_smoothing) == (warmup, drop_path, smoothing)


@pytest.mark.parametrize("size", ["tiny", "base", "huge"])
def test_the_dense_recipes_have_what_the_paper_says(size: str) -> None:
    """Its Section 4.1; the rest is not the paper's."""
    segmentation, detection = (builtin_recipes()[name].stages["finetuning"].recipe for name in ("ade20k", "coco"))
    recipe = segmentation.of_size(size)
    assert (recipe.optimizer, recipe.peak_learning_rate, recipe.weight_decay) == ("adamw", 5e-5, 0.01)
    assert (recipe.steps, recipe.batch_size) == (160_000, 16)
    recipe = detection.of_size(size)
    assert (recipe.optimizer, recipe.peak_learning_rate, recipe.weight_decay) == ("adamw", 1e-4, 0.05)
    assert (recipe.epochs, recipe.decay) == (12, "steps")


@pytest.mark.parametrize("name", list(builtin_recipes()))
def test_a_recipe_names_its_source_its_result_and_stages_that_exist(name: str) -> None:
    recipe = builtin_recipes()[name]
    assert recipe.source
    assert {"classification": "top-1", "segmentation": "mIoU", "detection": "mask AP"}[recipe.task] in recipe.expected
    for schedule in recipe.schedules:
        assert {stage.name for stage in schedule.stages} <= set(recipe.stages)


def test_a_study_takes_a_recipe_and_its_own_keys_win() -> None:
    recipe = {"base": "deit", "images": 64, "warmup_steps": 1, "batch_size": 8, "weight_decay": 0.2}
    study = build_study(study_values(grid__sizes=["nano", "large"], recipe=recipe))
    nano, large = study.cells()[0].recipe, study.cells()[-1].recipe
    assert (nano.images, nano.epochs, nano.warmup_epochs, nano.label_smoothing) == (64, None, None, 0.1)
    assert (nano.peak_learning_rate, large.peak_learning_rate) == (
        5e-4 * 8 / 512,
        1e-4 * 8 / 256,
    )  # the file's, by size
    assert not nano.augmentation_keys  # digits are drawn
    assert nano.batch_size == large.batch_size == 8  # the study's, for all sizes
    assert nano.weight_decay == large.weight_decay == 0.2
    assert (
        study.cells()[0].id
        == small_study(grid__sizes=["nano"], recipe=nano.model_dump(exclude_none=True)).cells()[0].id
    )


def test_a_study_s_settings_by_size_win_over_the_file_s() -> None:
    tables = [{"sizes": ["large"], "drop_path": 0.5}]
    recipe = {"base": "deit", "steps": 6, "warmup_steps": 1, "by_size": tables}
    study = build_study(study_values(grid__sizes=["large"], recipe=recipe))
    assert study.cells()[0].recipe.drop_path == 0.5
    assert study.cells()[0].recipe.batch_size == 4096


def test_the_last_table_of_a_size_wins_and_others_do_not_touch_it() -> None:
    tables = [{"sizes": ["nano", "micro"], "images": 80}, {"sizes": ["micro"], "images": 160, "betas": [0.8, 0.9]}]
    study = small_study(grid__sizes=["nano", "micro", "tiny"], grid__patch_sizes=[8], recipe__by_size=tables)
    nano, micro, tiny = (cell.recipe for cell in study.cells())
    assert [recipe.training_steps(None) for recipe in (nano, micro, tiny)] == [10, 20, 6]
    assert micro.betas == (0.8, 0.9)
    assert nano.betas == tiny.betas == (0.9, 0.999)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"base": "diet"}, "recipe.base: unknown recipe 'diet': did you mean 'deit'?"),
        ({"base": ["deit"]}, "recipe.base: unknown recipe"),
        ({"base": "adventurer"}, "did you mean 'adventurer-pretraining' or"),
        ({"base": "deit"}, "an endless stream has no epochs; give steps or images"),
        ({"by_size": [{"sizes": ["nano"], "drop_pth": 0.1}]}, "recipe.by_size[0]: unknown key 'drop_pth'; did you"),
        ({"by_size": [{"sizes": ["nan"], "drop_path": 0.1}]}, "recipe.by_size[0].sizes: unknown size 'nan': did you"),
        ({"by_size": [{"sizes": ["nano"], "drop_path": 1.5}]}, "recipe.by_size[0]: drop_path = 1.5: input should be"),
        ({"by_size": [{"sizes": ["nano"], "steps": 1, "images": 8}]}, "recipe.by_size[0]: recipe: steps and images"),
        ({"by_size": [{"sizes": ["nano"], "warmup_steps": 9}]}, "recipe: the warm-up of 9 steps is longer"),
        ({"by_size": [{"drop_path": 0.1}]}, "recipe.by_size[0].sizes: missing"),
        ({"base": "deit", "by_size": 3}, "recipe.by_size: 3"),
    ],
)  # fmt: skip
def test_bad_bases_and_tables_are_refused(recipe: dict[str, Any], message: str) -> None:
    own = {} if recipe.get("base") == "deit" else {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}
    with pytest.raises(StudyError) as caught:
        build_study(study_values(recipe=own | recipe))
    assert message in str(caught.value)


UNITS = st.sampled_from(["steps", "images", "epochs"])


@given(base=UNITS, own=st.none() | UNITS, warmup=UNITS, own_warmup=st.none() | UNITS)
def test_settings_over_others_never_have_two_durations(
    base: str, own: str | None, warmup: str, own_warmup: str | None
) -> None:
    given = {own: 5} if own else {}
    given |= {f"warmup_{own_warmup}": 1} if own_warmup else {}
    whole = settings_over({base: 7, f"warmup_{warmup}": 2, "batch_size": 4, "learning_rate": 0.1}, given)
    recipe = Recipe.model_validate(whole)
    assert getattr(recipe, own or base) == (5 if own else 7)
    assert getattr(recipe, f"warmup_{own_warmup or warmup}") == (1 if own_warmup else 2)


def test_images_in_files_get_the_augmentation_of_their_recipe() -> None:
    data = {"name": "image-folder", "path": "photos", "classes": 3, "train_images": 2048}
    study = build_study(study_values(data=data, grid__sizes=["base", "large"], recipe={"base": "deit"}))
    base, large = study.cells()[0].recipe, study.cells()[-1].recipe
    assert (base.mixup, base.cutmix, base.random_erasing, base.repeated_augmentation) == (0.8, 1.0, 0.25, 3)
    assert (large.mixup, large.random_erasing, large.repeated_augmentation, large.ema_decay) == (0.8, 0.0, 1, 0.9999)
    assert (base.peak_learning_rate, large.peak_learning_rate) == pytest.approx((1e-3, 1.6e-3))
