"""Extended tokens against smaller patches at the same sequence length: the pairs of Table 5 and its figure."""

from dataclasses import dataclass

from scaling.design import Design
from scaling.design.architectures import DesignError
from scaling.figures.material import FigureError
from scaling.figures.results import Result, choose_metric, plain
from scaling.figures.values import Metric, Value

MODEL = ("study", "dataset", "task", "architecture", "size", "head", "input_size")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model that starts from one patch size, by sequence length: with tokens extended, and with smaller patches."""

    start: Result
    extending: dict[int, Value]
    scaling: dict[int, Value]

    @property
    def lengths(self) -> list[int]:
        """Every sequence length of either, from short to long."""
        return sorted({*self.extending, *self.scaling})


def comparisons(found: list[Result], y: str | None = None) -> tuple[Metric, list[Comparison]]:
    """Every model with extended tokens and a start that has a result.

    Raises:
        FigureError: if there is none, with the designs to train.
    """
    extended = [result for result in found if result["extended_length"]]
    if not extended:
        raise FigureError(_advice(found))
    metric = choose_metric(extended, y)
    starts = {}
    for result in plain(found):
        starts[*(result[column] for column in MODEL), result["patch_size"]] = result
    compared = []
    for key in dict.fromkeys((*(r[c] for c in MODEL), r["patch_size"]) for r in extended):
        if key not in starts or not starts[key].value(metric).known:
            continue
        start, value = starts[key], starts[key].value(metric)
        of_model = [result for result in found if tuple(result[column] for column in MODEL) == key[:-1]]
        longer = [result for result in plain(of_model) if result["patch_size"] < start["patch_size"]]
        stretched = [r for r in of_model if r["extended_length"] and r["patch_size"] == start["patch_size"]]
        compared.append(
            Comparison(start, _by_length(stretched, start, value, metric), _by_length(longer, start, value, metric))
        )
    if not compared:
        names = ", ".join(dict.fromkeys(str(result["design"]).split("+extend")[0] for result in extended))
        raise FigureError(
            f"designs with extended tokens, but not the ones they start from: {names}\n"
            f"run them: scaling run-grid STUDY --only '{names.split(', ')[0]}'"
        )
    return metric, compared


def _by_length(found: list[Result], start: Result, value: Value, metric: Metric) -> dict[int, Value]:
    shown = {result["sequence_length"]: result.value(metric) for result in found}
    return {start["sequence_length"]: value} | {
        length: shown[length] for length in sorted(shown) if _says(shown[length])
    }


def _says(value: Value) -> bool:
    return value.known or bool(value.note)


def _advice(found: list[Result]) -> str:
    """What to train: the largest patch of each model, stretched to the lengths of its smaller patches."""
    names = []
    for key in dict.fromkeys(tuple(result[column] for column in MODEL) for result in found):
        designs = [r for r in found if tuple(r[column] for column in MODEL) == key and (r["sequence_length"] or 0) > 1]
        names += [name for length in designs[1:] if (name := _stretched(designs[0], length["sequence_length"]))]
    listed = ", ".join(f'"{name}"' for name in names[:3])
    add = f"add designs to grid.designs of the study, such as {listed}" if names else "add some to grid.designs"
    return f"no design has extended tokens\n{add}\nthen: scaling run-grid STUDY --only '*+extend=*'"


def _stretched(design: Result, length: int) -> str | None:
    try:
        return str(Design.parse(f"{design['design']}+extend={length}"))
    except DesignError:
        return None
