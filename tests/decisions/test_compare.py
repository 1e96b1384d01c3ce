"""Comparisons of axes: against closed forms, by simulation, and on the published records."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.decisions import CompareError, Comparison, compare, to_json, verdict
from scaling.decisions.draws import Curve
from scaling.errors import UsageError
from scaling.records import RecordError

PARAMETERS = {"nano": 1e5, "micro": 4e5, "tiny": 1.6e6}


def row(size: str = "nano", patch: int = 8, input_size: int = 32, seed: int = 0, **values: Any) -> dict[str, Any]:
    """A record whose FLOPs are parameters times tokens."""
    tokens = (input_size // patch) ** 2
    found = {
        "design": f"deit-{size}/{patch}@{input_size}",
        "architecture": "deit",
        "size": size,
        "patch_size": patch,
        "input_size": input_size,
        "head": None,
        "extended_length": None,
        "sequence_length": tokens,
        "task": "classification",
        "dataset": "digits",
        "seed": seed,
        "status": "done",
        "parameters": PARAMETERS[size],
        "training_flops_per_image": PARAMETERS[size] * tokens,
        "activation_bytes_per_image": 1e3 * tokens,
        "training_seconds": PARAMETERS[size] * tokens / 1e6,
    }
    return found | values


def grid(loss_of: Any, seeds: int = 1, noise: float = 0.0, generator: Any = None) -> pd.DataFrame:
    rows = []
    for size, patch in (("nano", 8), ("nano", 4), ("nano", 2), ("micro", 8), ("tiny", 8)):
        for seed in range(seeds):
            factor = np.exp(noise * generator.standard_normal()) if noise else 1.0
            rows.append(row(size, patch, seed=seed, test_loss=factor * loss_of(PARAMETERS[size], patch)))
    return pd.DataFrame(rows)


def steep_patch(parameters: float, patch: int) -> float:
    """Loss falls by FLOPs^-0.2 along patches, by FLOPs^-0.05 along parameters."""
    return (16 / patch**2) ** -0.2 * (parameters / 1e5) ** -0.05


def at_end(found: Comparison, cost: str = "flops") -> Any:
    return next(each for each in found.differences if each.cost == cost and each.at_end)


def test_gains_ratios_and_differences_are_those_of_the_closed_form() -> None:
    found = compare(grid(steep_patch), "deit-nano/8@32", noise=0.001)
    patch, size = found.axes
    assert [axis.name for axis in found.axes] == ["patch", "parameters"]
    base = steep_patch(1e5, 8)
    assert patch.steps[-1].ratios["flops"] == pytest.approx(16)
    assert patch.steps[-1].ratios["memory"] == pytest.approx(16)
    assert size.steps[-1].ratios["memory"] == pytest.approx(1)
    assert patch.steps[-1].gain.estimate == pytest.approx(base * (1 - 16**-0.2))
    assert patch.steps[-1].per_doubling["flops"] == pytest.approx(base * (1 - 16**-0.2) / 4)
    end = at_end(found)
    assert (end.first, end.second, end.ratio) == ("patch", "parameters", pytest.approx(16))
    assert end.gain.estimate == pytest.approx(base * (16**-0.05 - 16**-0.2))
    assert end.gain.chance == 1.0


def test_between_designs_a_path_is_straight_in_logarithms() -> None:
    found = compare(grid(steep_patch), "deit-nano/8@32", noise=0.001)
    halfway = next(each for each in found.differences if each.cost == "flops" and each.ratio == 2)
    assert halfway.gain.estimate == pytest.approx(steep_patch(1e5, 8) * (2**-0.05 - 2**-0.2))


def test_an_elasticity_is_the_exponent_of_the_law() -> None:
    found = compare(grid(steep_patch), "deit-nano/8@32").elasticities()
    assert found["patch"].exponent.estimate == pytest.approx(-0.2, abs=1e-4)
    assert found["parameters"].exponent.estimate == pytest.approx(-0.05, abs=1e-4)


@pytest.mark.parametrize(("bend", "turns"), [(0.0, False), (0.6, True), (-0.6, True)])
def test_an_axis_that_turns_has_no_elasticity(bend: float, turns: bool) -> None:
    """Losses that fall as a power, and such that bend at a patch of 4 pixels."""

    def loss(parameters: float, patch: int) -> float:
        return steep_patch(parameters, patch) + bend * abs(np.log2(patch / 4))

    records = grid(loss, seeds=3, noise=0.005, generator=np.random.default_rng(5))
    found = compare(records, "deit-nano/8@32")
    assert {name: known.turns for name, known in found.elasticities().items()} == {"patch": turns, "parameters": False}
    assert found.elasticities()["patch"].to_json()["turns"] is turns


def test_an_exponent_that_no_data_bound_is_not_shown_as_one() -> None:
    losses = {16: 0.7, 8: 0.30, 4: 0.31}
    rows = [
        row("nano", patch, test_loss=loss * factor, seed=seed, training_flops_per_image=16.0 / patch)
        for patch, loss in losses.items()
        for seed, factor in enumerate((0.9, 1.1))
    ]
    (known,) = compare(pd.DataFrame(rows), "deit-nano/16@32").elasticities().values()
    assert (known.turns, known.doubt) == (False, "not identified by these designs")
    assert np.isinf([known.exponent.low, known.exponent.high]).any()
    assert known.to_json()["doubt"] == known.doubt


def test_costs_can_order_axes_differently() -> None:
    records = grid(steep_patch)
    of_size = records["size"].map({"nano": 1.0, "micro": 1.3, "tiny": 1.5})
    records["activation_bytes_per_image"] = of_size * (8 / records["patch_size"]) ** 3
    found = compare(records, "deit-nano/8@32", noise=0.001)
    assert at_end(found, "flops").gain.estimate > 0 > at_end(found, "memory").gain.estimate
    assert any(sentence.startswith("It depends on the cost") for sentence in verdict(found))


def test_intervals_of_a_difference_cover_the_truth() -> None:
    generator = np.random.default_rng(3)
    truth = steep_patch(1.6e6, 8) - steep_patch(1e5, 2)
    covered = 0
    for _ in range(300):
        found = compare(grid(steep_patch, seeds=3, noise=0.02, generator=generator), "deit-nano/8@32")
        gain = at_end(found).gain
        covered += gain.low <= truth <= gain.high
    assert 0.92 <= covered / 300 <= 0.98


def test_the_bases_own_luck_cancels() -> None:
    lucky = grid(steep_patch)
    lucky.loc[lucky["design"] == "deit-nano/8@32", "test_loss"] *= 0.8
    usual = compare(grid(steep_patch), "deit-nano/8@32", noise=0.01)
    assert at_end(compare(lucky, "deit-nano/8@32", noise=0.01)).gain == at_end(usual).gain


def test_noise_is_estimated_from_repeats_or_assumed() -> None:
    generator = np.random.default_rng(0)
    repeated = compare(grid(steep_patch, 4, 0.03, generator))
    assert "15 degrees of freedom" in repeated.noise
    assert 0.015 < float(repeated.noise.split("%")[0].split()[-1]) / 100 < 0.045
    assert "assumed" in compare(grid(steep_patch)).noise
    assert "as given: 2.00%" in compare(grid(steep_patch), noise=0.02).noise


def test_a_step_within_the_noise_does_not_pay() -> None:
    flat = grid(lambda parameters, patch: 1.0 if patch == 8 else 0.8 + 1e-4 * patch)
    axis = compare(flat, "deit-nano/8@32", noise=0.01).axes[0]
    assert axis.pays_until.design == "deit-nano/4@32"


def test_a_step_that_loses_is_not_called_noise() -> None:
    worse = grid(lambda parameters, patch: {8: 1.0, 4: 0.8, 2: 1.1}[patch])
    said = verdict(compare(worse, "deit-nano/8@32", noise=0.01))
    assert "A smaller patch pays up to deit-nano/4@32; deit-nano/2@32, the last one tried, is worse than that." in said


def test_unfinished_cells_stay_on_the_path_without_a_value() -> None:
    records = pd.concat(
        [grid(steep_patch), pd.DataFrame([row("nano", 1, status="oom", test_loss=None)])], ignore_index=True
    )
    axis = compare(records, "deit-nano/8@32").axes[0]
    assert [(each.design, each.status) for each in axis.path.unfinished] == [("deit-nano/1@32", "oom")]
    assert axis.steps[-1].candidate.design == "deit-nano/2@32"


def test_costs_are_those_of_finished_trainings() -> None:
    whole = grid(steep_patch).assign(images_seen=1000)
    cut = [
        row("nano", 4, seed=1, status=status, test_loss=None, images_seen=100, training_seconds=0.1)
        for status in ("preempted", "diverged")
    ]
    never = row("nano", 1, status="preempted", test_loss=None, images_seen=100)
    found = compare(pd.concat([whole, pd.DataFrame([*cut, never])], ignore_index=True), "deit-nano/8@32")
    path = found.axes[0].path
    assert [step.ratios for step in found.axes[0].steps] == [step.ratios for step in compare(whole).axes[0].steps]
    (unfinished,) = path.unfinished
    assert set(unfinished.costs) == {"memory"}  # of a part of a training no FLOPs and no hours are said


def test_inputs_and_extensions_are_axes_of_their_own() -> None:
    records = [
        row(test_loss=1.0),
        row(input_size=64, test_loss=0.7),
        row(patch=16, input_size=64, test_loss=0.9),
        row(design="deit-nano/8@32+extend=64", extended_length=64, sequence_length=64, test_loss=0.99),
        row(patch=4, test_loss=0.6),
    ]
    found = compare(pd.DataFrame(records), "deit-nano/8@32")
    steps = {axis.name: [step.candidate.design for step in axis.steps] for axis in found.axes}
    assert steps == {
        "patch": ["deit-nano/4@32"],
        "input": ["deit-nano/8@64"],
        "input at fixed length": ["deit-nano/16@64"],
        "extension": ["deit-nano/8@32+extend=64"],
    }


def test_confounders_are_named() -> None:
    records = grid(steep_patch)
    records["recipe.learning_rate"] = np.where(records["size"] == "tiny", 1e-4, 1e-3)
    records["recipe.micro_batch_size"] = range(len(records))
    older = records["size"] == "micro"  # than the setting
    records["recipe.new_head"] = np.where(older, np.nan, 0).astype(object)
    found = compare(records, "deit-nano/8@32")
    assert found.confounders == (
        "deit-tiny/8@32 and deit-nano/8@32 differ in the recipe's learning_rate",
        "5 designs have one seed each: how much seeds differ was not measured",
    )
    given = compare(records, "deit-nano/8@32", noise=0.01)
    assert given.confounders == found.confounders[:1]


LOSSES = st.integers(100, 3000).map(lambda thousandths: thousandths / 1000)  # equal, or apart after their logarithm


@settings(deadline=None, max_examples=50, derandomize=True)
@given(values=st.lists(st.tuples(st.floats(1, 100), LOSSES), min_size=3, max_size=12, unique_by=lambda v: v[0]))
def test_the_frontier_is_what_nothing_cheaper_equals(values: list[tuple[float, float]]) -> None:
    patches = [2**index for index in range(len(values))]
    rows = [
        row(patch=patch, input_size=2048, training_flops_per_image=cost, test_loss=loss)
        for patch, (cost, loss) in zip(patches, values, strict=True)
    ]
    frontier = compare(pd.DataFrame(rows)).frontier["flops"]
    for one in rows:
        cheaper = [
            other
            for other in rows
            if other["training_flops_per_image"] < one["training_flops_per_image"]
            and other["test_loss"] <= one["test_loss"]
        ]
        assert (one["design"] in frontier) == (not cheaper)


def test_a_curve_asked_at_its_designs_gives_them() -> None:
    found = compare(grid(steep_patch), "deit-nano/8@32", noise=0.001)
    for step in found.axes[0].steps:
        assert step.gain.low < step.gain.estimate < step.gain.high
    assert Curve(("a", "b"), np.array([1.0, 4.0])).end == 4.0


def test_the_published_records() -> None:
    found = compare("paper")
    assert found.base.design == "adventurer-base/16@224"
    assert {axis.name for axis in found.axes} == {"patch", "parameters", "input", "extension"}
    gains = {axis.name: round(axis.steps[-1].gain.estimate, 6) for axis in found.axes}
    assert gains == {"patch": 2.0, "parameters": 0.8, "input": 1.7, "extension": 0.2}
    assert any("recipe" in each for each in found.confounders)
    assert any("README" in note for note in found.notes)
    assert next(axis for axis in found.axes if axis.name == "parameters").path.unfinished[0].status == "unreported"
    table = to_json(compare("paper", "deit-base/16@128"))
    assert {axis["axis"]: len(axis["steps"]) for axis in table["axes"]} == {"patch": 3, "input": 0, "extension": 2}


@pytest.mark.parametrize(
    ("changes", "base", "y", "error", "words"),
    [
        ({}, "deit-nano/16@32", None, UsageError, "not among the records"),
        ({}, None, "acuracy", UsageError, "accuracy"),
        ({"test_loss": np.nan}, None, None, CompareError, "none of the 5 records has"),
        ({"status": "oom"}, "deit-nano/8@32", None, UsageError, "start from another"),
        ({"architecture": None}, None, None, CompareError, "nothing to compare"),
    ],
)
def test_bad_input(changes: dict[str, Any], base: str | None, y: str | None, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        compare(grid(steep_patch).assign(**changes), base, y)


def test_a_single_design_says_what_to_run() -> None:
    with pytest.raises(CompareError, match="run-grid STUDY --only 'deit-nano/"):
        compare(pd.DataFrame([row(test_loss=1.0)]), "deit-nano/8@32")
    with pytest.raises(CompareError, match="one axis alone"):
        compare(pd.DataFrame([row(test_loss=1.0), row("micro", 4, test_loss=0.5)]))


def with_decoders(gain: float = 0.05) -> pd.DataFrame:
    """Linear and UperNet at patches of 8 to 2; UperNet costs three times as much and takes off `gain`."""
    rows = []
    for patch in (8, 4, 2):
        for place, head in enumerate(("linear", "upernet")):
            plain = row(patch=patch, head=head, task="segmentation", test_loss=steep_patch(1e5, patch) - gain * place)
            flops = plain["training_flops_per_image"] * 3**place
            rows.append(plain | {"design": f"{plain['design']}+{head}", "training_flops_per_image": flops})
    return pd.DataFrame(rows)


def test_a_decoder_is_an_axis_set_against_smaller_patches_at_equal_cost() -> None:
    found = compare(with_decoders(), "deit-nano/8@32+linear", noise=0.001)
    assert [axis.name for axis in found.axes] == ["patch", "decoder"]
    (step,) = found.axes[1].steps
    assert step.candidate.design == "deit-nano/8@32+upernet"
    assert (step.ratios["flops"], step.gain.estimate) == (pytest.approx(3), pytest.approx(0.05))
    end = at_end(found)
    patch_alone = steep_patch(1e5, 8) * (1 - 3**-0.2)
    assert (end.ratio, end.gain.estimate) == (pytest.approx(3), pytest.approx(patch_alone - 0.05))
    assert any("a smaller patch beats a decoder" in sentence for sentence in verdict(found))
    assert "--only 'deit-*/8@32+linear'" in " ".join(found.gaps)


def test_boxes_and_masks_are_asked_for_by_their_task() -> None:
    boxes = grid(steep_patch).assign(head="cascade", task="detection")
    masks = boxes.assign(task="instance-segmentation", test_loss=2 * boxes["test_loss"])
    both = pd.concat([boxes, masks], ignore_index=True)
    assert compare(both).field.task == "detection"
    found = compare(both, "deit-nano/8@32", task="instance-segmentation")
    assert found.base.value == pytest.approx(2 * steep_patch(1e5, 8))
    with pytest.raises(UsageError, match="give --task"):
        compare(both, "deit-nano/8@32")
    with pytest.raises(UsageError, match="did you mean 'detection'"):
        compare(both, task="detect")


def test_a_design_in_two_data_sets_is_refused() -> None:
    two = pd.concat([grid(steep_patch), grid(steep_patch).assign(dataset="other")], ignore_index=True)
    with pytest.raises(UsageError, match="more than once"):
        compare(two, "deit-nano/8@32")


def test_small_gains_that_add_up_pay() -> None:
    losses = {8: 1.0, 4: 0.99, 2: 0.98}
    axis = compare(grid(lambda parameters, patch: losses[patch]), "deit-nano/8@32", noise=0.006).axes[0]
    assert [step.over_previous.chance < 0.95 for step in axis.steps] == [True, True]
    assert axis.pays_until.design == "deit-nano/2@32"


def test_ties_are_nobodys_gain() -> None:
    found = compare(grid(lambda parameters, patch: 0.5), "deit-nano/8@32", noise=0.0)
    assert {each.gain.chance for each in found.differences} == {0.5}
    assert {chance for each in found.rankings for chance in each.best.values()} == {0.5}
    assert not any("beats" in sentence or "worse" in sentence for sentence in verdict(found))


def test_beats_means_that_the_interval_excludes_zero() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        found = compare(grid(lambda parameters, patch: 1.0, 1, 0.01, generator), "deit-nano/8@32", noise=0.01)
        for sentence in verdict(found):
            low = re.search(r"beats .* interval (-?[\d.e-]+)", sentence)
            assert low is None or float(low[1]) >= 0


@pytest.mark.parametrize(
    ("column", "value"), [("accuracy", 0.0), ("accuracy", 1.0), ("test_loss", 0.0), ("test_loss", -1.0)]
)
def test_values_without_a_logarithm_stay_on_the_path_with_the_reason(column: str, value: float) -> None:
    rows = [row(patch=patch) | {column: result} for patch, result in ((8, 0.5), (4, 0.6), (2, value))]
    (axis,) = compare(pd.DataFrame(rows), "deit-nano/8@32").axes
    label = "accuracy" if column == "accuracy" else "test loss"
    assert [each.status for each in axis.path.unfinished] == [f"{label} {value:g}"]


def test_copies_are_no_repeats_and_other_settings_no_seeds() -> None:
    twice = pd.concat([grid(steep_patch)] * 2, ignore_index=True)
    assert "assumed" in compare(twice).noise
    swept = pd.concat([grid(steep_patch), grid(steep_patch).assign(test_loss=0.5)], ignore_index=True)
    with pytest.raises(CompareError, match="several results of seed 0"):
        compare(swept)


def test_designs_of_one_input_are_no_larger_input() -> None:
    found = compare("paper", "adventurer-tiny/32@800+cascade", "box_ap")
    assert [axis.name for axis in found.axes] == ["patch", "parameters"]
    bare = grid(steep_patch).drop(columns="sequence_length")
    assert {axis.name for axis in compare(bare, "deit-nano/8@32").axes} == {"patch", "parameters"}


def test_gaps_are_said() -> None:
    holed = grid(steep_patch)
    holed.loc[holed["design"] == "deit-nano/4@32", "training_flops_per_image"] = np.nan
    found = compare(holed, "deit-nano/8@32")
    assert found.gaps == (
        "patch has no place over flops: not known of all its designs, or not growing with each",
        "parameters has no place over memory: not known of all its designs, or not growing with each",
        "a larger input was not tried: add to the study's grid, and scaling run-grid STUDY --only 'deit-nano/8@*'",
    )
    unknown = grid(steep_patch).drop(columns="parameters")
    assert [axis.name for axis in compare(unknown, "deit-nano/8@32").axes] == ["patch"]


@pytest.mark.parametrize("noise", [-0.1, np.inf, np.nan])
def test_a_noise_that_is_none(noise: float) -> None:
    with pytest.raises(UsageError, match="no standard deviation"):
        compare(grid(steep_patch), noise=noise)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": ["68 %"] * 5}, "'accuracy' does not hold numbers"),
        ({"accuracy": [68.2, 70.0, 71.0, 72.0, 73.0]}, "divide percentages by 100"),
    ],
)
def test_text_and_percentages_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecordError, match=words):
        compare(grid(steep_patch).assign(**changes))


def test_rows_without_a_patch_are_no_designs() -> None:
    rows = grid(steep_patch).astype({"patch_size": float})
    rows.loc[4, "patch_size"] = np.nan
    assert "deit-tiny/8@32" not in {each.design for each in compare(rows, "deit-nano/8@32").field.candidates}
