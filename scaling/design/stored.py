"""What every data set in files has in common; every field is a TOML key."""

from typing import Annotated

from pydantic import Field

from scaling.design.sections import PositiveInt, Section


class StoredData(Section):
    """Images in files, and what is true of them: where they are, and how many there should be.

    A study is read and costed without them; what training finds there must agree with `classes` and `train_images`.
    """

    path: Annotated[str, Field(min_length=1, description="folder, from the directory the command runs in")]
    classes: Annotated[int, Field(ge=1)]
    train_images: PositiveInt
    max_corrupt_share: Annotated[float, Field(ge=0, lt=1, description="of a split's images; more end the cell")] = 0.001

    @property
    def label_sides(self) -> None:
        """None: one label for each image, or labels of the images' own sides."""
        return None

    @property
    def epoch_images(self) -> int:
        """Images in one epoch."""
        return self.train_images
