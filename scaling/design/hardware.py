"""A device that designs are trained on: what its data sheet says, and what was measured of it."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from scaling.design.recipes import Precision
from scaling.design.sections import PositiveInt, Section

PositiveFloat = Annotated[float, Field(gt=0)]
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")


class Efficiency(Section):
    """Shares of the data sheet's rates that training reaches, and how well they are known."""

    products: Annotated[float, Field(gt=0, le=2, description="share of peak in matrix products")]
    attention: Annotated[float, Field(gt=0, le=2, description="share of peak in attention scores")]
    scan: Annotated[float, Field(gt=0, le=2, description="share of peak in scan and convolution")]
    bandwidth: Annotated[float, Field(gt=0, le=2, description="share of memory bandwidth")]
    step_overhead_seconds: Annotated[PositiveFloat, Field(description="per forward and backward pass")]
    network: Annotated[float, Field(gt=0, le=2, description="share of the rates between devices")] = 0.7
    uncertainty: Annotated[
        float | None, Field(gt=0, le=2, description="standard deviation of the log of all shares together")
    ] = None
    covariance: Annotated[
        tuple[tuple[float, ...], ...] | None, Field(description="of the logs of the six constants, in this order")
    ] = None
    source: str

    @model_validator(mode="after")
    def _says_how_well_it_is_known(self) -> "Efficiency":
        if (self.uncertainty is None) == (self.covariance is None):
            raise ValueError("give one of uncertainty and covariance")
        if self.covariance is not None and not _is_covariance(self.covariance, size=6):
            raise ValueError("covariance: not a symmetric positive definite matrix of 6 by 6")
        return self


class Hardware(Section):
    """One device type; rates are per device, dense, and in SI units."""

    name: str = ""
    """Filled in from the name of the table."""
    description: str = ""
    source: str = ""
    memory_bytes: Annotated[PositiveInt, Field(description="what a program can allocate")]
    peak_flops: Annotated[dict[Precision, PositiveFloat], Field(min_length=1)]
    bandwidth_bytes_per_second: PositiveFloat
    node_size: PositiveInt = 8
    link_bytes_per_second: Annotated[PositiveFloat, Field(description="per device and direction, within a node")]
    network_bytes_per_second: Annotated[PositiveFloat, Field(description="per device and direction, between nodes")]
    power_watts: Annotated[PositiveFloat, Field(description="of the board, at its limit")]
    torch_names: tuple[str, ...] = ()
    efficiency: Efficiency | None = None

    @field_validator(
        "peak_flops",
        "memory_bytes",
        "bandwidth_bytes_per_second",
        "link_bytes_per_second",
        "network_bytes_per_second",
    )
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
    def default_precision(self) -> Precision:
        """The first of bf16, fp16 and fp32 that the device has a rate for."""
        return next(precision for precision in DEFAULT_PRECISIONS if precision in self.peak_flops)


def _is_covariance(matrix: tuple[tuple[float, ...], ...], size: int) -> bool:
    """Whether a matrix is symmetric and has a Cholesky factor; numpy would cost each start-up its import."""
    if len(matrix) != size or any(len(row) != size for row in matrix):
        return False
    factor = [[0.0] * size for _ in range(size)]
    for row in range(size):
        for column in range(row + 1):
            if matrix[row][column] != matrix[column][row]:
                return False
            rest = matrix[row][column] - sum(factor[row][k] * factor[column][k] for k in range(column))
            if row == column and rest <= 0:
                return False
            factor[row][column] = rest**0.5 if row == column else rest / factor[column][column]
    return True
