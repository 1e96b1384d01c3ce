"""Planned patch schedules: against brute force on known laws, by simulation, and on a committed run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize

from scaling.cli.output import Format
from scaling.cli.schedule_output import print_schedule
from scaling.cost import cost_of_cell
from scaling.decisions import (
    PatchLaw,
    PatchSchedule,
    ScheduleError,
    best_schedule,
    plan_schedule,
    schedule_study,
    write_schedule,
)
from scaling.decisions.patch_laws import fit_patch_law, flops_to, losses_at
from scaling.decisions.schedule import cheapest_path
from scaling.design import StudyError, load_study
from scaling.errors import UsageError
from scaling.outputs import OutputError
from scaling.records import RunDirectory
from tests.conftest import small_study

RUNS = Path(__file__).parents[2] / "runs"
# E, A, b, c and FLOPs per image; patch 2 is slow at first and ends lowest.
TRUE = {
    8: (0.60, 3.0e4, -0.50, 2e8, 1e6),
    4: (0.30, 2.5e3, -0.35, 4e8, 4e6),
    2: (0.05, 4.0e2, -0.25, 1e9, 16e6),
}
IMAGES = 400_000


def law_of(patch: int, spread: float = 0.0, images: int = IMAGES) -> PatchLaw:
    """A true law with draws around it."""
    E, A, b, c, per_image = TRUE[patch]
    generator = np.random.default_rng(patch)
    draws = np.array([[E, A, b, c]]) * np.exp(spread * generator.standard_normal((300, 1)) * [[1, 1, 0, 0]])
    ends = 0.05 * images * per_image, images * per_image
    return PatchLaw(f"deit-nano/{patch}@32", patch, int(per_image), E, A, c, b, *ends, 100, 0.01, draws)


def loss(patch: int, flops: Any) -> Any:
    E, A, b, c, _ = TRUE[patch]
    return E + A * (flops + c) ** b


def slope(patch: int, level: float) -> float:
    """FLOPs per unit of loss at a loss, by finite differences of a numerical inverse."""
    step = 1e-6
    return (inverse(patch, level - step) - inverse(patch, level + step)) / (2 * step)


def inverse(patch: int, level: float) -> float:
    return _root(lambda flops: loss(patch, flops) - level, -0.99 * TRUE[patch][3], 1e16)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, rtol=1e-14))  # pyright: ignore[reportArgumentType]


def plan(*patches: int, spread: float = 0.0, images: int = IMAGES) -> PatchSchedule:
    return best_schedule([law_of(patch, spread, images) for patch in patches])


def test_the_switch_is_where_the_slopes_are_equal() -> None:
    found = plan(8, 2)
    assert [stage.patch_size for stage in found.stages] == [8, 2]
    level = _root(lambda level: slope(8, level) - slope(2, level), 0.62, 3.0)
    assert not found.stages[0].at_end_of_curve
    assert found.stages[0].to_loss == found.stages[1].from_loss == pytest.approx(level, abs=0.003)
    assert found.stages[0].training_flops == pytest.approx(inverse(8, level), rel=0.02)


def test_the_saving_is_that_of_integrating_the_cheapest_slope() -> None:
    found, target = plan(8, 4, 2), float(loss(2, IMAGES * TRUE[2][4]))
    assert found.target_loss == pytest.approx(target)
    top = 1.5  # above it patch 8 alone descends

    def least(level: float) -> float:
        return min(slope(patch, level) for patch in TRUE if level > TRUE[patch][0] + 0.01)

    total, _ = integrate.quad(least, target, top, limit=400)
    assert found.training_flops == pytest.approx(inverse(8, top) + total, rel=2e-3)
    assert found.alone_flops == pytest.approx(IMAGES * TRUE[2][4], rel=1e-9)
    assert found.saved.estimate == pytest.approx(1 - found.training_flops / found.alone_flops)
    assert 0 < found.saved.estimate < 1


def test_the_whole_schedule_is_the_best_of_all_pairs_of_switches() -> None:
    """Brute force over both switch losses; at this length patch 4 has little left to do."""
    found, target = plan(8, 4, 2), float(loss(2, IMAGES * TRUE[2][4]))
    levels = np.linspace(target, 2.0, 1500)
    cost = {patch: flops_to(np.array([[*TRUE[patch][:4]]])[:, [0, 1, 2, 3]], levels) for patch in TRUE}
    reached = {patch: np.where(levels >= loss(patch, IMAGES * TRUE[patch][4]), cost[patch], np.inf) for patch in TRUE}
    with np.errstate(invalid="ignore"):
        one = reached[8][:, None] - cost[4][:, None]  # to patch 4 at a loss
        two = reached[4][None] - cost[2][None]  # and on to patch 2 at a lower one
    totals = np.where(levels[:, None] >= levels[None], one + two, np.inf) + cost[2][0]
    assert found.training_flops == pytest.approx(np.nanmin(totals), rel=1e-3)


def test_shares_are_of_images_and_flops_add_up() -> None:
    found = plan(8, 4, 2)
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    assert sum(stage.training_flops for stage in found.stages) == pytest.approx(found.training_flops)
    for stage in found.stages:
        assert stage.training_images == pytest.approx(stage.training_flops / TRUE[stage.patch_size][4])
        assert stage.share == pytest.approx(stage.training_images / found.training_images)
    assert [stage.from_loss for stage in found.stages[1:]] == [stage.to_loss for stage in found.stages[:-1]]
    assert found.stages[-1].to_loss == found.target_loss


def test_a_curve_is_not_used_beyond_its_end() -> None:
    found = plan(8, 2, images=1000)
    assert found.stages[0].at_end_of_curve
    assert found.stages[0].training_images == pytest.approx(1000, rel=0.02)
    assert any("at patch 8 more may be saved" in note for note in found.notes)


def test_a_large_patch_that_never_pays_is_not_in_the_schedule() -> None:
    useless = law_of(8)
    slow = PatchLaw(
        "deit-nano/8@32", 8, 10**6, 1.0, useless.A * 1e6, useless.c, useless.b, 1e9, 1e12, 9, 0.0, useless.draws
    )
    found = best_schedule([slow, law_of(2)], source=str(RUNS / "digits-quick"))
    assert [stage.patch_size for stage in found.stages] == [2]
    assert found.saved.estimate == pytest.approx(0)
    assert found.training_flops == pytest.approx(found.alone_flops)
    with pytest.raises(ScheduleError, match=r"deit-nano/2@32: no larger patch saves a step"):
        schedule_study(found)


def test_a_design_that_is_never_the_cheapest_is_refused() -> None:
    better = PatchLaw("deit-nano/4@32", 4, 10**6, 0.0, 50.0, 1e6, -0.3, 1e8, 1e12, 9, 0.0, np.zeros((9, 4)))
    with pytest.raises(ScheduleError, match=r"deit-nano/2@32: deit-nano/4@32 reaches its final loss with fewer FLOPs"):
        best_schedule([better, law_of(2)])


def test_the_best_single_patch_may_be_another_than_the_design_s() -> None:
    found = plan(4, 2)
    levels = {patch: float(flops_to(law_of(patch).values, np.array([found.target_loss]))[0]) for patch in (4, 2)}
    within = {patch: flops for patch, flops in levels.items() if flops <= 1.001 * law_of(patch).final_flops}
    assert found.single_patch_size == min(within, key=lambda patch: within[patch])
    assert found.single_flops == pytest.approx(min(within.values()))
    assert found.saved_over_single.estimate <= found.saved.estimate


@pytest.mark.parametrize("seed", range(20))
def test_the_path_is_the_optimum_of_all_paths(seed: int) -> None:
    """Against every way to go through random curves that only grow; some end early."""
    generator = np.random.default_rng(seed)
    count, levels = 3, 7
    costs = np.cumsum(generator.exponential(size=(count, levels)), axis=1)
    for place in range(count - 1):
        costs[place, generator.integers(2, levels + 1) :] = np.inf

    def total(switches: list[tuple[int, int]]) -> float:
        ends = [start for _, start in switches[1:]] + [levels - 1]
        spent = 0.0
        for index, ((place, start), end) in enumerate(zip(switches, ends, strict=True)):
            if not np.isfinite(costs[place, end]):
                return np.inf
            spent += costs[place, end] - (costs[place, start] if index else 0.0)
        return spent

    every = [[(2, 0)]]
    every += [[(first, 0), (2, at)] for first in (0, 1) for at in range(levels)]
    every += [[(0, 0), (1, one), (2, two)] for one in range(levels) for two in range(one, levels)]
    assert total(cheapest_path(costs)) == pytest.approx(min(map(total, every)))


def simulated(patch: int, generator: np.random.Generator, noise: float) -> PatchLaw:
    """A law fitted to two noisy curves."""
    per_image = TRUE[patch][4]
    flops = np.tile(np.linspace(0.05, 1, 60) * IMAGES * per_image, 2)
    losses = loss(patch, flops) * np.exp(noise * generator.standard_normal(len(flops)))
    curves = np.repeat([0, 1], 60)
    return fit_patch_law(f"deit-nano/{patch}@32", patch, int(per_image), flops, losses, curves)


def test_clean_curves_give_back_the_law_and_its_schedule() -> None:
    laws = [simulated(patch, np.random.default_rng(0), 1e-6) for patch in TRUE]
    for law, (E, A, b, c, _) in zip(laws, TRUE.values(), strict=True):
        assert (law.E, law.b) == (pytest.approx(E, abs=1e-2), pytest.approx(b, rel=2e-2))
        flops = np.geomspace(law.first_flops, law.final_flops, 9)
        assert losses_at(law.values, flops) == pytest.approx(losses_at(np.array([[E, A, b, c]]), flops), rel=1e-4)
    assert best_schedule(laws).saved.estimate == pytest.approx(plan(8, 4, 2).saved.estimate, abs=0.01)


@pytest.mark.slow
def test_intervals_of_the_saving_cover_the_truth() -> None:
    truth, covered, count = plan(8, 2).saved.estimate, 0, 60
    for seed in range(count):
        generator = np.random.default_rng(seed)
        found = best_schedule([simulated(patch, generator, 0.01) for patch in (8, 2)]).saved
        assert found.low <= found.estimate <= found.high
        covered += found.low <= truth <= found.high
    assert covered / count >= 0.85  # of 95 %: percentiles of 20 blocks are a little narrow


def test_wider_draws_give_wider_intervals() -> None:
    narrow, wide = (plan(8, 2, spread=spread).saved for spread in (0.001, 0.01))
    assert narrow.low < narrow.estimate < narrow.high
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    certain = plan(8, 2, spread=0.0).saved
    assert certain.low == pytest.approx(certain.estimate, abs=1e-3)
    assert certain.high == pytest.approx(certain.estimate, abs=1e-3)


@pytest.fixture(scope="module")
def quick() -> PatchSchedule:
    return plan_schedule(RUNS / "digits-quick", "deit-nano/3@24")


def test_the_committed_run_has_a_schedule(quick: PatchSchedule) -> None:
    assert quick.design == "deit-nano/3@24+linear"
    assert quick.loss == "training loss"
    assert [law.patch_size for law in quick.laws] == [12, 6, 4, 3]
    assert quick.stages[-1].patch_size == 3
    assert len(quick.stages) > 1
    assert 0.15 < quick.saved.low < quick.saved.estimate < quick.saved.high < 0.4
    assert quick.alone_flops == pytest.approx(7.5e11, rel=0.01)
    assert any("indicative" in note for note in quick.notes)
    values = json.loads(json.dumps(quick.to_json(), allow_nan=False))
    assert values["stages"][0]["patch_size"] == quick.stages[0].patch_size
    assert values["saved"]["estimate"] == quick.saved.estimate
    assert len(values["laws"]) == 4


def test_a_schedule_becomes_a_study_that_can_be_trained(quick: PatchSchedule, tmp_path: Path) -> None:
    path = tmp_path / "planned.toml"
    write_schedule(quick, path)
    study = load_study(path)
    assert study == schedule_study(quick)
    assert study.name == "digits-quick-schedule"
    original = RunDirectory(RUNS / "digits-quick").study()
    assert study.data == original.data
    assert study.recipe.learning_rate == original.recipe.learning_rate
    cells = study.cells()
    assert [(str(cell.design), cell.seed) for cell in cells] == [("deit-nano/3@24+linear", seed) for seed in (0, 1)]
    cost = cost_of_cell(cells[0], scan="recomputed")
    assert cost.training_flops == pytest.approx(quick.training_flops, rel=2e-3)
    assert [stage.design.patch_size for stage in cost.stages] == [stage.patch_size for stage in quick.stages]
    with pytest.raises(StudyError, match=r"planned.toml exists already; choose another name"):
        write_schedule(quick, path)
    with pytest.raises(OutputError, match=r"cannot be written \(.*planned.toml is no folder\)"):
        write_schedule(quick, path / "planned.toml")


def test_what_cannot_carry_a_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScheduleError, match=r"paper: has no learning curves; a schedule needs those of a run directory"
    ):
        plan_schedule("paper", "deit-base/4@224")
    with pytest.raises(UsageError, match=r"'deit-nano/5@24' is no design of study 'digits-quick'"):
        plan_schedule(RUNS / "digits-quick", "deit-nano/5@24")
    with pytest.raises(ScheduleError, match=r"no larger patch beside deit-nano/12@24\+linear has a complete"):
        plan_schedule(RUNS / "digits-quick", "deit-nano/12@24")


def run_of(path: Path, curves: dict[int, list[float]], **changes: Any) -> Path:
    """A run directory with these losses, logged at equal steps of the training."""
    study = small_study(grid__patch_sizes=list(curves), recipe__steps=40, **changes)
    run = RunDirectory(path)
    run.prepare(study)
    for cell, losses in zip(study.cells(), curves.values(), strict=True):
        folder = run.begin(cell)
        rows = [{"step": step, "images": 8 * step, "loss": loss} for step, loss in enumerate(losses, start=1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FALLING = [1 / step**0.5 for step in range(1, 41)]


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({8: FALLING, 4: FALLING[:30]}, r"deit-nano/4@16\+linear has no complete learning curve; 'scaling run-grid"),
        ({8: FALLING[:30], 4: FALLING}, r"no larger patch beside deit-nano/4@16\+linear has a complete"),
        ({8: FALLING[::-1], 4: FALLING}, r"deit-nano/8@16\+linear: its training loss does not fall with compute"),
        ({8: [0.2, 2.0] * 20, 4: FALLING}, r"deit-nano/8@16\+linear: its"),
        ({8: [float("nan")] * 40, 4: FALLING}, r"no larger patch beside"),
    ],
)
def test_curves_that_cannot_be_used_are_named(curves: dict[int, list[float]], message: str, tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=message):
        plan_schedule(run_of(tmp_path / "run", curves), "deit-nano/4@16")


def test_a_run_of_schedules_is_refused(tmp_path: Path) -> None:
    stages = [{"patch_size": 8, "share": 0.5}]
    run = run_of(tmp_path / "run", {4: FALLING, 2: FALLING}, recipe__stages=stages)
    with pytest.raises(ScheduleError, match=r"was trained with a patch schedule itself"):
        plan_schedule(run, "deit-nano/2@16")


def test_unfinished_cells_are_left_out_and_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUNS / "digits-quick", run)
    study = RunDirectory(run).study()
    cell = next(cell for cell in study.cells() if cell.name == "deit-nano/6@24+linear seed 1")
    path = RunDirectory(run).cell_folder(cell.id) / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]))
    found = plan_schedule(run, "deit-nano/6@24")
    assert "left out, not trained to the end: deit-nano/6@24+linear seed 1" in found.notes


def test_a_schedule_is_printed(quick: PatchSchedule, capsys: pytest.CaptureFixture[str]) -> None:
    print_schedule(quick)
    shown = capsys.readouterr()
    assert shown.out.startswith(f"* Train patch {quick.stages[0].patch_size} for ")
    assert "deit-nano/3@24+linear: to a training loss of 0.2253" in shown.out
    assert "best single patch, 3" in shown.out
    assert shown.err.count("note: ") == len(quick.notes)
    print_schedule(quick, Format.JSON)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(quick.to_json()))
    print_schedule(best_schedule([law_of(4), law_of(2)], source="run"))
    assert "Train patch 4" in capsys.readouterr().out
