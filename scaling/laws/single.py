"""Laws of one scale. In their formulas x is the scale; its losses may fall or rise with it."""

from itertools import product

import numpy as np

from scaling.laws.law import Array, Law, Parameter, log_powers

EXPONENT = 8.0
"""Largest exponent that is searched."""
FLOOR = Parameter("E", "irreducible loss", 0.0)
AMPLITUDE = Parameter("A", "reducible loss at x = 1", 0.0, amplitude=True)


def _grid(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(map(float, np.linspace(low, high, count)))


def _power(name: str = "b") -> Parameter:
    return Parameter(name, "exponent", -EXPONENT, EXPONENT, _grid(-EXPONENT, EXPONENT, 161))


class Power(Law):
    """A straight line on log-log axes."""

    name, formula, latex = "power", "A * x^b", r"{A}\,{x}^{{{b}}}"
    source = "Hestness et al. 2017; M1 of Alabdulmohsin et al. 2022"
    linear, shape, owners = (AMPLITUDE,), (_power(),), (0,)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """x^b."""
        power, log_x = log_powers(scales, shape[:, 0])
        return power[..., None], (power * log_x)[..., None]

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """A in the units of y and x."""
        A, b = values.T
        return np.stack([A * unit * units[0] ** -b, b], axis=1)


class Saturating(Law):
    """A power law that bends towards an irreducible loss."""

    name, formula, latex = "saturating", "E + A * x^b", r"{E} + {A}\,{x}^{{{b}}}"
    source = "Zhai et al. 2022; M2 of Alabdulmohsin et al. 2022; the paper's Figure 1"
    linear, shape, owners = (FLOOR, AMPLITUDE), (_power(),), (1,)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and x^b."""
        power, log_x = log_powers(scales, shape[:, 0])
        return np.stack([np.ones_like(power), power], axis=2), (power * log_x)[..., None]

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """E in the unit of y, A in those of y and x."""
        E, A, b = values.T
        return np.stack([E * unit, A * unit * units[0] ** -b, b], axis=1)


class Shifted(Law):
    """A saturating law whose scale starts before zero: a loss that is finite at x = 0."""

    name, formula, latex = "shifted", "E + A * (x + c)^b", r"{E} + {A}\,({x} + {c})^{{{b}}}"
    source = "Anagnostidis et al. 2024 (loss against compute at one patch size)"
    linear = (FLOOR, AMPLITUDE)
    shape = (
        Parameter("b", "exponent", -EXPONENT, EXPONENT, _grid(-6, 6, 49)),
        Parameter("c", "shift of x", 0.0, np.inf, (0.0, *map(float, np.geomspace(0.01, 100, 13)))),
    )
    owners = (1, 1)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and (x + c)^b."""
        b, c = shape.T[:, :, None]
        moved = scales[..., 0, :] + c
        log_x = np.log(moved)
        power = np.exp(b * log_x)
        slopes = np.stack([power * log_x, power * b / moved], axis=2)
        return np.stack([np.ones_like(power), power], axis=2), slopes

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """E in the unit of y, A in those of y and x, c in that of x."""
        E, A, b, c = values.T
        return np.stack([E * unit, A * unit * units[0] ** -b, b, c * units[0]], axis=1)


class Bounded(Law):
    """A power law of 1/x + c: it levels off at a floor, as c says."""

    name, formula, latex = "M3", "A * (1/x + c)^b", r"{A}\,(1/{x} + {c})^{{{b}}}"
    source = "M3 of Alabdulmohsin et al. 2022"
    linear = (AMPLITUDE,)
    shape = (
        Parameter("b", "exponent", -EXPONENT, EXPONENT, _grid(-6, 6, 49)),
        Parameter("c", "1/x at which it levels off", 0.0, np.inf, (0.0, *map(float, np.geomspace(1e-3, 100, 21)))),
    )
    owners = (0, 0)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """(1/x + c)^b."""
        b, c = shape.T[:, :, None]
        moved = 1 / scales[..., 0, :] + c
        log_x = np.log(moved)
        power = np.exp(b * log_x)
        return power[..., None], np.stack([power * log_x, power * b / moved], axis=2)

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """A in the units of y and x, c in that of 1/x."""
        A, b, c = values.T
        return np.stack([A * unit * units[0] ** b, b, c / units[0]], axis=1)


class Sigmoid(Law):
    """Between a chance level, where nothing is learned, and a floor: (y - E) / (E0 - y)^a = B x^b.

    Fitted as y = E + (E0 - E) s, where s / (1 - s)^a = exp(g) x^b.
    """

    name, formula = "M4", "(y - E) / (E0 - y)^a = B * x^b"
    latex = r"{E} + \ldots\;\left(\frac{{L - {E}}}{{({E0} - L)^{{{a}}}}} = {B}\,{x}^{{{b}}}\right)"
    source = "M4 of Alabdulmohsin et al. 2022"
    linear = (FLOOR, Parameter("E0", "chance level", 0.0))
    shape = (
        Parameter("a", "sharpness of the bend at chance level", 0.0, 6.0, (0.0, 0.5, 1.0, 2.0, 4.0)),
        Parameter("B", "reducible loss at x = 1", -40.0, 40.0, _grid(-5, 4, 13), amplitude=True),
        Parameter(
            "b", "exponent", -EXPONENT, EXPONENT, (-4, -2, -1, -0.7, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.7, 1, 2, 4)
        ),
    )
    owners = (1, 1, 1)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and s(x)."""
        a, g, b = shape.T[:, :, None]
        log_x = np.log(scales[..., 0, :])
        s, log_rest = _solve_sigmoid(g + b * log_x, a)
        # d(log s) = (du + log(1 - s) da) / (1 + a s / (1 - s)), with u = g + b log x.
        slope = s / (1 + a * s / np.exp(log_rest))
        slopes = np.stack([slope * log_rest, slope, slope * log_x], axis=2)
        return np.stack([np.ones_like(s), s], axis=2), slopes

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """E and E0 in the unit of y, B in those of y and x."""
        E, span, a, g, b = values.T
        with np.errstate(divide="ignore", invalid="ignore"):
            B = np.exp(g) * (span * unit) ** (1 - a) * units[0] ** -b
        return np.stack([E * unit, (E + span) * unit, a, B, b], axis=1)


def _solve_sigmoid(u: Array, a: Array) -> tuple[Array, Array]:
    """The s in (0, 1) with log s - a log(1 - s) = u, and log(1 - s).

    Newton's method on t = logit s, where the left side is convex and between slopes 1 and a.
    """
    t = np.where(u < 0, u, u / np.maximum(a, 0.05))
    t = np.minimum(t, 40.0)
    for _ in range(24):
        log_s, log_rest = -np.logaddexp(0, -t), -np.logaddexp(0, t)
        s = np.exp(log_s)
        step = (log_s - a * log_rest - u) / ((1 - s) + a * s + 1e-12)
        t = np.clip(t - np.clip(step, -4, 4), -700, 40)
        if np.max(np.abs(step)) < 1e-12:
            break
    return np.exp(-np.logaddexp(0, -t)), -np.logaddexp(0, t)


class Broken(Law):
    """Two power laws with a smooth break at d: exponent b before it, b + c after it."""

    name, formula = "broken", "E + A * x^b * (1 + (x/d)^(1/f))^(c f)"
    latex = r"{E} + {A}\,{x}^{{{b}}}\,\bigl(1 + ({x}/{d})^{{1/{f}}}\bigr)^{{{c} \cdot {f}}}"
    source = "Caballero et al. 2023, one break"
    linear = (FLOOR, AMPLITUDE)
    shape = (
        Parameter(
            "b", "exponent before the break", -4.0, 4.0, (-1.5, -0.7, -0.35, -0.15, -0.03, 0.03, 0.15, 0.35, 0.7, 1.5)
        ),
        Parameter("c", "what the break adds to the exponent", -4.0, 4.0, (-2.0, -1.0, -0.5, -0.2, 0.2, 0.5, 1.0, 2.0)),
        Parameter("d", "x of the break", amplitude=True),
        Parameter("f", "width of the break, in logarithms of x", 0.05, 3.0, (0.1, 0.4, 1.2)),
    )
    owners = (1, 1, 1, 1)

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and the broken power."""
        b, c, log_d, f = shape.T[:, :, None]
        log_x = np.log(scales[..., 0, :])
        u = (log_x - log_d) / f
        bend = np.logaddexp(0, u)
        power = np.exp(b * log_x + c * f * bend)
        after = np.exp(u - bend)  # share of the way through the break
        slopes = [power * log_x, power * f * bend, -power * c * after, power * c * (bend - u * after)]
        return np.stack([np.ones_like(power), power], axis=2), np.stack(slopes, axis=2)

    def start_grid(self, scales: Array) -> tuple[Array, tuple[int, ...]]:
        """Breaks are sought inside the range of the data."""
        log_x = np.log(scales[0])
        breaks = np.linspace(log_x.min(), log_x.max(), 10)[1:-1]
        values = [breaks if part.name == "d" else part.starts for part in self.shape]
        return np.array(list(product(*values))), tuple(map(len, values))

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """E in the unit of y, A in those of y and x, d in that of x."""
        E, A, b, c, log_d, f = values.T
        return np.stack([E * unit, A * unit * units[0] ** -b, b, c, np.exp(log_d) * units[0], f], axis=1)


class LogLinear(Law):
    """A straight line against log x: what a power law with a small exponent looks like."""

    name, formula, latex = "log-linear", "a + b * log(x)", r"{a} + {b}\,\log {x}"
    source = "the limit of a power law for small exponents"
    linear = (Parameter("a", "loss at x = 1"), Parameter("b", "change per factor e of x"))
    shape, owners = (), ()

    def terms(self, scales: Array, shape: Array) -> tuple[Array, Array]:
        """1 and log x."""
        log_x = np.log(scales[..., 0, :])
        log_x = np.broadcast_to(log_x, (len(shape), log_x.shape[-1]))
        return np.stack([np.ones_like(log_x), log_x], axis=2), np.empty((*log_x.shape, 0))

    def reported(self, values: Array, units: Array, unit: float) -> Array:
        """Both in the unit of y."""
        a, b = values.T
        return np.stack([(a - b * np.log(units[0])) * unit, b * unit], axis=1)
