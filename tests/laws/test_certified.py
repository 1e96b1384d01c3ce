"""NIST's certified nonlinear regressions whose models are power laws or close to them (StRD, public domain)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.laws import Law, Options, Parameter, fit_points, gather
from scaling.laws.fitting import standard_errors

LINEAR = Options(residual="linear", intervals="none")
STARTS = tuple(map(float, np.geomspace(1e-3, 10, 41)))


class Misra(Law):
    """A b-fold law of the Misra sets, as a user would write one: b1 phi(b2 x)."""

    symbols, source = ("x",), "NIST StRD"
    linear, shape, owners = (Parameter("b1", "scale"),), (Parameter("b2", "rate", 0.0, 1e3, STARTS),), (0,)

    def reported(self, values: np.ndarray, units: np.ndarray, unit: float) -> np.ndarray:
        return values * np.array([unit, 1 / units[0]])


class Misra1b(Misra):
    name, formula, latex = "Misra1b", "b1 * (1 - (1 + b2 x / 2)^-2)", "{b1}{b2}{x}"

    def terms(self, scales: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, rate = scales[..., 0, :], shape
        return (1 - (1 + rate * x / 2) ** -2)[..., None], (x * (1 + rate * x / 2) ** -3)[..., None]


class Misra1c(Misra):
    name, formula, latex = "Misra1c", "b1 * (1 - (1 + 2 b2 x)^-0.5)", "{b1}{b2}{x}"

    def terms(self, scales: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, rate = scales[..., 0, :], shape
        return (1 - (1 + 2 * rate * x) ** -0.5)[..., None], (x * (1 + 2 * rate * x) ** -1.5)[..., None]


class Misra1d(Misra):
    name, formula, latex = "Misra1d", "b1 * b2 x / (1 + b2 x)", "{b1}{b2}{x}"

    def terms(self, scales: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, rate = scales[..., 0, :], shape
        return (rate * x / (1 + rate * x))[..., None], (x / (1 + rate * x) ** 2)[..., None]


MISRA_X = [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0]
MISRA_Y = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78]
MISRA = [
    (Misra1b(), [3.3799746163e02, 3.9039091287e-04], [3.1643950207e00, 4.2547321834e-06], 7.5464681533e-02),
    (Misra1c(), [6.3642725809e02, 2.0813627256e-04], [4.6638326572e00, 1.7728423155e-06], 4.0966836971e-02),
    (Misra1d(), [4.3736970754e02, 3.0227324449e-04], [3.6489174345e00, 2.9334354479e-06], 5.6419295283e-02),
]


@pytest.mark.parametrize(
    ("law", "values", "deviations", "squares"), MISRA, ids=lambda value: getattr(value, "name", "")
)
def test_misra(law: Law, values: list[float], deviations: list[float], squares: float) -> None:
    """Power-like laws with fixed exponents; each is a law of a user's own."""
    fitted = fit_points(gather(MISRA_X, MISRA_Y, signed=True), law, LINEAR)
    assert list(fitted.estimates) == pytest.approx(values, rel=1e-6)
    assert list(standard_errors(fitted)) == pytest.approx(deviations, rel=1e-4)
    assert 2 * fitted.objective * fitted.unit**2 == pytest.approx(squares, rel=1e-6)


def test_danwood_is_a_power_law() -> None:
    x = [1.309, 1.471, 1.490, 1.565, 1.611, 1.680]
    y = [2.138, 3.421, 3.597, 4.340, 4.882, 5.660]
    fitted = fit_points(gather(x, y), "power", LINEAR)
    assert list(fitted.estimates) == pytest.approx([7.6886226176e-01, 3.8604055871e00], rel=1e-6)
    assert list(standard_errors(fitted)) == pytest.approx([1.8281973860e-02, 5.1726610913e-02], rel=1e-4)
    assert 2 * fitted.objective * fitted.unit**2 == pytest.approx(4.3173084083e-03, rel=1e-6)


def test_bennett5_is_a_shifted_power_law() -> None:
    data = pd.read_csv(Path(__file__).parent / "data" / "bennett5.csv")
    assert len(data) == 154
    bounds = {"E": (0.0, 0.0), "A": (-np.inf, np.inf)}
    options = Options(residual="linear", intervals="none", bounds=bounds)
    fitted = fit_points(gather(data["x"], data["y"], signed=True), "shifted", options)
    _, A, b, c = fitted.estimates
    _, A_error, b_error, c_error = standard_errors(fitted)
    assert [A, c, -1 / b] == pytest.approx([-2.5235058043e03, 4.6736564644e01, 9.3218483193e-01], rel=1e-6)
    deviations = [2.9715175411e02, 1.2448871856e00, 2.0272299378e-02]
    assert [A_error, c_error, b_error / b**2] == pytest.approx(deviations, rel=1e-4)
