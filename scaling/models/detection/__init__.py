"""Boxes and masks of things in images: Cascade Mask R-CNN on a plain backbone."""

from scaling.models.detection.detector import CascadeMaskRCNN, build_detector

__all__ = ["CascadeMaskRCNN", "build_detector"]
