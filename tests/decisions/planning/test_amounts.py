"""Amounts that people write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.decisions.planning import Budget, parse_budget, parse_bytes, parse_days, parse_inference, parse_target
from scaling.decisions.planning.amounts import BudgetUnit
from scaling.errors import UsageError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5000 gpu-hours", 5000, "gpu_hours"),
        ("5,000 GPU hours", 5000, "gpu_hours"),
        ("5k gpu_hours", 5000, "gpu_hours"),
        ("10gpuh", 10, "gpu_hours"),
        ("30 gpu-days", 720, "gpu_hours"),
        ("2 gpu weeks", 336, "gpu_hours"),
        ("1e21 flops", 1e21, "flops"),
        ("2 zflops", 2e21, "flops"),
        ("1.5 EFLOP", 1.5e18, "flops"),
        ("$20000", 20000, "dollars"),
        ("$20k", 20000, "dollars"),
        ("20,000 dollars", 20000, "dollars"),
        ("1,234,567.5 gpu-hours", 1234567.5, "gpu_hours"),
        ("$ 5 usd", 5, "dollars"),
    ],
)
def test_budgets_are_read(text: str, amount: float, unit: BudgetUnit) -> None:
    found = parse_budget(text)
    assert found.unit == unit
    assert found.amount == pytest.approx(amount)


@given(st.floats(1, 1e30), st.sampled_from(["gpu_hours", "flops"]))
def test_what_a_budget_prints_can_be_read_again(amount: float, unit: BudgetUnit) -> None:
    words = str(Budget(amount, unit)).replace("training FLOPs", "flops")
    found = parse_budget(words)
    assert found.unit == unit
    assert found.amount == pytest.approx(amount, rel=0.01)


def test_small_sums_are_not_rounded_to_nothing() -> None:
    assert [str(Budget(amount, "dollars")) for amount in (0.2, 20_000)] == ["$0.2", "$20,000"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5000", "no unit"),
        ("5 hours", "a time on how many GPUs? Write '5 gpu-hours'"),
        ("$5 gpu-hours", "in dollars and in gpu-hours at once"),
        ("lots", "cannot be read"),
        ("1,5 gpu-hours", "cannot be read"),
        ("5000,5 gpu-hours", "cannot be read"),
        ("2,5e3 flops", "cannot be read"),
        ("-3 gpu-hours", "cannot be read"),
        ("0 flops", "more than nothing"),
        ("1e400 flops", "finite"),
        ("5 parsecs", "unknown unit parsecs"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_budget_is_refused_with_examples(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_budget(text)
    assert words in str(refused.value)
    assert "gpu-h" in str(refused.value)


def test_times_bytes_and_limits_of_inference() -> None:
    assert parse_days("14 days") == 14
    assert parse_days("36 hours") == pytest.approx(1.5)
    assert parse_days("2 weeks") == 14
    assert parse_bytes("40 GiB") == 40 * 2**30
    assert parse_bytes("80 GB") == 80 * 10**9
    assert parse_inference("20 gflops") == (20e9, "flops")
    assert parse_inference("3 ms") == (3.0, "milliseconds")
    assert parse_target("84%") == pytest.approx(0.84)
    assert parse_target("0.7") == 0.7


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_days, "3", "no unit"),
        (parse_days, "3 gpu-hours", "unknown unit 'gpu-hours'"),
        (parse_bytes, "40", "no unit"),
        (parse_inference, "3 km", "unknown unit 'km'"),
        (parse_target, "good", "write a rate"),
        (parse_target, "-1", "write a rate"),
        (parse_target, "0", "write a rate"),
    ],
)
def test_what_is_no_amount_is_refused(parse, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text)
