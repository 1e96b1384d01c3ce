"""Data sets. Needs torch (the extra 'train')."""

from scaling.data.digits import DigitStream, draw_scenes, glyphs, held_out_scenes
from scaling.data.images import DataError
from scaling.data.opening import data_fingerprint, open_data
from scaling.data.streams import Share, held_out_batches, training_batches
from scaling.scenes import Scenes

__all__ = [
    "DataError",
    "DigitStream",
    "Scenes",
    "Share",
    "data_fingerprint",
    "draw_scenes",
    "glyphs",
    "held_out_batches",
    "held_out_scenes",
    "open_data",
    "training_batches",
]
