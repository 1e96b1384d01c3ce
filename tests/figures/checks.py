"""What holds of every figure: text is large enough, on the page, and over no other text."""

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SMALLEST_POINTS = 6.0
SHRINK = 0.7  # of matplotlib's superscripts


def texts(figure: Figure) -> list[Text]:
    """All text that is seen, after a drawing that places it."""
    figure.draw_without_rendering()
    shown = [artist for artist in _seen(figure) if isinstance(artist, Text) and artist.get_text().strip()]
    return list(dict.fromkeys(shown))


def _seen(artist):
    if not artist.get_visible():
        return
    yield artist
    for child in artist.get_children():
        yield from _seen(child)


def smallest_points(text: Text) -> float:
    raised = "^" in text.get_text()
    return float(text.get_fontsize()) * (SHRINK if raised else 1.0)


def check_text(figure: Figure) -> None:
    page = figure.bbox
    found = {text: text.get_window_extent() for text in _labels(figure)}
    for text, box in found.items():
        assert smallest_points(text) >= SMALLEST_POINTS, text
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1 + 0.5, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1 + 0.5, text
    for (one, box), (other, beside) in itertools.combinations(found.items(), 2):
        assert not Bbox.intersection(box, beside), (one, other)


def _labels(figure: Figure) -> list[Text]:
    """Text without the ticks beyond the ends of their axes, which matplotlib keeps and does not draw."""
    beyond = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return [text for text in texts(figure) if text not in beyond]


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())
