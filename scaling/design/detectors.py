"""What a study says about its detector; every field is a TOML key of [recipe.detector]."""

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from scaling.design.sections import PositiveInt, Section


class Detector(Section):
    """Settings of Cascade Mask R-CNN (Cai and Vasconcelos 2019); the defaults are those for COCO."""

    strides: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="of the pyramid's levels in pixels, whatever the patch; anchors are 8 of them"),
    ] = (4, 8, 16, 32, 64)
    proposals: Annotated[PositiveInt, Field(description="regions of an image that go into the first stage")] = 1000
    sampled_regions: Annotated[
        int, Field(ge=4, description="of an image that each stage learns from; masks from a quarter of them")
    ] = 512
    attention_window: Annotated[
        PositiveInt | None,
        Field(description="tokens per side that most blocks of a DeiT attend in"),
    ] = None

    @model_validator(mode="after")
    def _strides_double(self) -> "Detector":
        for fine, coarse in pairwise(self.strides):
            if coarse != 2 * fine:
                raise ValueError(f"strides: {coarse} after {fine}; each level has twice the stride of the one before")
        if self.strides[0] & (self.strides[0] - 1):
            raise ValueError(f"strides: {self.strides[0]} is not a power of 2")
        return self
