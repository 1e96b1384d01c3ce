"""What pilots are worth: regret of the chosen design against what was spent on pilots, in worlds whose law is known.

nice python -m benchmarks.pilots [WORLDS]     # twenty minutes on a core; rewrites benchmarks/results/pilots.md

A world has one of four laws with drawn parameters, and curves that lie off it by 0, 1 or 5 %; runs have 0.5 % of luck.
A few cheap runs are given. Each way then spends a budget on pilots, all surfaces are fitted again, and the plan's
choice is set against the design that is truly the best of those that 3,000 GPU-hours pay for: regret is the difference
over what the best leaves above the floor. Easy worlds give nine runs with three patch sizes; hard
worlds give seven with two values of every scale, and are those whose choice without pilots gives away more than 1 %.
Costs are those of `scaling estimate`, 300 epochs on A100s.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count, islice, pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.pages import Table, write_page
from scaling.decisions.outcomes import OUTCOMES, Array
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.doubts import contenders, doubt, worlds
from scaling.decisions.planning.pilots import next_pilots
from scaling.decisions.planning.plan import Plan, plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.search import State
from scaling.design import Design
from scaling.laws.surface.deviations import WAVES, Waves

WORLDS = 16  # hard ones; half as many easy ones
NOISE = 0.005
MOST = 12  # pilots of one call
BUDGETS = (7, 14, 28, 56)  # GPU-hours of pilots, each twice the one before
LAWS = ("surface", "additive", "multiplicative", "interaction")
WANDERS = (0.0, 0.01, 0.05)
HARD = tuple(
    f"deit-{name}"
    for name in (
        *("tiny/32@64", "tiny/16@64", "tiny/32@128", "tiny/16@128"),
        *("small/32@64", "small/16@64", "small/32@128"),
    )
)
EASY = (*HARD, "deit-tiny/8@64", "deit-small/16@128")
GRID_VALUES = (("tiny", "small", "base", "large"), (32, 16, 8, 4), (64, 128, 192))
GRIDS = ((2, 2, 2), (2, 3, 2), (3, 3, 2), (3, 3, 3), (4, 3, 3), (4, 4, 3))  # sizes, patches, inputs
LEAST_REGRET = 0.01  # without pilots, in hard worlds
FIRST_SEED = 1000  # those below were used to choose the criterion
QUESTION = Question(
    budget=Budget(3000, "gpu_hours"),
    outcome="test_loss",
    epochs=300,
    architectures=("deit",),
    sizes=("tiny", "small", "base", "large"),
    patch_sizes=(4, 8, 16, 32),
    input_sizes=(64, 96, 128, 160, 192, 224),
    extrapolation=64,
)
OUTCOME = OUTCOMES["test_loss"]
OURS = "next_pilots"


@cache
def state() -> State:
    """The search, which is the same in every world."""
    return plan(QUESTION, table_of({name: 1 + 0.01 * place for place, name in enumerate(EASY)}), top=1).state


@cache
def names() -> tuple[str, ...]:
    """Of all designs of the search."""
    return tuple(str(state().space.design(place)) for place in range(len(state().space)))


@cache
def hours() -> dict[str, float]:
    """GPU-hours of every design that can be run."""
    costs = state().costs
    return {names()[place]: float(costs.gpu_hours[place]) for place in np.flatnonzero(costs.trainable & costs.fits)}


def table_of(losses: dict[str, float]) -> pd.DataFrame:
    """Records of one run of each design."""
    fields = ("architecture", "size", "patch_size", "input_size", "sequence_length")
    about = {"task": "classification", "dataset": "imagenet-1k", "status": "done", "seed": 0}
    rows: list[dict[str, Any]] = []
    for name, loss in losses.items():
        design = Design.parse(name)
        rows.append({"design": name, **{key: getattr(design, key) for key in fields}, **about, "test_loss": loss})
    return pd.DataFrame(rows)


def truth(law: str, wander: float, seed: int) -> tuple[Array, Array]:
    """Expected losses of all designs, and their floors; scales are in units of deit-base/16@128."""
    draw = np.random.default_rng([seed, LAWS.index(law)])
    scales = state().places.scales
    size, side, patch = (scales[key] / unit for key, unit in (("parameters", 86e6), ("input", 128), ("patch", 16)))
    floor, model, rest, image = draw.uniform((0.4, 0.1, 0.05, 0.05), (0.7, 0.6, 0.5, 0.5))
    a, c, b, d, beta, power = draw.uniform((0.15, 0.1, 0.0, 0.0, 0.5, 0.5), (0.6, 1.0, 0.4, 0.8, 1.8, 2.0))
    additive = model * size**-a + rest * patch**beta + image * side**-c
    reducible = {
        "surface": model * size**-a * side**-c + rest * size**-b * side**-d * patch**beta,
        "additive": additive,
        "multiplicative": (model + rest) * size**-a * side**-d * patch ** (beta / 2),
        "interaction": additive**power,
    }[law]
    waves = Waves.spread(("parameters", "input"), 1).at(-np.log(np.stack([size, side])), np.zeros(len(size), int))
    factor = np.exp(wander * waves @ draw.standard_normal(WAVES))
    return factor * (floor + reducible), factor * floor


@dataclass(frozen=True, eq=False)
class World:
    """Losses of all designs, runs given, and what was found out so far."""

    law: str
    wander: float
    seed: int
    given: tuple[str, ...]
    known: dict[tuple[str, ...], "Outcome"] = field(default_factory=dict)

    def plan(self, pilots: tuple[str, ...]) -> Plan:
        """From the runs given and pilots; the same luck for the same design."""
        losses = dict(zip(names(), truth(self.law, self.wander, self.seed)[0], strict=True))
        runs = sorted({*self.given, *pilots})
        luck = {name: np.random.default_rng([self.seed, *name.encode()]).standard_normal() for name in runs}
        return plan(QUESTION, table_of({name: losses[name] * np.exp(NOISE * luck[name]) for name in runs}), top=1)

    def outcome(self, pilots: tuple[str, ...]) -> "Outcome":
        """What the plan chooses after these pilots."""
        key = tuple(sorted(pilots))
        if key not in self.known:
            self.known[key] = self._judged(self.plan(key))
        return self.known[key]

    def _judged(self, made: Plan) -> "Outcome":
        losses, floors = truth(self.law, self.wander, self.seed)
        best = int(np.argmin(np.where(state().limits.feasible, losses, np.inf)))
        lost = float(losses[names().index(made.chosen.design)] - losses[best])
        drawn = worlds(made.evidence, made.state.places.chosen(contenders(made)))
        said = doubt(drawn, np.broadcast_to(np.median(drawn, axis=0), drawn.shape), OUTCOME)
        return Outcome(lost, lost / (losses[best] - floors[best]), said.chance_wrong, said.regret)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a plan's choice: what it gives away in loss, over the reducible loss, and as the plan itself says."""

    lost: float
    regret: float
    foreseen_wrong: float
    foreseen_lost: float


