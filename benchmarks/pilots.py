"""What pilots are worth: regret of the chosen design against what was spent on pilots, in worlds whose law is known.

python -m benchmarks.pilots [WORLDS]     # half an hour on two cores; rewrites benchmarks/results/pilots.md

A world is loss = E + A N^-a R^-c + B N^-b R^-d p^beta with drawn parameters; runs have 0.5 % of luck. Nine cheap runs
are given. Each way then spends a budget on pilots, all surfaces are fitted again, and the plan's choice is set against
the design that is truly the best of those that 3,000 GPU-hours pay for: regret is the difference over what the best
leaves above the floor E. Costs are those of `scaling estimate`, 300 epochs on A100s.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pool
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.pages import Table, write_page
from scaling.decisions.outcomes import OUTCOMES, Array, Outcome
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.doubts import contenders, doubt, worlds
from scaling.decisions.planning.evidence import parameters_of
from scaling.decisions.planning.pilots import next_pilots
from scaling.decisions.planning.plan import Plan, plan
from scaling.decisions.planning.question import Question
from scaling.design import Design

WORLDS = 40
NOISE = 0.005
MOST = 12  # pilots of one call
BUDGETS = (12, 25, 50, 100, 200, 400)  # GPU-hours of pilots
GIVEN = tuple(
    f"deit-{size}"
    for size in (
        *("tiny/32@64", "tiny/16@64", "tiny/8@64", "tiny/32@128", "tiny/16@128"),
        *("small/32@64", "small/16@64", "small/32@128", "small/16@128"),
    )
)
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


@dataclass(frozen=True, slots=True)
class World:
    """A law whose scales are in units of deit-base/16@128, and the luck of its runs."""

    law: dict[str, float]
    seed: int

    @classmethod
    def drawn(cls, seed: int) -> "World":
        draw = np.random.default_rng(seed).uniform
        ranges = {"E": (0.4, 0.7), "A": (0.1, 0.6), "B": (0.05, 0.5), "a": (0.15, 0.6), "c": (0.2, 1.0)}
        ranges |= {"b": (0.0, 0.4), "d": (0.0, 0.8), "beta": (0.5, 1.8)}
        return cls({name: draw(*ends) for name, ends in ranges.items()}, seed)

    def loss(self, name: str) -> float:
        """Expected loss of a design."""
        design, law = Design.parse(name), self.law
        size, side, patch = parameters_of(design) / 86e6, design.input_sides[0] / 128, design.patch_size / 16
        first = law["A"] * size ** -law["a"] * side ** -law["c"]
        return law["E"] + first + law["B"] * size ** -law["b"] * side ** -law["d"] * patch ** law["beta"]

    def table(self, names: list[str]) -> pd.DataFrame:
        """Records of runs; the same luck for the same design and seed."""
        return pd.DataFrame([self._record(name, names[:place].count(name)) for place, name in enumerate(names)])

    def _record(self, name: str, seed: int) -> dict[str, Any]:
        design = Design.parse(name)
        own = np.random.default_rng([self.seed, seed, *name.encode()])
        fields = ("architecture", "size", "patch_size", "input_size", "sequence_length")
        about = {"task": "classification", "dataset": "imagenet-1k", "status": "done", "seed": seed}
        loss = self.loss(name) * np.exp(NOISE * own.standard_normal())
        return {"design": name, **{key: getattr(design, key) for key in fields}, **about, "test_loss": loss}

    def plan(self, names: list[str]) -> Plan:
        return plan(QUESTION, self.table(names), top=1)

    def lost(self, made: Plan) -> tuple[float, float]:
        """By how much the best feasible design is better than the plan's: loss, and over what is reducible of it."""
        places = np.flatnonzero(made.state.limits.feasible)
        best = min(self.loss(str(made.state.space.design(int(place)))) for place in places)
        lost = self.loss(made.chosen.design) - best
        return lost, lost / (best - self.law["E"])


Way = Callable[[World, Plan, float, np.random.Generator], list[str]]


@dataclass(frozen=True, slots=True)
class Spending:
    """What a budget of pilots led to in one world."""

    way: str
    budget: float
    gpu_hours: float
    runs: int
    lost: float
    """In loss."""
    regret: float
    """Over the reducible loss."""
    foreseen_wrong: float
    foreseen_lost: float


def hours_of(made: Plan) -> dict[str, float]:
    """GPU-hours of every design that can be run."""
    costs = made.state.costs
    places = np.flatnonzero(costs.trainable & costs.fits)
    return {str(made.state.space.design(int(place))): float(costs.gpu_hours[place]) for place in places}


def new_ones(made: Plan) -> dict[str, float]:
    """Those without a run."""
    return {name: hours for name, hours in hours_of(made).items() if name not in made.evidence.designs}


def at_once(_: World, made: Plan, budget: float, __: np.random.Generator) -> list[str]:
    """Pilots of one call."""
    return [pilot.design for pilot in next_pilots(made, MOST, Budget(budget, "gpu_hours")).pilots]


def by_chance(world: World, made: Plan, budget: float, random: np.random.Generator) -> list[str]:
    """Chosen by the chance of choosing wrongly instead of by regret."""
    with patch("scaling.decisions.planning.pilots.regrets", wrongs):
        return at_once(world, made, budget, random)


