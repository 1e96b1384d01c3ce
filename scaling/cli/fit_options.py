"""The options of `scaling fit`, and what their texts mean."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import SOURCE_HELP
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.laws import Loss, Options
    from scaling.laws.law import Array

LawName = Annotated[
    str, typer.Option(help="auto chooses for each curve; power, saturating, shifted, M3, M4, broken, log-linear, ...")
]
Source = Annotated[Path, typer.Argument(help=SOURCE_HELP, metavar="SOURCE")]
Scales = Annotated[
    str | None, typer.Option(help="Column of the scale, or several with commas.", show_default="what varies")
]
Groups = Annotated[
    list[str] | None,
    typer.Option(help="Columns that tell curves apart, with commas.", show_default="the design columns"),
]
Where = Annotated[
    str | None,
    typer.Option(help="Condition, such as 'seed == 0'; other rows are left aside.", metavar="EXPRESSION"),
]
HoldOut = Annotated[
    str | None, typer.Option(help="Condition; its rows are predicted, not fitted.", metavar="EXPRESSION")
]
HoldOutCompute = Annotated[
    str | None, typer.Option(help="Share of each curve with the most training FLOPs to predict.", metavar="SHARE")
]
LinkName = Annotated[
    str | None,
    typer.Option(
        help="error, accuracy, with -percent, or none: rates are fitted by their odds.", show_default="accuracy by name"
    ),
]
TailWeight = Annotated[float, typer.Option(help="q: points weigh |x / x_end|^q, for extrapolation.")]
BoundTexts = Annotated[
    list[str] | None, typer.Option(help="NAME=LOW:HIGH; equal ends fix a parameter.", metavar="BOUND")
]
Intervals = Annotated[str, typer.Option(help="auto, profile, residual, pairs, group or none.")]
LearningCurves = Annotated[
    bool, typer.Option("--learning-curves", help="Forecast the final training loss of a run's cells instead.")
]
At = Annotated[
    str | None,
    typer.Option(
        help="Forecast as if only this share of the learning curves were known.", metavar="SHARE", show_default="all"
    ),
]
Checklist = Annotated[
    bool, typer.Option("--checklist", help="Print what a paper should report, filled in, as Markdown.")
]
Out = Annotated[
    Path | None, typer.Option(help="File for the fits as JSON.", show_default="analysis/NAME/fit.json of a run")
]
Noise = Annotated[
    str, typer.Option(help="residuals, repeats at the same x alone, or pooled: the repeats of all curves together.")
]
Predict = Annotated[
    str | None,
    typer.Option(help="Predict at these x, with commas; of several scales as 1e8:1,1e9:1.", metavar="X"),
]
Windows = Annotated[
    bool, typer.Option("--windows", help="Fit the first places of each curve too, and predict those that follow.")
]


def names_of(given: Sequence[str]) -> list[str]:
    """Names with commas between them, of an option that may be given several times."""
    return [name.strip() for text in given for name in text.split(",")]


def options_of(
    residual: str, loss: str, tail_weight: float, bound: Sequence[str] | None, intervals: str, noise: str, level: float
) -> "Options":
    """How to fit.

    Raises:
        UsageError: for a text that means nothing there.
    """
    from scaling.laws import Options

    return Options(
        residual=residual,  # pyright: ignore[reportArgumentType]
        loss=_loss(loss),
        tail_weight=tail_weight,
        bounds=_bounds(bound),
        intervals=intervals,  # pyright: ignore[reportArgumentType]
        noise=noise,  # pyright: ignore[reportArgumentType]
        level=level,
    )


def _loss(text: str) -> "Loss":
    from scaling.laws import Loss

    name, _, scale = text.partition(":")
    if name == "squares" and not scale:
        return Loss()
    try:
        return Loss(name, float(scale))  # pyright: ignore[reportArgumentType]
    except ValueError:
        raise UsageError(f"--loss '{text}': use squares, huber:SCALE or cauchy:SCALE, such as huber:0.001") from None


def _bounds(given: Sequence[str] | None) -> dict[str, tuple[float, float]] | None:
    bounds = {}
    for text in given or ():
        name, _, ends = text.partition("=")
        low, _, high = ends.partition(":")
        try:
            bounds[name] = (float(low or "-inf"), float(high or "inf")) if ":" in ends else (float(ends), float(ends))
        except ValueError:
            raise UsageError(f"--bound '{text}': use NAME=LOW:HIGH or NAME=VALUE, such as E=0:0.5") from None
    return bounds or None


def places_of(text: str, columns: Sequence[str]) -> "Array":
    """'1e8:1,1e9:1' as places (S, Q) on the scales in these columns.

    Raises:
        UsageError: for what is no positive number, or another number of scales.
    """
    import numpy as np

    rows = []
    for place in text.split(","):
        parts = place.split(":")
        if len(parts) != len(columns):
            order = f"{len(columns)} scale(s) ({', '.join(columns)})"
            raise UsageError(f"--predict '{place}': {len(parts)} value(s) for {order}; write one for each, as 1e8:1")
        rows.append([_positive(part, place) for part in parts])
    return np.array(rows).T


def _positive(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--predict '{place}': '{text}' is not a number; write x such as 1,0.5") from None
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"--predict '{place}': {text} is not positive and finite; scales are")
    return value
