"""Surfaces: one law over model size, patch, input and data at once, drawn with its deviations and noise."""

from scaling.laws.surface.surface import DRAWS, SCALES, Places, Surface, fit_surface, varying

__all__ = ["DRAWS", "SCALES", "Places", "Surface", "fit_surface", "varying"]