Way = Callable[[World, float, np.random.Generator], tuple[str, ...]]


def chosen(world: World, budget: float, _: np.random.Generator) -> tuple[str, ...]:
    """Pilots of one call."""
    return tuple(each.design for each in next_pilots(_first(world), MOST, Budget(budget, "gpu_hours")).pilots)


@cache
def _first(world: World) -> Plan:
    return world.plan(())


def at_random(world: World, budget: float, random: np.random.Generator) -> tuple[str, ...]:
    """Any design that is still paid for."""
    done: list[str] = []
    while some := [name for name in hours() if name not in {*world.given, *done} and hours()[name] <= budget]:
        done.append(some[int(random.integers(len(some)))])
        budget -= hours()[done[-1]]
    return tuple(done)


def cheapest_first(world: World, budget: float, _: np.random.Generator) -> tuple[str, ...]:
    """One after another while they are paid for."""
    return _cheapest(set(hours()) - set(world.given), budget)


def factorial(world: World, budget: float, _: np.random.Generator) -> tuple[str, ...]:
    """Of full grids growing by a value in turn, the first that the budget does not wholly pay for, cheapest first."""
    runs: tuple[str, ...] = ()
    for ends in GRIDS:
        grid = product(*(values[:end] for values, end in zip(GRID_VALUES, ends, strict=True)))
        new = {f"deit-{size}/{patch}@{side}" for size, patch, side in grid} & set(hours()) - set(world.given)
        runs = _cheapest(new, budget)
        if len(runs) < len(new):
            break
    return runs


def _cheapest(some: set[str], budget: float) -> tuple[str, ...]:
    order = sorted(some, key=lambda name: hours()[name])
    return tuple(order[: int(np.searchsorted(np.cumsum([hours()[name] for name in order]), budget, side="right"))])


WAYS: dict[str, Way] = {
    OURS: chosen,
    "at random": at_random,
    "cheapest first": cheapest_first,
    "full factorial": factorial,
}


@dataclass(frozen=True, slots=True)
class Spending:
    """What a budget of pilots led to in one world."""

    gpu_hours: float
    runs: int
    outcome: Outcome


