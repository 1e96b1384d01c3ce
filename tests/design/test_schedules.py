"""Stages of a recipe: where they begin, what they cost, what they do to ids, and every bad one."""

from pathlib import Path
from typing import Any

import pytest

from scaling.cost import Execution, Request, cost_of, cost_of_cell, find_hardware, head_of
from scaling.design import Study, StudyError, build_study, load_study, parse_study, study_to_toml
from scaling.errors import UsageError
from scaling.grid import Device, plan_jobs
from scaling.records import describe
from tests.conftest import small_study, study_values

ROOT = Path(__file__).parents[2]
IDS = {
    "digits-quick": {path.name for path in (ROOT / "runs" / "digits-quick" / "cells").iterdir()},
    "digits-adventurer": {path.name for path in (ROOT / "runs" / "digits-adventurer" / "cells").iterdir()},
}


def staged(*stages: tuple[Any, Any], **changes: Any) -> dict[str, Any]:
    """Values of a study of deit-nano/2@16 with stages (patch size, share)."""
    rows = [{"patch_size": patch_size, "share": share} for patch_size, share in stages]
    return study_values(grid__patch_sizes=[2], recipe__steps=20, recipe__stages=rows, **changes)


def study(*stages: tuple[Any, Any], **changes: Any) -> Study:
    return build_study(staged(*stages, **changes))


def test_stages_end_at_the_nearest_step_and_fill_the_training() -> None:
    cell = study((8, 0.33), (4, 0.3)).cells()[0]
    found = [(stage.design.patch_size, stage.first_step, stage.steps) for stage in cell.stages]
    assert found == [(8, 0, 7), (4, 7, 6), (2, 13, 7)]
    assert cell.stages[-1].design == cell.design
    assert str(cell.stages[0].design) == "deit-nano/8@16+linear"


def test_without_stages_there_is_one() -> None:
    (stage,) = small_study().cells()[0].stages
    assert (stage.design, stage.first_step, stage.steps) == (small_study().cells()[0].design, 0, 6)


@pytest.mark.parametrize("name", list(IDS))
def test_cells_without_stages_keep_the_ids_of_the_committed_runs(name: str) -> None:
    for source in (name, ROOT / "runs" / name):
        assert {cell.id for cell in load_study(source).cells()} == IDS[name]


def test_stages_are_part_of_a_cell_s_identity() -> None:
    ids = {study(*stages).cells()[0].id for stages in [(), [(8, 0.3)], [(4, 0.3)], [(8, 0.4)], [(8, 0.3), (4, 0.3)]]}
    assert len(ids) == 5


def test_stages_survive_toml_and_are_in_the_record() -> None:
    first = study((8, 0.25), (4, 0.5))
    assert parse_study(study_to_toml(first), "again") == first
    stages = [{"patch_size": 8, "share": 0.25}, {"patch_size": 4, "share": 0.5}]
    assert describe(first.cells()[0])["recipe"]["stages"] == stages
    assert "stages" not in describe(small_study().cells()[0])["recipe"]


def test_cost_is_the_mean_over_images_and_the_memory_of_the_largest_stage() -> None:
    cell = study((8, 0.25), (4, 0.5)).cells()[0]
    cost, head = cost_of_cell(cell, scan="recomputed"), head_of(cell)
    coarse, middle, fine = (cost_of(stage.design, head, Execution("fp32")) for stage in cell.stages)
    per_image = [each.training_flops_per_image for each in (coarse, middle, fine)]
    assert cost.images == 160
    assert cost.training_flops == 40 * per_image[0] + 80 * per_image[1] + 40 * per_image[2]
    assert cost.training_flops_per_image == round((per_image[0] + 2 * per_image[1] + per_image[2]) / 4)
    assert cost.activation_bytes_per_image == fine.activation_bytes_per_image > coarse.activation_bytes_per_image
    assert cost.forward_flops_per_image == fine.forward_flops_per_image
    assert cost.parameters == fine.parameters
    assert cost.training_bytes(4) == fine.training_bytes(4)
    assert cost.training_flops_after(50) == 40 * per_image[0] + 10 * per_image[1]
    assert [cost.patch_size_after(images) for images in (1, 40, 41, 120, 121, 160)] == [8, 8, 4, 4, 2, 2]


def test_a_large_kernel_may_need_more_memory_than_the_tokens() -> None:
    cell = study((16, 0.5)).cells()[0]
    cost = cost_of_cell(cell, scan="recomputed")
    first, last = (stage.cost.training_bytes(0) for stage in cost.stages)
    assert cost.training_bytes(0) == first > last


