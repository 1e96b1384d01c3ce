"""A device that designs are trained on: what its data sheet says, and what was measured of it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from scaling.design.recipes import PositiveInt, Section

PositiveFloat = Annotated[float, Field(gt=0)]
DEFAULT_PRECISIONS = ("bf16", "fp16", "fp32")


class Efficiency(Section):
    """Shares of the data sheet's rates that training reaches, and how well they are known."""

    products: Annotated[float, Field(gt=0, le=2, description="share of peak in matrix products")]
    attention: Annotated[float, Field(gt=0, le=2, description="share of peak in attention scores")]
    scan: Annotated[float, Field(gt=0, le=2, description="share of peak in scan and convolution")]
    bandwidth: Annotated[float, Field(gt=0, le=2, description="share of memory bandwidth")]
    step_overhead_seconds: Annotated[PositiveFloat, Field(description="per forward and backward pass")]
    uncertainty: Annotated[
        PositiveFloat | None, Field(description="standard deviation of the log of all shares together")
    ] = None
    covariance: Annotated[
        tuple[tuple[float, float, float, float, float], ...] | None,
        Field(min_length=5, max_length=5, description="of the logs of the five constants, in this order"),
    ] = None
    source: str

    @model_validator(mode="after")
    def _says_how_well_it_is_known(self) -> "Efficiency":
        if (self.uncertainty is None) == (self.covariance is None):
            raise ValueError("give one of uncertainty and covariance")
        return self


class Hardware(Section):
    """One device type; rates are per device, dense, and in SI units."""

    name: str = ""
    """Filled in from the name of the table."""
    description: str = ""
    source: str = ""
    memory_bytes: Annotated[PositiveInt, Field(description="what a program can allocate")]
    peak_flops: Annotated[dict[Literal["fp32", "bf16", "fp16"], PositiveFloat], Field(min_length=1)]
    bandwidth_bytes_per_second: PositiveFloat
    node_size: PositiveInt = 8
    link_bytes_per_second: Annotated[PositiveFloat, Field(description="per device and direction, within a node")]
    network_bytes_per_second: Annotated[PositiveFloat, Field(description="per device and direction, between nodes")]
    power_watts: Annotated[PositiveFloat, Field(description="of the board, at its limit")]
    torch_names: tuple[str, ...] = ()
    efficiency: Efficiency | None = None

    @field_validator("peak_flops", "bandwidth_bytes_per_second", "memory_bytes")
    @classmethod
    def _is_in_si_units(cls, value: object) -> object:
        """A peak of 312 or a memory of 80 was meant in tera or giga."""
        smallest = min(value.values()) if isinstance(value, dict) else value
        if isinstance(smallest, int | float) and smallest < 1e6:
            raise ValueError(
                f"{smallest:g} is too small; write FLOP/s, bytes/s and bytes, such as 312e12 or 85_000_000_000"
            )
        return value

    @property
    def default_precision(self) -> str:
        """The first of bf16, fp16 and fp32 that the device has a rate for."""
        return next(precision for precision in DEFAULT_PRECISIONS if precision in self.peak_flops)