Found = dict[tuple[str, float], list[Spending]]
"""By way and budget, one for each world."""


def drawn_worlds(given: tuple[str, ...]) -> Iterator[World]:
    """Every law with every size of deviations, in turn."""
    kinds = list(product(LAWS, WANDERS))
    return (World(*kinds[place % len(kinds)], FIRST_SEED + place // len(kinds), given) for place in count())


def spend(some: list[World]) -> Found:
    """Every way with every budget in the same worlds; the first without pilots."""
    found: Found = {("none", 0.0): [Spending(0.0, 0, world.outcome(())) for world in some]}
    for name, budget in product(WAYS, BUDGETS):
        rows = found[name, budget] = []
        for world in some:
            runs = WAYS[name](world, budget, np.random.default_rng([world.seed, budget]))
            rows.append(Spending(sum(hours()[run] for run in runs), len(runs), world.outcome(runs)))
        print(f"{name}, {budget} GPU-hours: {np.mean([row.outcome.regret for row in rows]):.2%}", file=sys.stderr)
    return found


def regrets(found: Found, way: str, budget: float) -> Array:
    """(W,), over the reducible loss."""
    return np.array([each.outcome.regret for each in found[way, budget]])


def regret_table(title: str, found: Found) -> Table:
    rows = []
    for (way, budget), spent in found.items():
        outcomes, regret = [each.outcome for each in spent], regrets(found, way, budget)
        rows.append(
            (
                way,
                f"{budget:g}",
                f"{np.mean([each.gpu_hours for each in spent]):.0f} ({np.mean([each.runs for each in spent]):.1f})",
                _with_error(regret),
                f"{np.median(regret):.2%}",
                f"{np.mean([each.lost > 0 for each in outcomes]):.2f} "
                f"({np.mean([each.foreseen_wrong for each in outcomes]):.2f})",
                f"{np.mean([each.lost for each in outcomes]):.4f} "
                f"({np.mean([each.foreseen_lost for each in outcomes]):.4f})",
            )
        )
    columns = ("pilots", "GPU-hours allowed", "spent (runs)", "mean regret", "median")
    return (
        f"{title}: regret of the choice over its reducible loss, ± one standard error",
        (*columns, "wrong (as the plan says)", "loss given away (as the plan says)"),
        rows,
    )


def _with_error(values: Array) -> str:
    sign = "+" if (values < 0).any() else ""
    return f"{values.mean():{sign}.2%} ± {values.std(ddof=1) / np.sqrt(len(values)):.2%}"


def half_table(title: str, found: Found) -> Table:
    """Against other ways in the same worlds: paired differences, and the hours for the same mean regret."""
    ours = np.array([regrets(found, OURS, budget).mean() for budget in BUDGETS])
    rows = []
    for way, (less, budget) in product(list(WAYS)[1:], pairwise(BUDGETS)):
        theirs = regrets(found, way, budget)
        half, same = (regrets(found, OURS, each) - theirs for each in (less, budget))
        rows.append((way, f"{budget:g}", _with_error(half), _with_error(same), hours_for(float(theirs.mean()), ours)))
    columns = ("against", "its GPU-hours", "at half of them", "at the same", "hours for its regret")
    return f"{title}: mean regret of {OURS} less that of another way, paired", columns, rows


def hours_for(regret: float, ours: Array) -> str:
    """GPU-hours from which on a mean regret is kept to, between budgets along their logarithms."""
    ours = np.maximum.accumulate(ours[::-1])[::-1]  # more hours may do worse
    reached = np.flatnonzero(ours <= regret)
    if not len(reached) or reached[0] == 0:
        return f"up to {BUDGETS[0]}" if len(reached) else f"above {BUDGETS[-1]}"
    after = int(reached[0])
    share = (ours[after - 1] - regret) / (ours[after - 1] - ours[after])
    return f"{BUDGETS[after - 1] * (BUDGETS[after] / BUDGETS[after - 1]) ** share:.0f}"


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else WORLDS
    hard = (world for world in drawn_worlds(HARD) if world.outcome(()).regret > LEAST_REGRET)
    tables: list[Table] = []
    for hardness, some, many in (("hard", hard, size), ("easy", drawn_worlds(EASY), max(2, size // 2))):
        title, found = f"{many} {hardness} worlds", spend(list(islice(some, many)))
        tables += [half_table(title, found), regret_table(title, found)]
        write_page("pilots", "Pilots", tables)


if __name__ == "__main__":
    main()