def wrongs(truths: Array, decided: Array, _: Outcome) -> Array:
    best = truths.argmin(axis=1).reshape(-1, *(1,) * (decided.ndim - 1))
    return (decided != best).astype(float)


def one_by_one(world: World, made: Plan, budget: float, _: np.random.Generator) -> list[str]:
    """The first pilot of a call, then another call with what it told and what is left."""
    done: list[str] = []
    cheapest = min(hours_of(made).values())
    while len(done) < MOST and budget >= cheapest:
        found = next_pilots(made, MOST, Budget(budget, "gpu_hours")).pilots
        if not found:
            break
        done.append(found[0].design)
        budget -= found[0].gpu_hours
        made = world.plan([*GIVEN, *done])
    return done


def at_random(_: World, made: Plan, budget: float, random: np.random.Generator) -> list[str]:
    """Any design that is still paid for."""
    costs, done = new_ones(made), list[str]()
    while some := [name for name in costs if name not in done and costs[name] <= budget]:
        done.append(some[int(random.integers(len(some)))])
        budget -= costs[done[-1]]
    return done


def cheapest_first(_: World, made: Plan, budget: float, __: np.random.Generator) -> list[str]:
    """The full factorial of cheap designs."""
    costs = new_ones(made)
    order = sorted(costs, key=lambda name: costs[name])
    return order[: int(np.searchsorted(np.cumsum([costs[name] for name in order]), budget, side="right"))]


WAYS: dict[str, tuple[Way, tuple[float, ...]]] = {
    "next_pilots, at once": (at_once, BUDGETS),
    "next_pilots, one by one": (one_by_one, (25, 100)),
    "by the chance of being wrong": (by_chance, (25, 100)),
    "at random": (at_random, BUDGETS),
    "cheapest first": (cheapest_first, BUDGETS),
}


def one_world(seed: int) -> list[Spending]:
    """Every way and budget, the first without pilots."""
    world = World.drawn(seed)
    first = world.plan(list(GIVEN))
    hours = hours_of(first)
    found = [Spending("none", 0.0, 0.0, 0, *world.lost(first), *doubt_of(first))]
    for place, (name, (way, budgets)) in enumerate(WAYS.items()):
        for budget in budgets:
            runs = way(world, first, budget, np.random.default_rng([seed, place, int(budget)]))
            made = world.plan([*GIVEN, *runs])
            spent = sum(hours[run] for run in runs)
            found.append(Spending(name, budget, spent, len(runs), *world.lost(made), *doubt_of(made)))
    return found


def doubt_of(made: Plan) -> tuple[float, float]:
    """What the plan itself says: the chance of being wrong, and the loss given away."""
    drawn = worlds(made.evidence, made.state.places.chosen(contenders(made)))
    found = doubt(drawn, np.broadcast_to(np.median(drawn, axis=0), drawn.shape), OUTCOME)
    return found.chance_wrong, found.regret


def regret_table(found: list[list[Spending]]) -> Table:
    rows = []
    for same in zip(*found, strict=True):
        regret = np.array([each.regret for each in same])
        lost, wrong = np.array([each.lost for each in same]), np.array([each.lost > 0 for each in same])
        ends = np.quantile(np.random.default_rng(0).choice(regret, (2000, len(regret))).mean(axis=1), (0.025, 0.975))
        rows.append(
            (
                same[0].way,
                f"{same[0].budget:g}",
                f"{np.mean([each.gpu_hours for each in same]):.0f} ({np.mean([each.runs for each in same]):.1f})",
                f"{regret.mean():.2%} [{ends[0]:.2%}, {ends[1]:.2%}]",
                f"{np.median(regret):.2%}",
                f"{np.quantile(regret, 0.9):.2%}",
                f"{wrong.mean():.2f} ({np.mean([each.foreseen_wrong for each in same]):.2f})",
                f"{lost.mean():.4f} ({np.mean([each.foreseen_lost for each in same]):.4f})",
            )
        )
    columns = ("pilots", "GPU-hours allowed", "spent (runs)", "mean regret [95 %]", "median", "90 % below")
    return (
        f"{len(found)} worlds: regret of the choice, over its reducible loss",
        (*columns, "wrong (as foreseen)", "loss given away (as foreseen)"),
        rows,
    )


def half_table(found: list[list[Spending]]) -> Table:
    """Pilots of one call against other ways in the same worlds, averaged over budgets, with standard errors."""
    regrets = {
        way: np.array([[each.regret for each in world if each.way == way] for world in found])
        for way, (_, budgets) in WAYS.items()
        if budgets == BUDGETS
    }
    ours = regrets.pop("next_pilots, at once")
    rows = []
    for way, theirs in regrets.items():
        half, same = ((a - b).mean(axis=1) for a, b in ((ours[:, :-1], theirs[:, 1:]), (ours, theirs)))
        words = [f"{each.mean():+.2%} ± {each.std() / np.sqrt(len(each)):.2%}" for each in (half, same)]
        rows.append((way, *words))
    columns = ("against", "at half its budget", "at the same budget")
    return "Mean regret of next_pilots, at once, less that of another way, over all budgets", columns, rows


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WORLDS
    with Pool(2) as pool:
        found = pool.map(one_world, range(count), chunksize=1)
    write_page("pilots", "Pilots", [regret_table(found), half_table(found)])


if __name__ == "__main__":
    main()
