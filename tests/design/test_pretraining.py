"""Pretrainings of a study: which cells they make, what is shared, and what is refused."""

from typing import Any

import pytest

from scaling.design import Study, StudyError, build_study, parse_study, study_to_toml
from tests.conftest import small_study, study_values

RECIPE = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3}


def stage(name: str = "first", **keys: Any) -> dict[str, Any]:
    return {"name": name, "recipe": RECIPE} | keys


def staged(*stages: dict[str, Any], **changes: Any) -> Study:
    return small_study(pretraining=list(stages), **changes)


def test_a_pretraining_at_a_larger_patch_is_shared_and_comes_first() -> None:
    study = staged(stage(patch_size=8, input_size=8), stage("second", patch_size=8), grid__seeds=[0, 1])
    cells = study.all_cells()
    names = [f"{cell.design} {cell.seed} {cell.stage}" for cell in cells]
    assert names == [
        *(f"deit-nano/8@8+linear {seed} first" for seed in (0, 1)),
        *(f"deit-nano/8@16+linear {seed} second" for seed in (0, 1)),
        *(f"deit-nano/{patch}@16+linear {seed} None" for patch in (8, 4) for seed in (0, 1)),
    ]
    assert cells[4:] == study.cells()
    seen: set[str] = set()
    for cell in cells:
        assert cell.after is None or cell.after.id in seen
        seen.add(cell.id)
    assert len(seen) == len(cells)
    assert cells[4].after == cells[6].after == cells[2]


def test_a_pretraining_at_the_design_s_own_patch_is_not_shared_between_patches() -> None:
    study = staged(stage(input_size=8), grid__input_sizes=[16, 32], data__canvas=32)
    cells = study.all_cells()
    assert [str(cell.design) for cell in cells[:2]] == ["deit-nano/8@8+linear", "deit-nano/4@8+linear"]
    assert len(cells) == 2 + 4  # but between inputs


def test_the_id_follows_what_a_cell_starts_from_and_not_its_name() -> None:
    plain = small_study().cells()[0].id
    ids = {
        staged(first).cells()[0].id
        for first in (stage(), stage(input_size=32), stage(patch_size=16), stage(recipe=RECIPE | {"steps": 5}))
    }
    assert len(ids | {plain}) == 5
    assert staged(stage("other")).cells()[0].id == staged(stage()).cells()[0].id
    first = staged(stage()).all_cells()[0]
    assert first.id == small_study(recipe__steps=4).cells()[0].id  # the same training, whatever comes after


def test_every_stage_sees_other_images() -> None:
    cells = staged(stage(), stage("second"), grid__seeds=[0, 1], grid__patch_sizes=[8]).all_cells()
    assert len({cell.stream_seed for cell in cells}) == 6
    assert [cell.stream_seed for cell in cells[:2]] == [0, 1]


def test_toml_round_trip_keeps_the_stages() -> None:
    study = staged(stage(input_size=8, recipe=RECIPE | {"by_size": [{"sizes": ["nano"], "drop_path": 0.1}]}))
    again = parse_study(study_to_toml(study), "again")
    assert again == study
    assert [cell.id for cell in again.all_cells()] == [cell.id for cell in study.all_cells()]
    assert again.all_cells()[0].recipe.drop_path == 0.1
    assert "pretraining" not in study_to_toml(small_study())


@pytest.mark.parametrize(
    ("stages", "change", "message"),
    [
        ([stage(patch_size=4)], {}, "pretraining[0].patch_size: 4 is below the patch of deit-nano/8@16+linear"),
        ([stage(patch_size=8), stage("second", patch_size=16)], {}, "pretraining[0].patch_size: 8 is below the patch"),
        ([stage(input_size=12)], {}, "pretraining[0]: patch size of 'deit-nano/8@12+linear': 8 does not divide"),
        ([stage(), stage()], {}, "pretraining[1].name: 'first' is given twice"),
        ([stage("a/b")], {}, "pretraining[0].name: 'a/b'"),
        ([stage(input_siz=8)], {}, "pretraining[0].input_siz: unknown key; did you mean 'input_size'?"),
        ([{"name": "x"}], {}, "pretraining[0].recipe: missing"),
        ([stage(recipe=RECIPE | {"images": 8})], {}, "pretraining[0].recipe: steps and images are both given"),
        ([stage(recipe=RECIPE | {"warmup_steps": 5})], {}, "pretraining[0].recipe: the warm-up of 5 steps is longer"),
        ([stage(recipe=RECIPE | {"new_head": True})], {}, "pretraining[0].recipe.new_head: there is no checkpoint"),
        ([stage()], {"recipe__start_from": "x.pth"}, "recipe.start_from: this stage starts from the pretraining"),
        (
            [stage()],
            {"grid__designs": ["deit-nano/8@16+linear+extend=16"]},
            "pretraining[0]: the tokens of deit-nano/8@16+linear+extend=16 are extended, not patches; leave it out",
        ),
        ([stage(recipe="deit")], {}, "pretraining[0].recipe: 'deit'"),
        ("first", {}, "pretraining: 'first': input should be a list"),
        ([stage(recipe=RECIPE | {"stages": [{"patch_size": 8, "share": 0.5}]})], {}, "pretraining[0].recipe.stages[0]"),
    ],
)  # fmt: skip
def test_bad_stages_are_refused_with_place_and_fix(stages: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(pretraining=stages, **change))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_new_head_and_a_resize_are_for_stages_that_start_from_one() -> None:
    study = staged(stage(patch_size=16), recipe__new_head=True, recipe__resize_patches="bicubic")
    assert study.cells()[0].recipe.new_head


