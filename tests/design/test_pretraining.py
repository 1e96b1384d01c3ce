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
