"""What a study says about its data; every field is a TOML key."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from scaling.design.dense_datasets import Ade20kData, CocoData, CocoFormatData, SegmentationFolderData
from scaling.design.sections import NonNegativeInt, PositiveInt, Section
from scaling.design.stored import StoredData
from scaling.design.tasks import Task

DIGITS = "digits"
IMAGENET_CLASSES, IMAGENET_IMAGES = 1000, 1_281_167
CIFAR_IMAGES, MNIST_IMAGES = 50_000, 60_000


class DigitsData(Section):
    """Scenes of real handwritten digits on a square canvas; ships with the package.

    Classification has one digit and ten classes, segmentation several digits and eleven classes
    (background first), detection several digits of ten classes with their boxes and masks. The
    training stream is endless, the test set fixed. An input size other than the canvas resamples
    the same scenes; losses are taken on the canvas' own pixels.
    """

    name: Literal["digits"] = "digits"
    task: Task
    canvas: Annotated[int, Field(ge=8, description="pixels per side of a scene")] = 32
    digits: Annotated[PositiveInt, Field(description="digits per scene")] = 1
    clutter: Annotated[NonNegativeInt, Field(description="torn glyph quarters per scene")] = 4
    noise: Annotated[float, Field(ge=0, description="standard deviation of the grain")] = 0.1
    test_images: Annotated[int, Field(ge=2, description="scenes in the fixed test set")] = 2048

    @model_validator(mode="after")
    def _classification_has_one_digit(self) -> "DigitsData":
        if self.task == "classification" and self.digits != 1:
            raise ValueError(f"data.digits: {self.digits} digits have no single class; use digits = 1")
        return self

    @property
    def classes(self) -> int:
        """Number of output classes."""
        return 11 if self.task == "segmentation" else 10

    @property
    def label_sides(self) -> tuple[int, int] | None:
        """Height and width of a label map; None for one label per image."""
        return (self.canvas, self.canvas) if self.task == "segmentation" else None

    @property
    def epoch_images(self) -> int | None:
        """Images in one epoch; None for an endless stream."""
        return None


class FilesData(StoredData):
    """Labelled images in files, for classification."""

    task: Literal["classification"] = "classification"
    classes: Annotated[int, Field(ge=2)]


class ImageNetData(FilesData):
    """ImageNet-1k as released, with the validation images in folders of their classes too.

    Russakovsky et al. 2015, 'ImageNet Large Scale Visual Recognition Challenge'.
    """

    name: Literal["imagenet"] = "imagenet"
    classes: Annotated[int, Field(ge=IMAGENET_CLASSES, le=IMAGENET_CLASSES)] = IMAGENET_CLASSES
    train_images: Annotated[int, Field(ge=IMAGENET_IMAGES, le=IMAGENET_IMAGES)] = IMAGENET_IMAGES


class ImageFolderData(FilesData):
    """A tree train/CLASS/IMAGE, and val/CLASS/IMAGE or test/CLASS/IMAGE."""

    name: Literal["image-folder"] = "image-folder"


class TableData(FilesData):
    """Images in a column of a table, numbers of their classes in another."""

    train_split: str = "train"
    test_split: str = "validation"
    image_column: str = "image"
    label_column: str = "label"


class HuggingFaceData(TableData):
    """A Hugging Face data set on disk: Parquet files whose names begin with their split, or one saved by `datasets`."""

    name: Literal["huggingface"] = "huggingface"


class ParquetData(TableData):
    """Parquet files read as they are, a row group at a time.

    `path` is a folder, a pattern of files, or a URL of either. A file's split is how its name begins, or else the name
    of its folder.
    """

    name: Literal["parquet"] = "parquet"
    shuffled_row_groups: Annotated[PositiveInt, Field(description="shuffled with each other, and kept in memory")] = 16


class WebDatasetData(FilesData):
    """Tar shards whose samples are an image and a `.cls` file with its class number, from 0."""

    name: Literal["webdataset"] = "webdataset"
    train_shards: Annotated[str, Field(min_length=1, description="pattern of file names")] = "*train*.tar"
    test_shards: Annotated[str, Field(min_length=1, description="pattern of file names")] = "*val*.tar"


class Cifar10Data(FilesData):
    """CIFAR-10, the authors' Python version (Krizhevsky 2009)."""

    name: Literal["cifar10"] = "cifar10"
    classes: Annotated[int, Field(ge=10, le=10)] = 10
    train_images: Annotated[int, Field(ge=CIFAR_IMAGES, le=CIFAR_IMAGES)] = CIFAR_IMAGES


class Cifar100Data(FilesData):
    """CIFAR-100 with its fine labels, the authors' Python version (Krizhevsky 2009)."""

    name: Literal["cifar100"] = "cifar100"
    classes: Annotated[int, Field(ge=100, le=100)] = 100
    train_images: Annotated[int, Field(ge=CIFAR_IMAGES, le=CIFAR_IMAGES)] = CIFAR_IMAGES


class MnistData(FilesData):
    """MNIST, the authors' four idx files (LeCun et al. 1998)."""

    name: Literal["mnist"] = "mnist"
    classes: Annotated[int, Field(ge=10, le=10)] = 10
    train_images: Annotated[int, Field(ge=MNIST_IMAGES, le=MNIST_IMAGES)] = MNIST_IMAGES


DATA_SECTIONS: dict[str, type[Section]] = {
    "digits": DigitsData,
    "imagenet": ImageNetData,
    "image-folder": ImageFolderData,
    "huggingface": HuggingFaceData,
    "parquet": ParquetData,
    "webdataset": WebDatasetData,
    "cifar10": Cifar10Data,
    "cifar100": Cifar100Data,
    "mnist": MnistData,
    "ade20k": Ade20kData,
    "segmentation-folder": SegmentationFolderData,
    "coco": CocoData,
    "coco-format": CocoFormatData,
}
"""The table [data] by the name of the data set."""


def _name_of(data: Any) -> Any:
    """The name that decides which keys there are; digits where none is given."""
    return data.get("name", DIGITS) if isinstance(data, dict) else getattr(data, "name", None)


Files: TypeAlias = (
    Annotated[ImageNetData, Tag("imagenet")]
    | Annotated[ImageFolderData, Tag("image-folder")]
    | Annotated[HuggingFaceData, Tag("huggingface")]
    | Annotated[ParquetData, Tag("parquet")]
    | Annotated[WebDatasetData, Tag("webdataset")]
    | Annotated[Cifar10Data, Tag("cifar10")]
    | Annotated[Cifar100Data, Tag("cifar100")]
    | Annotated[MnistData, Tag("mnist")]
    | Annotated[Ade20kData, Tag("ade20k")]
    | Annotated[SegmentationFolderData, Tag("segmentation-folder")]
    | Annotated[CocoData, Tag("coco")]
    | Annotated[CocoFormatData, Tag("coco-format")]
)
"""Any images in files."""
Data: TypeAlias = Annotated[Annotated[DigitsData, Tag("digits")] | Files, Discriminator(_name_of)]
"""The data of a study, told apart by `name`."""

NOT_IDENTITY = frozenset({"path", "max_corrupt_share"})
"""Keys of data that change no result: the same images elsewhere are the same data."""


def parse_data(values: dict[str, Any]) -> Data:
    """The data that plain values describe; raises pydantic's ValidationError for values that describe none."""
    return TypeAdapter(Data).validate_python(values)
