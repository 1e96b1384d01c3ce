"""Data sets. Needs torch (the extra 'train')."""

from scaling.data.digits import DigitStream, Scenes, draw_scenes, glyphs, held_out_scenes

__all__ = ["DigitStream", "Scenes", "draw_scenes", "glyphs", "held_out_scenes"]
