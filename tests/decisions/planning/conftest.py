"""Plans on the published records, whose laws are fitted once."""

from functools import cache

import pytest

from scaling.decisions.planning import Known, Plan, Question, decide, learn, parse_budget


def ask(budget: str | None = "5000 gpu-hours", **changes: object) -> Question:
    """A question with a budget."""
    return Question(budget=None if budget is None else parse_budget(budget), **changes)  # pyright: ignore[reportArgumentType]


@cache
def published() -> Known:
    """The published records and their surfaces."""
    return learn(Question())


@cache
def answer(budget: str | None = "5000 gpu-hours", **changes: object) -> Plan:
    """The plan for a question on the published records."""
    return decide(ask(budget, **changes), published())


@pytest.fixture(scope="session")
def paper() -> Plan:
    """5,000 GPU-hours on 64 GPUs."""
    return answer(gpus=64)
