"""Words for columns and values that several parts of the page share."""

from typing import Any

from scaling.decisions import OUTCOMES
from scaling.figures.words import NAMES


def in_words(column: str) -> str:
    """'patch_size' as 'patch size'."""
    words = OUTCOMES[column].label if column in OUTCOMES else column.replace("_", " ")
    return words.replace("flops", "FLOPs").replace("gpu", "GPU")


def counted(count: int, noun: str) -> str:
    """'1 design', '2,000 designs'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def capital(words: str) -> str:
    """With a capital letter, the others as they are."""
    return words[:1].upper() + words[1:]


def names_of(group: dict[str, Any]) -> str:
    """What a curve's rows share, such as 'classification · DeiT · 224 px'."""
    return " · ".join(
        {"input_size": f"{value} px", "extended_length": f"{value} tokens", "head": f"{value} head"}.get(
            key, NAMES.get(str(value), str(value))
        )
        for key, value in group.items()
        if value not in (None, "")
    )


def metric_words(record: dict[Any, Any]) -> str:
    """The metrics of a record, such as 'accuracy 82.6 %'."""
    rates = [outcome for outcome in OUTCOMES.values() if not outcome.is_loss]
    found = [(outcome.label, record.get(outcome.column)) for outcome in rates]
    return (
        ", ".join(
            f"{label} {100 * value:.1f} %" for label, value in found if isinstance(value, float) and value == value
        )
        or "–"
    )
