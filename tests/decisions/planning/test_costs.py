"""Costs of whole spaces against the estimator's own answer for one design at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.cost import Execution, Request, estimate, find_hardware
from scaling.decisions.planning import Plan, Question, decide, learn
from scaling.decisions.planning.costs import Costs, cost_space, decide_setting, decide_training
from scaling.decisions.planning.space import Space, build_space
from scaling.design import divisors
from scaling.errors import UsageError
from scaling.records import load_records, save_table
from tests.decisions.planning.conftest import ask


def costed(plan: Plan, question: Question) -> tuple[Space, Costs]:
    space = build_space(question, plan.evidence)
    return space, cost_space(space, decide_training(question, plan.evidence), decide_setting(question, plan.evidence))


@pytest.mark.parametrize(
    ("changes", "epochs"), [({"epochs": 90.0, "batch_size": 512}, 90.0), ({}, None), ({"gpus": 16}, None)]
)
def test_every_design_costs_what_the_estimator_says(
    paper: Plan, changes: dict[str, object], epochs: float | None
) -> None:
    question = ask(input_sizes=(128, 224), patch_sizes=(32, 16, 4), **changes)  # pyright: ignore[reportArgumentType]
    space, costs = costed(paper, question)
    hardware = find_hardware("a100-80gb")
    request = Request(hardware, Execution("bf16"), batch_size=question.batch_size or 1024, gpus=question.gpus)
    checked = 0
    for place in np.flatnonzero(costs.trainable & costs.fits):
        design = space.design(int(place))
        recipe = None if epochs else design.architecture
        row = request.rows([design], epochs, recipe)[0]
        assert row.budget is not None
        flops = sum(
            stage.stage.epochs * request.train_images * stage.estimate.cost.training_flops_per_image
            for stage in row.budget.stages
        )
        assert costs.flops[place] == pytest.approx(flops)
        assert costs.gpu_hours[place] == pytest.approx(row.budget.gpu_hours.estimate)
        assert costs.gpu_hours_high[place] == pytest.approx(row.budget.gpu_hours.high)
        assert costs.days[place] == pytest.approx(row.budget.days.estimate)
        assert costs.forward_flops[place] == row.estimate.cost.forward_flops_per_image
        checked += 1
    assert checked > 15


def test_a_recipe_is_followed_where_its_stages_can_be_cut_in_patches(paper: Plan) -> None:
    space, costs = costed(paper, ask(architectures=("adventurer",), sizes=("base",), input_sizes=(224,)))
    trainable = {int(patch) for patch in space.patch_size[costs.trainable]}
    assert trainable == {1, 2, 4, 8, 16, 32}  # of the divisors of 224 those that divide 128 too


def test_each_head_costs_its_own() -> None:
    from scaling.decisions.planning.evidence import gather_evidence, load_table

    question = ask(outcome="mean_iou", epochs=1, sizes=("tiny",), patch_sizes=(16, 8))
    evidence = gather_evidence(load_table(question), question)
    assert set(evidence.kinds) == {("adventurer", "upernet"), ("adventurer", "linear")}
    space = build_space(question, evidence)
    costs = cost_space(space, decide_training(question, evidence), decide_setting(question, evidence))
    names = [str(space.design(place)) for place in range(len(space))]
    assert len(names) == 4
    forward = [estimate(name, classes=150).cost.forward_flops_per_image for name in names]
    assert list(costs.forward_flops) == forward


def test_detectors_may_have_patches_that_do_not_divide_their_inputs() -> None:
    """Those of the records, and what is asked for; they are costed at the padded input."""
    from scaling.decisions.planning.evidence import gather_evidence, load_table

    question = ask(outcome="box_ap", epochs=1, sizes=("base",))
    evidence = gather_evidence(load_table(question), question)
    patches = {int(patch) for patch in build_space(question, evidence).patch_size}
    assert patches == {*divisors(800), 64}
    question = ask(outcome="box_ap", epochs=1, sizes=("base",), patch_sizes=(64, 24, 16))
    space = build_space(question, evidence)
    costs = cost_space(space, decide_training(question, evidence), decide_setting(question, evidence))
    designs = [space.design(place) for place in range(len(space))]
    assert [str(design) for design in designs] == [f"adventurer-base/{patch}@800+cascade" for patch in (16, 24, 64)]
    assert list(space.shape().tokens) == [design.sequence_length for design in designs] == [2500, 1156, 169]
    assert costs.trainable.all()
    assert list(costs.forward_flops) == [estimate(each, classes=80).cost.forward_flops_per_image for each in designs]


def test_more_memory_never_fits_less(paper: Plan) -> None:
    small, large = (
        costed(paper, ask(epochs=1, input_sizes=(224,), memory_bytes=size))[1] for size in (10**10, 8 * 10**10)
    )
    assert not np.any(small.fits & ~large.fits)
    assert small.fits.sum() < large.fits.sum()


def test_inference_is_a_share_of_a_training_step(paper: Plan) -> None:
    _, costs = costed(paper, ask(epochs=1, input_sizes=(224,), patch_sizes=(16,), sizes=("base", "large")))
    assert np.all((costs.milliseconds > 0.2) & (costs.milliseconds < 20))


def test_records_without_a_recipe_need_epochs() -> None:
    from scaling.decisions.planning.evidence import gather_evidence, load_table

    question = ask(outcome="mean_iou")
    evidence = gather_evidence(load_table(question), question)
    with pytest.raises(UsageError, match="does not say how long its models were trained: give --epochs"):
        decide_training(question, evidence)


def test_a_batch_that_does_not_divide_is_named(paper: Plan) -> None:
    with pytest.raises(UsageError, match="does not divide over 48 GPUs"):
        costed(paper, ask(gpus=48))


def test_designs_cost_the_same_by_a_run_and_by_its_exported_table(tmp_path: Path) -> None:
    """The classes and the sides of label maps are those of the records, not ImageNet's."""
    run, table = Path(__file__).parents[3] / "runs" / "digits-quick", tmp_path / "exported.csv"
    save_table(load_records(run, each_stage=True), table)
    question = ask("1 gpu-hours", hardware="cpu", gpus=1, study=str(run))
    by_run, by_table = (decide(one, learn(one)) for one in (question, replace(question, study=str(table))))
    assert by_table.evidence.head == by_run.evidence.head
    assert by_table.chosen.gpu_hours == by_run.chosen.gpu_hours
