"""Model sizes have places of their own in the palette."""

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from scaling import figure
from scaling.figures.sizes import size_places
from scaling.figures.style import COLOURS


@pytest.mark.parametrize(
    ("sizes", "places"),
    [
        (["micro", "nano", None], {"nano": 0, "micro": 1}),
        (["base", "tiny"], {"tiny": 2, "base": 4}),
        (["128x4", "micro", "64x2", "nano"], {"nano": 0, "64x2": 1, "micro": 2, "128x4": 3}),
        (["mine", "nano"], {"nano": 0, "mine": 1}),
        ([None], {}),
    ],
)
def test_named_sizes_keep_their_places_unless_there_are_others(sizes: list[str], places: dict[str, int]) -> None:
    found = size_places(pd.DataFrame({"size": pd.Series(sizes, dtype=object)}))
    assert list(found.items()) == list(places.items())


def _records(sizes: list[str]) -> pd.DataFrame:
    rows = [
        {
            **{"design": f"deit-{size}/{patch}@16", "architecture": "deit", "size": size, "patch_size": patch},
            **{"input_size": 16, "sequence_length": (16 // patch) ** 2, "task": "classification", "status": "done"},
            **{"test_loss": 0.1 * (place + 1) * patch**0.5, "training_flops_per_image": 1e6 * (place + 1) / patch**2},
        }
        for place, size in enumerate(sizes)
        for patch in (16, 8, 4, 2)
    ]
    return pd.DataFrame(rows)


def test_curves_of_free_sizes_can_be_told_apart() -> None:
    (axis,) = (each for each in figure(_records(["nano", "64x2", "micro", "128x4"]), 1).axes if each.has_data())
    legend = axis.get_legend()
    assert legend is not None
    looks = [(to_hex(line.get_color()), line.get_marker()) for line in legend.get_lines()]
    assert [colour for colour, _ in looks] == list(COLOURS[:4])
    assert len(set(looks)) == 4


def test_names_at_the_end_of_isoflop_curves_do_not_cover_each_other() -> None:
    drawn = figure(
        _records(["nano", "64x2", "micro", "128x4"]).assign(test_loss=lambda rows: rows["patch_size"]), "isoflop"
    )
    drawn.draw_without_rendering()
    (axis,) = (each for each in drawn.axes if isinstance(each, Axes) and each.has_data())
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
