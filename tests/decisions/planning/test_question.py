"""Questions: what contradicts itself, and what is written and read."""

import json

import pytest

from scaling.decisions.planning import Question
from scaling.errors import UsageError
from tests.decisions.planning.conftest import ask


def test_a_question_survives_json() -> None:
    question = ask(gpus=8, patch_sizes=(16, 8), without=("deit-*",), price=2.0, target=0.8, calibration="runs/x")
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == question


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus": 0}, "--gpus 0"),
        ({"deadline_days": 3.0}, "Add --gpus or --nodes"),
        ({"epochs": 3, "recipe": "deit"}, "give one"),
        ({"recipe": "deit", "batch_size": 8}, "the recipe says its batch sizes"),
        ({"extrapolation": 0.5}, "at least 1"),
        ({"draws": 0}, "draws must be"),
        ({"price": -1.0}, "--price -1.0"),
        ({"seed_noise": float("nan")}, "--seed-noise nan"),
        ({"extrapolation": float("inf")}, "--extrapolate inf"),
        ({"sharding": "fsdp"}, "over how many GPUs"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(**changes)  # pyright: ignore[reportArgumentType]


def test_a_budget_in_dollars_needs_a_price() -> None:
    with pytest.raises(UsageError, match="needs --price"):
        ask("$5000")


@pytest.mark.parametrize(
    ("values", "words"),
    [({"colour": 1}, "unknown key 'colour'"), ({"gpus": "many"}, "gpus: "), ({"budget": {"amount": 1}}, "unit")],
)
def test_what_is_no_question_is_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Question.from_json(values)
