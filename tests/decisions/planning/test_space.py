"""Where a plan looks."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from scaling.decisions.planning import Plan, Question
from scaling.decisions.planning.evidence import gather_evidence
from scaling.decisions.planning.space import build_space
from scaling.design import DesignError, divisors, find_architecture
from scaling.errors import UsageError
from scaling.records import load_records
from tests.decisions.planning.conftest import ask


def names(plan: Plan, **changes: object) -> list[str]:
    space = build_space(ask(**changes), plan.evidence)  # pyright: ignore[reportArgumentType]
    return [str(space.design(place)) for place in range(len(space))]


def test_every_size_input_and_divisor_is_looked_at_once(paper: Plan) -> None:
    found = names(paper, input_sizes=(64, 224))
    sizes = [(name, size) for name in ("deit", "adventurer") for size in find_architecture(name).sizes]
    expected = {f"{name}-{size}/{p}@{r}" for (name, size), r in product(sizes, (64, 224)) for p in divisors(r)}
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_what_is_asked_for_alone_is_looked_at(paper: Plan) -> None:
    found = names(paper, architectures=("deit",), sizes=("base", "640x12"), patch_sizes=(16, 8), input_sizes=(224,))
    assert found == ["deit-base/8@224", "deit-base/16@224", "deit-640x12/8@224", "deit-640x12/16@224"]


def test_sizes_of_the_records_are_looked_at_without_being_named() -> None:
    run = Path(__file__).parents[3] / "runs" / "digits-patch-by-size"
    question = Question(study=str(run), outcome="test_loss", patch_sizes=(4,))
    space = build_space(question, gather_evidence(load_records(run), question))
    found = {str(space.design(place)) for place in range(len(space))}
    assert {
        f"{name}-{size}/4@16+linear" for name in ("deit", "adventurer") for size in ("64x2", "128x4", "nano")
    } <= found


def test_patterns_keep_and_leave_out(paper: Plan) -> None:
    kept = names(paper, only=("deit-base/{16,8}@*",), without=("*@448",))
    assert kept
    assert all(name.startswith(("deit-base/16@", "deit-base/8@")) and not name.endswith("@448") for name in kept)


def test_free_sizes_lie_between_the_named_ones_and_can_be_built(paper: Plan) -> None:
    space = build_space(ask(free_sizes=True, input_sizes=(64,), patch_sizes=(16,)), paper.evidence)
    shapes = [model.shape for model in space.models]
    assert len(shapes) > 200
    assert {model.size for model in space.models} >= set(find_architecture("deit").sizes)
    free = [shape for model, shape in zip(space.models, shapes, strict=True) if "x" in model.size]
    assert all(16 <= shape.width / shape.depth <= 64 for shape in free)
    assert max(shape.width for shape in free) <= 1280
    for place in range(0, len(space), 37):
        assert space.design(place).shape == space.models[space.model[place]].shape


def test_curves_tell_models_and_inputs_apart_and_nothing_else(paper: Plan) -> None:
    space = build_space(ask(), paper.evidence)
    keys = set(zip(space.model.tolist(), space.input_size.tolist(), strict=True))
    assert len(np.unique(space.curves)) == len(keys)
    for curve in (0, 5, 20):
        mine = space.curves == curve
        assert len(set(zip(space.model[mine].tolist(), space.input_size[mine].tolist(), strict=True))) == 1


def test_shapes_are_those_of_the_designs(paper: Plan) -> None:
    space = build_space(ask(input_sizes=(128,)), paper.evidence)
    shape = space.shape()
    for place in range(0, len(space), 11):
        design = space.design(place)
        assert shape.tokens[place] == design.sequence_length
        assert (shape.width[place], shape.heads[place]) == (design.shape.width, design.shape.heads)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"architectures": ("swin",)}, DesignError, "unknown architecture 'swin'"),
        ({"sizes": ("giant",)}, DesignError, "unknown size 'giant'"),
        ({"sizes": ("100x3",)}, DesignError, "not a multiple"),
        ({"patch_sizes": (5,)}, UsageError, "--patch-sizes 5: none divides"),
        ({"input_sizes": (0,)}, UsageError, "at least one pixel"),
        ({"only": ("vit-*",)}, UsageError, "--only 'vit-*' matches no design"),
        ({"without": ("vit-*",)}, UsageError, "--without 'vit-*' matches no design"),
        ({"without": ("*",)}, UsageError, "leave no design"),
    ],
)
def test_what_does_not_exist_is_named(
    paper: Plan, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        names(paper, **changes)
    assert words in str(refused.value)
