"""Laws of several scales at once: model size N, patch size p, input size R, data D."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.law import Array, Law, Parameter
from scaling.laws.single import FLOOR

STEEPEST = 4.0
STARTS = tuple(float(value) for value in np.linspace(0.05, 1.65, 17))
FEW_STARTS = (0.1, 0.2, 0.35, 0.55, 0.8, 1.1, 1.5)


@dataclass(frozen=True, slots=True)
class Term:
    """A x^(sign exponent): one scale's share of the reducible loss."""

    amplitude: str
    symbol: str
    exponent: str
    sign: int

    @property
    def formula(self) -> str:
        """Such as 'A * N^-alpha'."""
        return f"{self.amplitude} * {self.symbol}^{'-' if self.sign < 0 else ''}{self.exponent}"

    @property
    def latex(self) -> str:
        """The same in LaTeX, to be formatted."""
        sign = "-" if self.sign < 0 else ""
        return f"{{{self.amplitude}}}\\,{{{self.symbol}}}^{{{{{sign}{{{self.exponent}}}}}}}"


MODEL = Term("A", "N", "alpha", -1)
PATCH = Term("B", "p", "beta", 1)
INPUT = Term("C", "R", "gamma", -1)
DATA = Term("B", "D", "beta", -1)


def _amplitude(term: Term) -> Parameter:
    return Parameter(term.amplitude, f"reducible loss at {term.symbol} = 1", 0.0, amplitude=True)


def _exponent(name: str, starts: Sequence[float] = STARTS) -> Parameter:
    return Parameter(name, "exponent", 0.0, STEEPEST, tuple(starts))


class Additive(Law):
    """A floor and one power law per scale: each scale has its own bottleneck."""

    parts: tuple[Term, ...]

    def __init_subclass__(cls) -> None:
        cls.symbols = tuple(part.symbol for part in cls.parts)
        cls.formula = " + ".join(["E", *(part.formula for part in cls.parts)])
        cls.latex = " + ".join(["{E}", *(part.latex for part in cls.parts)])
        cls.linear = (FLOOR, *map(_amplitude, cls.parts))
        starts = STARTS if len(cls.parts) < 3 else FEW_STARTS
        cls.shape = tuple(_exponent(part.exponent, starts) for part in cls.parts)
        cls.owners = tuple(range(1, 1 + len(cls.parts)))

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and a power of each scale."""
        signs = np.array([part.sign for part in self.parts])
        logs = np.log(scales) * signs[:, None]
        exponents = np.moveaxis(np.exp(shape[:, :, None] * logs), 1, 2)
        ones = np.ones((*exponents.shape[:2], 1))
        return np.concatenate([ones, exponents], axis=2), exponents * np.moveaxis(logs, -2, -1)

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """Amplitudes at one of each scale."""
        count = len(self.parts)
        E, amplitudes, exponents = values[:, :1], values[:, 1 : 1 + count], values[:, 1 + count :]
        signs = np.array([part.sign for part in self.parts])
        return np.concatenate([E * unit, amplitudes * unit * units ** (-signs * exponents), exponents], axis=1)


class ModelAndPatch(Additive):
    """Model size and patch size, each with its own bottleneck."""

    name, source, parts = "additive", "the form of Hoffmann et al. 2022, with patch size for data", (MODEL, PATCH)


class ModelPatchAndInput(Additive):
    """Model size, patch size and input size, each with its own bottleneck."""

    name, source, parts = "additive-3", "the same with input size", (MODEL, PATCH, INPUT)


class Chinchilla(Additive):
    """Parameters and training data (tokens, or images seen)."""

    name, source, parts = "chinchilla", "Hoffmann et al. 2022, equation 2", (MODEL, DATA)


class Interaction(Law):
    """Additive inside a power: at k below 1 one bottleneck hides part of the other."""

    name, formula = "interaction", "E + (A * N^-alpha + B * p^beta)^k"
    latex = r"{E} + \bigl({A}\,{N}^{{-{alpha}}} + {B}\,{p}^{{{beta}}}\bigr)^{{{k}}}"
    source = "additive with an interaction, after Kaplan et al. 2020, equation 1.5"
    symbols = ("N", "p")
    linear = (FLOOR, Parameter("A", "reducible loss at N = 1", 0.0, amplitude=True))
    shape = (
        Parameter("B", "reducible loss at p = 1", -30.0, 30.0, (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0), True),
        _exponent("alpha", FEW_STARTS),
        _exponent("beta", FEW_STARTS),
        Parameter("k", "interaction; 1 is additive", 0.1, 4.0, (0.3, 0.6, 1.0, 1.7)),
    )
    owners = (1, 1, 1, 1)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and (N^-alpha + exp(r) p^beta)^k; inside a fit B is r, the logarithm of B / A."""
        r, alpha, beta, k = shape.T[:, :, None]
        log_N, log_p = np.moveaxis(np.log(scales), -2, 0)
        model, patch = -alpha * log_N, r + beta * log_p
        log_sum = np.logaddexp(model, patch)
        power, share = np.exp(k * log_sum), np.exp(patch - log_sum)
        slopes = [k * share, -k * (1 - share) * log_N, k * share * log_p, log_sum]
        return np.stack([np.ones_like(power), power], axis=2), power[..., None] * np.stack(slopes, axis=2)

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """A and B inside the power, at one of each scale."""
        E, A, r, alpha, beta, k = values.T
        inner = (A * unit) ** (1 / k)
        found = [E * unit, inner * units[0] ** alpha, inner * np.exp(r) * units[1] ** -beta, alpha, beta, k]
        return np.stack(found, axis=1)


