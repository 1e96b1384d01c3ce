"""Simulated worlds: losses of a known law, cheap designs that were tried, and a budget for more than was tried.

Each world draws its own law, noise, seeds, grid and budget; what a plan chooses is held against what is truly best.
Losses are relative to that at the middle of the grid. Shapes: M designs, C contestants.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pandas as pd

from scaling.cost import estimate
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.evidence import gather_evidence
from scaling.decisions.planning.outlook import contest
from scaling.decisions.planning.plan import plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.search import State
from scaling.design import Design
from scaling.laws.surface import Places
from scaling.laws.surface.deviations import WAVES, Waves

Array = np.ndarray
MIDDLE = {"parameters": 2e7, "patch": 8.0, "input": 160.0}
STEEP = {"parameters": (0.1, 0.5), "patch": (0.3, 1.2), "input": (0.2, 1.2)}  # exponents
SIGNS = {"parameters": -1, "input": -1, "patch": 1}
EPOCHS = 100.0
GRIDS = (  # sizes, patches, inputs
    (("tiny", "small", "base"), (16, 8, 4), (128, 224)),
    (("tiny", "small", "base", "large"), (16, 8), (128, 224)),
    (("tiny", "small", "base"), (16, 8, 4), (64, 128, 192)),
)
BUDGETS = (400.0, 1500.0, 5000.0)  # GPU-hours of the choice
DEAREST = 0.1  # share of the budget that a design of the grid may have cost
FACTORS = (2.0, 4.0)  # beyond the records


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a plan said in one world."""

    regret: float
    """Loss of the choice beyond that of the best design, as a share of what that one leaves above the floor."""
    chances: Array
    """(C,), stated chances of being the best."""
    best: Array
    """(C,) of bool, whether it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A grid and a budget, with what does not change between worlds."""

    question: Question
    table: pd.DataFrame
    """Records of the grid, without losses."""
    state: State
    tried: Array
    """Places of the grid's designs among all."""


@cache
def setup(grid: int, budget: float, factor: float) -> Setup:
    """Costs, limits and contestants, by the package's own search."""
    sizes, patches, inputs = GRIDS[grid]
    sides = tuple(sorted({*inputs, 224, 256, 384}))
    question = Question(
        budget=Budget(budget, "gpu_hours"), epochs=EPOCHS, extrapolation=factor, outcome="test_loss", input_sizes=sides
    )
    designs = [Design(*fields) for fields in product(("deit", "adventurer"), sizes, patches, inputs)]
    table = pd.DataFrame([_record(design) for design in designs if _hours(design) <= DEAREST * budget])
    table["test_loss"] = 1 + 0.01 * np.arange(len(table))
    state = plan(question, table, top=1).state
    names = {str(state.space.design(place)): place for place in range(len(state.space))}
    return Setup(question, table, state, np.array([names[name] for name in table["design"]]))


def _hours(design: Design) -> float:
    found = estimate(str(design)).gpu_hours_per_epoch
    return EPOCHS * found.estimate if found else np.inf


def _record(design: Design) -> dict[str, object]:
    fields = ("architecture", "size", "patch_size", "input_size")
    return {
        "design": str(design),
        **{field: getattr(design, field) for field in fields},
        "task": "classification",
        "dataset": "simulated",
        "status": "done",
    }


def _powers(places: Places, generator: np.random.Generator) -> list[Array]:
    """N^-a, R^-c and p^b, with exponents of their own."""
    return [
        (places.scales[name] / MIDDLE[name]) ** (sign * generator.uniform(*STEEP[name])) for name, sign in SIGNS.items()
    ]


def _offset(places: Places, generator: np.random.Generator) -> Array:
    """Factor of each design's architecture."""
    return np.exp(0.15 * generator.standard_normal(2))[places.kinds]


def surface(places: Places, generator: np.random.Generator) -> Array:
    """A N^-a R^-c + B N^-b R^-d p^beta: the form that is fitted."""
    share = generator.uniform(0.1, 0.9)
    model, side, _ = _powers(places, generator)
    rest = np.prod(_powers(places, generator), axis=0)
    return share * _offset(places, generator) * model * side + (1 - share) * _offset(places, generator) * rest


def additive(places: Places, generator: np.random.Generator) -> Array:
    """A N^-a + B p^b + C R^-c."""
    shares = generator.dirichlet((2, 2, 2))
    return _offset(places, generator) * (shares @ np.stack(_powers(places, generator)))


def multiplicative(places: Places, generator: np.random.Generator) -> Array:
    """A N^-a p^b R^-c."""
    return _offset(places, generator) * np.prod(_powers(places, generator), axis=0)


def interaction(places: Places, generator: np.random.Generator) -> Array:
    """(A N^-a + B p^b + C R^-c)^k."""
    return additive(places, generator) ** generator.uniform(0.4, 2)


LAWS: dict[str, Callable[[Places, np.random.Generator], Array]] = {
    "surface": surface,
    "additive": additive,
    "multiplicative": multiplicative,
    "interaction": interaction,
}


def losses(law: str, places: Places, wander: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Losses (M,) in a new world, and their floors; whole curves wander off the law by so much."""
    share = generator.uniform(0.2, 0.7)
    reducible = (1 - share) * LAWS[law](places, generator)
    signed = np.stack([-np.log(places.scales[name] / MIDDLE[name]) for name in ("parameters", "input")])
    waves = Waves.spread(("parameters", "input"), 2).at(signed, places.kinds)
    factor = np.exp(wander * waves @ generator.standard_normal(WAVES))
    return factor * (share + reducible), factor * share


def trial(law: str, wanders: bool, seed: int) -> Trial:
    """One world, its records and the plan that they lead to."""
    generator = np.random.default_rng([seed, list(LAWS).index(law), wanders])
    made = setup(int(generator.integers(len(GRIDS))), generator.choice(BUDGETS), generator.choice(FACTORS))
    noise, seeds = generator.uniform(0.002, 0.03), int(generator.integers(1, 4))
    state = made.state
    truth, floor = losses(law, state.places, 2 * noise * wanders * generator.random(), generator)
    tables = [
        made.table.assign(
            seed=seed, test_loss=truth[made.tried] * np.exp(noise * generator.standard_normal(len(made.tried)))
        )
        for seed in range(seeds)
    ]
    evidence = gather_evidence(pd.concat(tables, ignore_index=True), made.question)
    found = contest(evidence, state.places.chosen(state.contestants), None)
    mine, least = truth[state.contestants], truth[state.limits.feasible].min()
    oracle = int(np.argmin(np.where(state.limits.feasible, truth, np.inf)))
    regret = (mine[np.argmin(found.median)] - least) / (least - floor[oracle])
    return Trial(float(regret), found.chance_best, mine <= least)


def trials(law: str, wanders: bool, count: int) -> Iterator[Trial]:
    """Of so many worlds."""
    return (trial(law, wanders, seed) for seed in range(count))
