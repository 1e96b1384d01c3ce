"""Boxes and masks of things in images: Cascade Mask R-CNN on a plain backbone."""

from scaling.models.detection.detector import CascadeMaskRCNN

__all__ = ["CascadeMaskRCNN"]