def test_jobs_and_their_micro_batch_are_those_of_all_stages() -> None:
    tight = cost_of_cell(study().cells()[0], scan="recomputed")
    device = Device("cuda", 1, int(tight.training_bytes(2) / 0.89))
    plain, scheduled = (plan_jobs(study(*stages), device, 1)[0] for stages in ([], [(8, 0.5)]))
    assert plain.micro_batch_size == scheduled.micro_batch_size == 2
    assert scheduled.training_flops < 0.7 * plain.training_flops


def test_a_study_is_estimated_by_stages_with_one_micro_batch() -> None:
    request = Request(find_hardware("v100"), Execution("fp16"))
    changes = {"recipe__precision": "fp16", "grid__seeds": [0, 1]}
    (row,) = request.study_rows(study((8, 0.25), (4, 0.5), **changes))
    (coarse,), (middle,), (fine,) = (
        request.study_rows(small_study(grid__patch_sizes=[patch], recipe__steps=20, **changes)) for patch in (8, 4, 2)
    )
    assert row.estimate.design.patch_size == 2
    assert row.budget is not None
    assert [part.stage.design.patch_size for part in row.budget.stages] == [8, 4, 2]
    budgets = [each.budget.gpu_hours.estimate for each in (coarse, middle, fine) if each.budget]
    shares = (0.25, 0.5, 0.25)
    assert row.budget.gpu_hours.estimate == pytest.approx(
        sum(share * hours for share, hours in zip(shares, budgets, strict=True))
    )
    (limited,) = request.study_rows(study((8, 0.25), recipe__micro_batch_size=2, **changes))
    assert limited.budget is not None
    assert [part.estimate.placement.micro_batch_size for part in limited.budget.stages if part.estimate.placement] == [
        2,
        2,
    ]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(8, 0.0)], "recipe.stages[0].share: 0.0: input should be greater than 0"),
        ([(8, 1.0)], "recipe.stages[0].share: 1.0: input should be less than 1"),
        ([(8, "half")], "recipe.stages[0].share: 'half'"),
        ([(0, 0.5)], "recipe.stages[0].patch_size: 0: input should be greater than 0"),
        ([(8, 0.5), (4, 0.5)], "recipe.stages: the shares sum to 1; leave a rest for the design's own patch"),
        ([(4, 0.3), (8, 0.3)], "recipe.stages[1].patch_size: 8 is not below the 4 before it; patches only shrink"),
        ([(8, 0.3), (8, 0.3)], "recipe.stages[1].patch_size: 8 is not below the 8 before it"),
        ([(2, 0.3)], "recipe.stages[0].patch_size: 2 is not above the patch of deit-nano/2@16+linear"),
        ([(5, 0.3)], "recipe.stages[0].patch_size: 5 does not divide input size 16; use one of 1, 2, 4, 8, 16"),
        ([(8, 0.01)], "recipe.stages[0].share: 0.01 of 20 steps is no step; give more"),
        ([(8, 0.99)], "recipe.stages: the shares leave none of 20 steps to deit-nano/2@16+linear; give less"),
    ],
)
def test_bad_stages_are_refused_with_path_value_and_fix(stages: list[tuple[Any, Any]], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(*stages)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe__stages": {"patch_size": 8}}, "recipe.stages: {'patch_size': 8}: input should be a list"),
        ({"recipe__stages": [{"patch_size": 8}]}, "recipe.stages[0].share: missing"),
        (
            {"recipe__stages": [{"patch": 8, "share": 0.1}]},
            "recipe.stages[0].patch: unknown key; did you mean 'patch_size'?",
        ),
        (
            {"recipe__stages": [{"patch_size": 8, "share": 0.5}], "grid__designs": ["deit-nano/4@16+linear+extend=64"]},
            "recipe.stages: the tokens of deit-nano/4@16+linear+extend=64 are extended, not patches; leave it out",
        ),
        (
            {"recipe__stages": [{"patch_size": 8, "share": 0.5}], "grid__patch_sizes": [4, 8]},
            "recipe.stages[0].patch_size: 8 is not above the patch of deit-nano/8@16+linear; leave out one of them",
        ),
    ],
)
def test_stages_of_another_shape_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_study(study_values(**({"grid__patch_sizes": [2]} | change)))
    assert message in str(caught.value)