class Multiplicative(Law):
    """A floor and one product: a smaller patch gains the same share at every model size."""

    name, formula = "multiplicative", "E + A * N^-alpha * p^beta"
    latex = r"{E} + {A}\,{N}^{{-{alpha}}}\,{p}^{{{beta}}}"
    source = "separable power law"
    symbols = ("N", "p")
    linear = (FLOOR, Parameter("A", "reducible loss at N = p = 1", 0.0, amplitude=True))
    shape, owners = (_exponent("alpha", (0.0, *STARTS)), _exponent("beta", (0.0, *STARTS))), (1, 1)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and the product."""
        alpha, beta = shape.T[:, :, None]
        log_N, log_p = np.moveaxis(np.log(scales), -2, 0)
        power = np.exp(beta * log_p - alpha * log_N)
        return np.stack([np.ones_like(power), power], axis=2), np.stack([-power * log_N, power * log_p], axis=2)

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """A at N = p = 1."""
        E, A, alpha, beta = values.T
        return np.stack([E * unit, A * unit * units[0] ** alpha * units[1] ** -beta, alpha, beta], axis=1)


class DataLimited(Law):
    """Chinchilla's law with data that are seen again: D tokens or images from U different ones."""

    name = "data-limited"
    formula = "E + A * N^-alpha + B * D'^-beta, D' = U + U * r * (1 - exp(-(D/U - 1) / r))"
    latex = (
        r"{E} + {A}\,{N}^{{-{alpha}}} + {B}\,{D}'^{{-{beta}}},\; {D}' = {U}\,(1 + {r}\,(1 - e^{{(1 - {D}/{U})/{r}}}))"
    )
    source = "Muennighoff et al. 2023, equation 6 (effective data; parameters are not discounted)"
    symbols = ("N", "D", "U")
    linear = (FLOOR, _amplitude(MODEL), _amplitude(DATA))
    shape = (
        _exponent("alpha", FEW_STARTS),
        _exponent("beta", FEW_STARTS),
        Parameter("r", "epochs after which repeated data are worth little", 0.1, 1e3, (1.0, 4.0, 15.0, 60.0)),
    )
    owners = (1, 2, 2)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1, N^-alpha and D'^-beta. A fit divides D and U by one unit, so D / U is that of the data."""
        alpha, beta, r = shape.T[:, :, None]
        N, D, U = np.moveaxis(scales, -2, 0)
        again = np.maximum(D / U - 1, 0)
        kept = np.exp(-again / r)
        worth = np.where(again > 0, 1 + r * (1 - kept), D / U)
        log_N, log_data = np.log(N), np.log(U * worth)
        model, data = np.exp(-alpha * log_N), np.exp(-beta * log_data)
        dworth = np.where(again > 0, 1 - kept - kept * again / r, 0)
        slopes = [-model * log_N, -data * log_data, -beta * data * dworth / worth]
        ones = np.ones(np.broadcast_shapes(model.shape, data.shape))
        return np.stack([ones, model, data], axis=2), np.stack(slopes, axis=2)

    def units(self, scales: Array) -> Array:
        """D and U keep their ratio."""
        model, data, _ = super().units(scales)
        return np.array([model, data, data])

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """Amplitudes at one of each scale."""
        E, A, B, alpha, beta, r = values.T
        found = [E * unit, A * unit * units[0] ** alpha, B * unit * units[1] ** beta, alpha, beta, r]
        return np.stack(found, axis=1)
