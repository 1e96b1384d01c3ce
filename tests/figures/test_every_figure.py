"""What holds of every figure: nothing is clipped, and nothing is too small to read."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from scaling import figure
from scaling.figures import FIGURES, FigureError

SMALLEST = 6  # points


@pytest.mark.parametrize("name", list(FIGURES))
def test_no_text_is_clipped_or_tiny(name: str) -> None:
    try:
        drawn = figure("paper", name)
    except FigureError:
        assert name == "learning-curves"  # what the paper has no numbers for
        return
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    width, height = canvas.get_width_height()
    for found in drawn.findobj(Text):
        assert isinstance(found, Text)
        if not found.get_text() or not found.get_visible() or found.get_clip_on():
            continue
        assert float(found.get_fontsize()) >= SMALLEST
        box = found.get_window_extent(canvas.get_renderer())
        inside = box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1
        assert inside or not box.width, found.get_text()