CLASSES = {"name": "digits", "task": "classification", "canvas": 16, "clutter": 1, "test_images": 40}


def of_task(task: str, **keys: Any) -> dict[str, Any]:
    """Data of the digits for another stage."""
    return CLASSES | {"task": task, "digits": 1 if task == "classification" else 2} | keys


def test_a_classifier_has_its_own_data_and_no_head_and_is_shared_by_the_heads() -> None:
    study = staged(
        stage(input_size=8, data=CLASSES), stage("second"), grid__heads=["linear", "upernet"], grid__patch_sizes=[8]
    )
    cells = study.all_cells()
    names = [f"{cell.design} {cell.data.task} {cell.stage}" for cell in cells]
    assert names == [
        "deit-nano/8@8 classification first",
        *(f"deit-nano/8@16+{head} segmentation second" for head in ("linear", "upernet")),
        *(f"deit-nano/8@16+{head} segmentation None" for head in ("linear", "upernet")),
    ]
    assert cells[1].after == cells[2].after == cells[0]
    assert cells[0].data.classes == 10
    assert study.data_sets == [cells[0].data, study.data]


def test_a_classifier_s_id_is_that_of_the_classifier_alone_and_those_after_it_follow_its_data() -> None:
    study = staged(stage(data=CLASSES), grid__patch_sizes=[8])
    alone = small_study(data=CLASSES, grid__patch_sizes=[8], recipe__steps=4)
    assert study.all_cells()[0].id == alone.cells()[0].id
    noisier = staged(stage(data=CLASSES | {"noise": 0.2}), grid__patch_sizes=[8])
    assert noisier.cells()[0].id != study.cells()[0].id != small_study().cells()[0].id
    own = staged(stage(data=of_task("segmentation", noise=0.1)), grid__patch_sizes=[8])
    assert own.cells()[0].id == staged(stage(), grid__patch_sizes=[8]).cells()[0].id  # the study's own, said again


def test_a_chain_of_classifiers_comes_before_detectors() -> None:
    study = staged(
        stage(data=CLASSES, input_size=8),
        stage("second", data=CLASSES),
        stage("third", data=of_task("detection", noise=0.2)),
        data=of_task("detection"),
        grid__patch_sizes=[8],
    )
    assert [str(cell.design) for cell in study.all_cells()] == [
        *("deit-nano/8@8", "deit-nano/8@16", "deit-nano/8@16+cascade", "deit-nano/8@16+cascade")
    ]


def test_files_and_drawn_images_may_follow_one_another() -> None:
    """Every stage's recipe is held to its own data: epochs, augmentation and loader processes."""
    photos = {"name": "image-folder", "path": "photos", "classes": 3, "train_images": 64}
    recipe = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "horizontal_flip": 0.5}
    study = staged(stage(data=photos, recipe=recipe), resources__data_workers=1)
    assert [cell.recipe.training_steps(cell.data.epoch_images) for cell in study.all_cells()] == [16, 16, 6, 6]
    again = parse_study(study_to_toml(study), "again")
    assert [cell.id for cell in again.all_cells()] == [cell.id for cell in study.all_cells()]


def test_a_base_is_filled_in_as_the_data_of_its_own_stage_ask_for() -> None:
    recipe = {"base": "deit", "images": 64, "warmup_steps": 1, "batch_size": 8}
    photos = {"name": "image-folder", "path": "photos", "classes": 3, "train_images": 64}
    first, own = staged(stage(data=photos, recipe=recipe), grid__patch_sizes=[8]).all_cells()
    assert (first.recipe.random_erasing, own.recipe.random_erasing) == (0.25, 0.0)
    maps = {"name": "ade20k", "path": "scenes"}
    keys = {"data": maps, "grid__patch_sizes": [8], "recipe": {"base": "ade20k"}}
    first, own = staged(stage(data=CLASSES, recipe=recipe), **keys).all_cells()
    assert (first.recipe.random_erasing, own.recipe.resize_range) == (0.0, (0.5, 2.0))


@pytest.mark.parametrize(
    ("stages", "data", "message"),
    [
        ([stage(data=of_task("segmentation"))], CLASSES, "pretraining[0].data.task: 'segmentation' before cl"),
        ([stage(data=of_task("detection"))], None, "pretraining[0].data.task: 'detection' before segmentation"),
        (
            [stage(data=of_task("segmentation"))],
            of_task("detection"),
            "pretraining[0].data.task: 'segmentation' before detection; first come classifiers",
        ),
        ([stage(), stage("second", data=CLASSES)], None, "pretraining[1].data.task: 'classification' before"),
        ([stage(data={"name": "digit"})], None, "pretraining[0].data.name: 'digit' is not known; did you"),
        ([stage(data=CLASSES | {"canvs": 3})], None, "pretraining[0].data.canvs: unknown key; did you mean 'canvas'?"),
        ([stage(data=CLASSES | {"digits": 2})], None, "pretraining[0].data.digits: 2 digits have no single class"),
        ([stage(data="imagenet")], None, "pretraining[0].data: 'imagenet': should be a table"),
        (
            [stage(data=CLASSES, recipe=RECIPE | {"mixup": 0.8})],
            None,
            "pretraining[0].recipe.mixup: the scenes of digits are drawn, not augmented",
        ),
        (
            [stage(data={"name": "imagenet", "path": "x"}, recipe=RECIPE | {"resize_range": [0.5, 1.0]})],
            None,
            "pretraining[0].recipe.resize_range: is for segmentation and detection",
        ),
    ],
)  # fmt: skip
def test_stages_of_data_that_cannot_come_before_are_refused(stages: Any, data: Any, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(pretraining=stages, **({"data": data} if data else {})))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
