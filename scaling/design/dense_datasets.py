"""Data sets of segmentation and detection; every field is a TOML key."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.design.sections import NonNegativeInt, PositiveInt
from scaling.design.stored import StoredData

ADE20K_CLASSES, ADE20K_IMAGES = 150, 20_210
COCO_CLASSES, COCO_IMAGES = 80, 118_287
LONGEST_SIDE = 1333 / 800
"""Of a detector's input, over its short side (Lin et al. 2017, 'Feature pyramid networks')."""

Text = Annotated[str, Field(min_length=1)]


class SegmentationFiles(StoredData):
    """Images with maps that have a label for each pixel."""

    task: Literal["segmentation"] = "segmentation"
    classes: Annotated[int, Field(ge=2)]
    inference: Annotated[
        Literal["whole", "slide"], Field(description="how an image is tested: at once, or in windows of the input size")
    ] = "whole"


class Ade20kData(SegmentationFiles):
    """ADE20K as released for the scene parsing benchmark (Zhou et al. 2017): 0 is unlabelled, classes are 1 to 150."""

    name: Literal["ade20k"] = "ade20k"
    classes: Annotated[int, Field(ge=ADE20K_CLASSES, le=ADE20K_CLASSES)] = ADE20K_CLASSES
    train_images: Annotated[int, Field(ge=ADE20K_IMAGES, le=ADE20K_IMAGES)] = ADE20K_IMAGES


class SegmentationFolderData(SegmentationFiles):
    """A tree images/SPLIT/NAME.jpg and annotations/SPLIT/NAME.png, whose splits are train, and val or test."""

    name: Literal["segmentation-folder"] = "segmentation-folder"
    zero_is_unlabelled: Annotated[bool, Field(description="classes are numbered from 1 then")] = False
    ignored_label: Annotated[NonNegativeInt, Field(description="of pixels that do not count")] = 255

    @model_validator(mode="after")
    def _ignored_is_no_class(self) -> "SegmentationFolderData":
        first = int(self.zero_is_unlabelled)
        if first <= self.ignored_label < first + self.classes:
            raise ValueError(
                f"data.ignored_label: {self.ignored_label} is the number of a class; give a number that is none, such "
                f"as {max(255, first + self.classes)}"
            )
        return self


class DetectionFiles(StoredData):
    """Images with boxes and masks in COCO's format."""

    task: Literal["detection"] = "detection"
    longest_side: Annotated[
        PositiveInt | None, Field(description="pixels of a resized image; 1333 for an input size of 800, in proportion")
    ] = None

    def longest(self, input_size: int) -> int:
        """The most that the long side of a resized image has, in pixels."""
        return self.longest_side or round(LONGEST_SIDE * input_size)


class CocoData(DetectionFiles):
    """COCO 2017 as released (Lin et al. 2014): images and the annotations of instances."""

    name: Literal["coco"] = "coco"
    classes: Annotated[int, Field(ge=COCO_CLASSES, le=COCO_CLASSES)] = COCO_CLASSES
    train_images: Annotated[int, Field(ge=COCO_IMAGES, le=COCO_IMAGES)] = COCO_IMAGES


class CocoFormatData(DetectionFiles):
    """Images of your own with annotations in COCO's format; folders and files are below `path`."""

    name: Literal["coco-format"] = "coco-format"
    train_images_folder: Text = "train"
    train_annotations: Text = "annotations/train.json"
    test_images_folder: Text = "val"
    test_annotations: Text = "annotations/val.json"
