"""What `scaling plan` prints of the path of the best designs."""

from typing import TYPE_CHECKING

from scaling.cli.output import Format, message, print_json, show_table
from scaling.decisions.planning import interval_words
from scaling.decisions.planning.amounts import UNIT_NAMES
from scaling.decisions.planning.growth import SCALE_NAMES, Growth, Range

if TYPE_CHECKING:
    from scaling.decisions.planning.path import OptimalPath, PathPoint

ROWS = 12
EVERY = "all"


def show_path(path: "OptimalPath", output: Format) -> None:
    """The best designs from little to much compute and how they grow, as tables and a sentence, or as JSON alone."""
    if output is Format.JSON:
        print_json(path.to_json())
        return
    for sentence in path_sentences(path):
        print(f"* {sentence}")
    print()
    unit = UNIT_NAMES[path.cost_unit]
    columns = (unit, "best design", f"{path.outcome.label} [95 %]", "chance", *SCALE_NAMES.values())
    rows = [_row(path, point) for point in _spread(path.points)]
    show_table("best design of each budget, with the 95 % of the law's draws", columns, rows)
    _show_growth(path, unit)
    message(f"searched {path.designs:,} designs: {path.searched}; {path.draws:,} draws of the law")
    for note in path.notes:
        message(f"note: {note}")


def path_sentences(path: "OptimalPath") -> list[str]:
    """What ten times the compute should change."""
    changes = [f"the best {SCALE_NAMES[name]} {_changed(growth.per_tenfold)}" for name, growth in path.growth.items()]
    found = [f"Per tenfold compute {', '.join(changes)}."] if changes else []
    reasons: dict[str, list[str]] = {}
    for name, reason in path.without_growth.items():
        reasons.setdefault(reason, []).append(SCALE_NAMES[name])
    return found + [f"No power law of {' and '.join(names)}: {reason}." for reason, names in reasons.items()]


def _changed(factor: Range) -> str:
    """Such as 'shrinks 1.9 times (95 %: 1 to 2.3)'."""
    if factor.estimate < 1:
        return f"shrinks {1 / factor.estimate:.2g} times (95 %: {1 / factor.high:.2g} to {1 / factor.low:.2g})"
    return f"grows {factor.estimate:.2g} times (95 %: {factor.low:.2g} to {factor.high:.2g})"


def _spread(points: "tuple[PathPoint, ...]") -> "list[PathPoint]":
    """So many of them, evenly, with the first and the last."""
    if len(points) <= ROWS:
        return list(points)
    return [points[round(place * (len(points) - 1) / (ROWS - 1))] for place in range(ROWS)]


def _row(path: "OptimalPath", point: "PathPoint") -> list[str]:
    scales = [_range(point.scales[name], name) for name in SCALE_NAMES]
    expected = interval_words(point.prediction, path.outcome)
    return [_digits(point.budget), point.design, expected, f"{point.chance:.2f}", *scales]


def _range(scale: Range, name: str) -> str:
    millions = name == "parameters" and scale.estimate >= 1e6
    values = (each / 1e6 if millions else each for each in (scale.estimate, scale.low, scale.high))
    middle, low, high = map(_digits, values)
    return f"{middle}{' M' if millions else ''} [{low}, {high}]"


def _digits(value: float) -> str:
    """Three of them: '0.0123', '47,900' and '1.32e+22'."""
    return f"{float(f'{value:.3g}'):,g}"


def _show_growth(path: "OptimalPath", unit: str) -> None:
    every: dict[str, dict[str, Growth]] = {EVERY: path.growth, **path.by_architecture}
    rows = [
        [
            SCALE_NAMES[name],
            architecture,
            f"{growth.exponent.estimate:+.3f} [{growth.exponent.low:+.2f}, {growth.exponent.high:+.2f}]",
            f"{growth.per_tenfold.estimate:.3g}x",
            " to ".join(map(_digits, growth.budgets)),
        ]
        for architecture, found in every.items()
        for name, growth in found.items()
    ]
    if rows:
        columns = ("best", "architectures", "exponent of compute [95 %]", "per tenfold", f"over {unit}")
        show_table("how the best grows with compute", columns, rows, left=2)
