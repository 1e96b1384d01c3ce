"""Every law: derivatives, units, inverses and words."""

import numpy as np
import pytest

from scaling.errors import UsageError
from scaling.laws import LAWS, FitError, Law, find_law, fit_points, gather
from scaling.laws.results import FitResult

ALL = [pytest.param(law, id=name) for name, law in LAWS.items()]


def example(law: Law, seed: int = 0, points: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Scales (S, N) and three parameter vectors in the middle of their ranges."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(size=(len(law.symbols), points)))
    grid, _ = law.start_grid(scales)
    shapes = grid[rng.integers(len(grid), size=3)] * 0.97 + 0.013 if law.shape else np.zeros((3, 0))
    return scales, np.concatenate([rng.uniform(0.5, 1.5, (3, len(law.linear))), shapes], axis=1)


@pytest.mark.parametrize("law", ALL)
def test_gradients_are_differences(law: Law) -> None:
    scales, values = example(law)
    losses, gradient = law.gradient(scales, values)
    np.testing.assert_allclose(losses, law.predict(scales, values))
    for place in range(values.shape[1]):
        step = 1e-6 * np.eye(values.shape[1])[place]
        difference = (law.predict(scales, values + step) - law.predict(scales, values - step)) / 2e-6
        np.testing.assert_allclose(gradient[..., place], difference, rtol=1e-4, atol=1e-6 * np.abs(losses).max())


@pytest.mark.parametrize("law", ALL)
def test_reported_parameters_are_those_of_the_formula(law: Law) -> None:
    """Fitted in other units, a law says the same of the data."""
    scales, values = example(law)
    units, unit = np.exp(np.random.default_rng(1).normal(size=len(scales))), 3.7
    units = np.array([units[0], units[1], units[1]]) if law.name == "data-limited" else units
    reported = law.reported(values, units, unit)
    for row, losses in zip(reported, law.predict(scales, values) * unit, strict=True):
        names = dict(zip(law.names, row, strict=True))
        np.testing.assert_allclose(by_formula(law, scales * units[:, None], names, losses), losses, rtol=1e-9)


def by_formula(law: Law, scales: np.ndarray, values: dict[str, float], losses: np.ndarray) -> np.ndarray:
    """The formula, evaluated as it is printed."""
    names = dict(zip(law.symbols, scales, strict=True)) | values | {"log": np.log, "exp": np.exp}
    formula = law.formula.replace("^", "**").replace("c f", "c*f")
    if law.name == "M4":  # (y - E) / (E0 - y)^a = B x^b
        left = (losses - values["E"]) / (values["E0"] - losses) ** values["a"]
        np.testing.assert_allclose(left, values["B"] * scales[0] ** values["b"], rtol=1e-6)
        return losses
    if law.name == "data-limited":
        law_part, effective = formula.split(", D' = ")
        names["Dp"] = np.where(names["D"] > names["U"], eval(effective, {}, names), names["D"])
        return eval(law_part.replace("D'", "Dp"), {}, names)
    return eval(formula, {}, names)


@pytest.mark.parametrize("name", ["power", "saturating", "shifted", "M3", "M4", "broken", "log-linear"])
def test_inverses_lead_back(name: str) -> None:
    x = np.geomspace(1, 1000, 24)
    fitted = fit_points(gather(x, 0.3 + 2 * (x + 2) ** -0.4), name)
    result = FitResult(fitted, ("x",), "loss", {}, ())
    for loss in (float(result.predict(3.0)[0]), float(result.predict(500.0)[0])):
        assert result.predict(result.inverse(loss)) == pytest.approx(loss, rel=1e-6)
    with pytest.raises(FitError, match="reaches loss = -5 nowhere"):
        result.inverse(-5.0)


def test_inverse_of_a_law_of_two_scales() -> None:
    N, D = (side.ravel() for side in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    loss = 1.7 + 400 * N**-0.34 + 2000 * D**-0.37
    result = FitResult(fit_points(gather([N, D], loss), "chinchilla"), ("N", "D"), "loss", {}, ())
    D_needed = result.inverse(2.5, N=3e8)
    assert float(result.predict([[3e8], [D_needed]])[0]) == pytest.approx(2.5, rel=1e-6)
    with pytest.raises(UsageError, match="all but one of N, D"):
        result.inverse(2.5)


@pytest.mark.parametrize("law", ALL)
def test_laws_say_what_they_are(law: Law) -> None:
    values = dict.fromkeys(law.names, 1.5e-9)
    assert "1.5e-09" in law.text(values)
    assert r"1.5{\times}10^{-9}" in law.to_latex(values)
    assert law.source
    assert all(parameter.meaning for parameter in law.parameters)


def test_unknown_laws_are_named() -> None:
    with pytest.raises(UsageError, match="unknown law 'saturatin': did you mean 'saturating'"):
        find_law("saturatin")
